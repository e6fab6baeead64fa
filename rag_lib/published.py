"""What `results/tables` has of a study, and which command computes what is missing. Nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rag_lib.config import Settings
from rag_lib.jobs import ids_of
from rag_lib.paths import results_dir
from rag_lib.plans import command
from rag_lib.study import TABLES, settings_for


def rows(studies: Sequence[Settings]) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """What the tables under `results/tables` have of these studies: of the classifiers, of the generators.

    Last, how many of their runs are missing there. Nothing is computed.
    """
    missing, tables = 0, []
    for kind, ids in ids_of(studies).items():
        path = results_dir() / "tables" / f"{TABLES[kind]}.csv"
        table = pd.read_csv(path) if path.exists() else pd.DataFrame({"run_id": []})
        found = table[table["run_id"].isin(ids)]
        # in the order of the studies, not of the ids
        tables.append(found.sort_values("run_id", key=lambda s, ids=ids: s.map(ids.index), ignore_index=True))
        missing += len(ids) - len(found)
    return tables[0], tables[1], missing


def provenance(ids: pd.Series) -> pd.DataFrame:
    """Commit, versions, device, threads and seconds of these published runs of classifiers, a row a run."""
    table = pd.read_csv(results_dir() / "tables" / f"{TABLES['classifier']}_provenance.csv")
    return table[table["run_id"].isin(ids)]


def completeness(table: pd.DataFrame, missing: int, command: str) -> str:
    """How many runs a published table has of a study, which command computes them, where and how long it took.

    Runs that are published with another study, too, count in both.
    """
    lines = [f"{len(table)} runs of classifiers: {command}"]
    if len(table):
        of_runs = provenance(table["run_id"])
        commits = of_runs["commit"].str.split(", then ").explode()  # of runs that went on in another one, both
        short = commits.str.replace(r"([0-9a-f]{7})[0-9a-f]{33}", r"\1", regex=True)  # "+changes" stays
        devices = ", ".join(sorted(of_runs["device"].unique()))
        threads = ", ".join(map(str, sorted(of_runs["threads"].unique())))
        lines += [
            f"  {of_runs['seconds'].sum() / 60:,.0f} minutes without the GANs on {devices}, threads {threads}; "
            f"torch {', '.join(sorted(of_runs['torch'].unique()))}; commits {', '.join(sorted(short.unique()))}"
        ]
    if missing:
        lines.append(f"  {missing} more {'run is' if missing == 1 else 'runs are'} not published")
    return "\n".join(lines)


def by_classifier(wanted: Mapping[str, tuple[int, int]], **parameters: Any) -> tuple[pd.DataFrame, str]:
    """What is published of the study of `settings_for(**parameters)` with each of these classifiers.

    `wanted`: how many replicates and seeds of each. The text is `completeness` of each.
    """
    parts, lines = [], []
    for classifier, (n, seeds) in wanted.items():
        overrides = parameters.get("overrides", {}) | {"classifiers": {classifier: seeds}}
        part = parameters | {"replicates": n, "overrides": overrides}
        found, _, missing = rows([settings_for(**part)])
        parts.append(found)
        lines.append(completeness(found, missing, command("classify", **part)))
    return pd.concat(parts), "\n".join(lines)
