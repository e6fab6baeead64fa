"""The published studies by name: what results/studies.toml asks, and what the tables have of it, which is read only."""

import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from rag_lib.analysis.statistics import contrasts
from rag_lib.base import ROOT, UserError, check_value, results_dir
from rag_lib.runtime.files import read_table
from rag_lib.settings.config import Settings
from rag_lib.study.conduct import TABLES
from rag_lib.study.designs import DESIGNS, by_level
from rag_lib.study.plan import ids_of
from rag_lib.study.resolve import resolve

REGISTRY = ROOT / "results" / "studies.toml"
BY = ["classifier", "data.n_real"]  # whose groups every question is asked of


@dataclass(frozen=True)
class Study:
    """One entry of the registry, and its rows in the published tables."""

    name: str
    question: str
    asked: str  # when, and what had been seen by then
    design: str
    compare: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def levels(self, make: Callable[..., Settings] = resolve) -> dict[tuple, Settings]:
        """Return the study's parts as settings; `make` takes the parameters of `resolve`."""
        try:
            return DESIGNS[self.design](make=make, **self.parameters)
        except UserError as e:
            raise UserError(f"[{self.name}] in {REGISTRY}: {e}") from e

    @cached_property
    def settings(self) -> list[Settings]:
        return list(dict.fromkeys(self.levels().values()))

    @cached_property
    def ids(self) -> dict[str, list[str]]:
        return ids_of(self.settings)

    @property
    def rows(self) -> pd.DataFrame:
        """Its rows of classify.csv in the study's order; of an ablation by `factor` and `level`."""
        return self._rows("classifier")

    @property
    def quality(self) -> pd.DataFrame:
        """Its rows of quality.csv, likewise."""
        return self._rows("quality")

    @property
    def on_the_way(self) -> pd.DataFrame:
        """Its rows with the accuracies that its classifiers had after `step` steps (`MILESTONES`), a row a step."""
        return self.rows.drop(columns=["val_accuracy", "test_accuracy"]).merge(table("milestones"), on="run_id")

    @property
    def gan_history(self) -> pd.DataFrame:
        """The histories of its GANs, as far as there are any."""
        found = table("gan_history")
        return found[found["run_id"].isin(self.quality["gan_run"])]

    @property
    def missing(self) -> int:
        """How many of its runs no published table has."""
        return sum(len(set(ids) - set(table(TABLES[kind])["run_id"])) for kind, ids in self.ids.items())

    @property
    def verdicts(self) -> pd.DataFrame:
        """Its primary questions as `statistics.contrasts` answers them; none of an ablation, which has one arm."""
        return contrasts(self.rows, BY)

    @property
    def compared(self) -> pd.DataFrame:
        """Its exploratory comparisons, likewise; those that an arm is missing for are left out."""
        return self.contrasts(self.compare)

    def contrasts(self, named: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
        """Return `statistics.contrasts` of these pairs of arms, each this study's `ARM` or another's `STUDY/ARM`."""
        parts = []
        for arm in dict.fromkeys(arm for pair in named.values() for arm in pair):
            other, _, own = arm.rpartition("/")
            rows = study(other).rows if other else self.rows
            parts.append(rows[rows["arm"] == own].assign(arm=arm))
        named = {text: tuple(pair) for text, pair in named.items()}
        return contrasts(pd.concat(parts or [self.rows[:0]]), BY, named)

    def _rows(self, kind: str) -> pd.DataFrame:
        ids, rows = self.ids[kind], table(TABLES[kind])
        rows = rows[rows["run_id"].isin(ids)]
        rows = rows.sort_values("run_id", key=lambda column: column.map(ids.index), ignore_index=True)
        return by_level(rows, self.levels(), kind) if self.design == "ablation" else rows


def study(name: str) -> Study:
    """Return the published study of this name; raises `UserError` with the nearest one for an unknown one."""
    check_value("study", name, str, choices=tuple(registry()))
    return registry()[name]


@cache
def registry(path: Path = REGISTRY) -> dict[str, Study]:
    """Return all published studies; raises `UserError` for a key or a value that a study cannot have."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{path} cannot be read ({e.strerror}); it comes with the repository") from e
    except tomllib.TOMLDecodeError as e:
        raise UserError(f"{path} is no TOML: {e}") from e
    studies = {name: _entry(f"[{name}] in {path}:", name, entry) for name, entry in entries.items()}
    for name, of in studies.items():
        for text, pair in of.compare.items():
            here = f"[{name}.compare] in {path}: {text!r}"
            are_arms = isinstance(pair, list) and all(isinstance(arm, str) for arm in pair)
            if not are_arms or (len(pair), len({*pair})) != (2, 2):
                example = '["mixed", "original"] or ["STUDY/mixed", "mixed"]'
                raise UserError(f"{here} = {pair!r} must be two arms, such as {example}")
            for arm in pair:
                other, _, own = arm.rpartition("/")
                check_value(f"{here}: study", other or name, str, choices=tuple(studies))
                check_value(f"{here}: arm", own, str, choices=studies[other or name].settings[0].arms)
    return studies


def _entry(here: str, name: str, entry: Any) -> Study:
    """Return the study that an entry of the registry describes; raises `UserError`, which begins with `here`."""
    if not isinstance(entry, dict) or "design" not in entry:
        raise UserError(f"{here} {entry!r} must be a table with question, asked, design and the design's parameters")
    check_value(f"{here} design", entry["design"], str, choices=tuple(DESIGNS))
    kinds = {"question": str, "asked": str, "design": str, "compare": dict}
    own = [key for key in inspect.signature(DESIGNS[entry["design"]]).parameters if key not in ("make", "parameters")]
    for key in ("question", "asked", *own):
        if not entry.get(key):
            raise UserError(f"{here} {key} is missing")
    known = [*kinds, *own, *inspect.signature(resolve).parameters]
    for key, value in entry.items():
        check_value(f"{here} key", key, str, choices=tuple(known))
        if key in kinds:
            check_value(f"{here} {key}", value, kinds[key])
    of_study = {key: value for key, value in entry.items() if key in kinds}
    return Study(name, **of_study, parameters={key: value for key, value in entry.items() if key not in kinds})


def table(name: str) -> pd.DataFrame:
    """Return a table's rows: those of the repository, and of the results folder what it has beside them.

    A results folder with a studies.toml in it, such as a copy of the committed one, takes the repository's place.
    """
    folders = [results_dir()] if (results_dir() / REGISTRY.name).exists() else [ROOT / "results", results_dir()]
    paths = [folder / "tables" / f"{name}.csv" for folder in dict.fromkeys(folders)]
    found = [path for path in paths if path.exists()]
    if not found:  # in a copy that is older than this table
        return read_table(ROOT / "results" / "tables" / f"{name}.csv")[:0]
    return _read(tuple((path, path.stat().st_mtime_ns) for path in found))


@cache
def _read(files: tuple[tuple[Path, int], ...]) -> pd.DataFrame:
    # the time is a part of the key: a table that has grown is read again
    found = pd.concat([read_table(path) for path, _ in files])
    return found.drop_duplicates([name for name in ("run_id", "step") if name in found], ignore_index=True)


def how(studied: Study) -> str:
    """Say how many runs of a study are published, and where, with which commits and how long they were computed."""
    rows = studied.rows.drop_duplicates("run_id")
    lines = [f"{len(rows)} {'run' if len(rows) == 1 else 'runs'} of classifiers: make study NAME={studied.name}"]
    if len(rows):
        every = table(f"{TABLES['classifier']}_provenance")
        runs = every[every["run_id"].isin(rows["run_id"])]
        commits = runs["commit"].str.split(", then ").explode()  # of runs that went on in another one, both
        short = commits.str.replace(r"([0-9a-f]{7})[0-9a-f]{33}", r"\1", regex=True)  # "+changes" stays
        of_runs = {name: ", ".join(map(str, sorted(runs[name].unique()))) for name in ("device", "threads", "torch")}
        lines.append(
            f"  {runs['seconds'].sum() / 60:,.0f} minutes without the GANs on {of_runs['device']}, threads "
            f"{of_runs['threads']}; torch {of_runs['torch']}; commits {', '.join(sorted(short.unique()))}"
        )
    if studied.missing:
        lines.append(f"  {studied.missing} more {'run is' if studied.missing == 1 else 'runs are'} not published")
    return "\n".join(lines)
