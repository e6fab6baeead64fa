"""The published studies by name: what results/studies.toml asks, and what the tables have of it, which is read only."""

import difflib
import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping
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
    def missing(self) -> int:
        """How many of its runs no published table has."""
        return sum(len(set(ids) - set(table(TABLES[kind])["run_id"])) for kind, ids in self.ids.items())

    @property
    def command(self) -> str:
        return f"make study NAME={self.name}"

    @property
    def verdicts(self) -> pd.DataFrame:
        """Its primary questions as `statistics.contrasts` answers them; none of an ablation, which has one arm."""
        return contrasts(self.rows, BY)

    @property
    def compared(self) -> pd.DataFrame:
        """Its exploratory comparisons, likewise; those that an arm is missing for are left out."""
        return self.contrasts(self.compare)

    def contrasts(self, named: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
        """`statistics.contrasts` of these pairs of arms, each this study's `ARM` or another's `STUDY/ARM`."""
        arms = dict.fromkeys(arm for pair in named.values() for arm in pair)
        rows = [self._of(arm) for arm in arms] or [self.rows[:0]]
        return contrasts(pd.concat(rows), BY, named={text: tuple(pair) for text, pair in named.items()})

    def _of(self, arm: str) -> pd.DataFrame:
        name, _, of_other = arm.rpartition("/")
        rows = (study(name) if name else self).rows
        return rows[rows["arm"] == of_other].assign(arm=arm)

    def _rows(self, kind: str) -> pd.DataFrame:
        ids = self.ids[kind]
        every = table(TABLES[kind])
        found = every[every["run_id"].isin(ids)]
        found = found.sort_values("run_id", key=lambda s: s.map({id: i for i, id in enumerate(ids)}), ignore_index=True)
        return by_level(found, self.levels(), kind) if self.design == "ablation" else found


def study(name: str) -> Study:
    """Return the published study of this name; raises `UserError` with the nearest one for an unknown one."""
    if name not in registry():
        raise UserError(f"study {_unknown(name, registry())}")
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
    studies = {name: _entry(name, entry, path) for name, entry in entries.items()}
    for name, of in studies.items():
        for text, pair in of.compare.items():
            _check_pair(f"[{name}.compare] in {path}: {text!r}", pair, of, studies)
    return studies


def _entry(name: str, entry: Any, path: Path) -> Study:
    here = f"[{name}] in {path}:"
    if not isinstance(entry, dict) or "design" not in entry:
        raise UserError(f"{here} {entry!r} must be a table with question, asked, design and the design's parameters")
    if entry["design"] not in DESIGNS:
        raise UserError(f"{here} design = {_unknown(entry['design'], DESIGNS)}")
    own = inspect.signature(DESIGNS[entry["design"]]).parameters
    parameters = {n: p for n, p in own.items() if n not in ("make", "parameters")}
    for key in ("question", "asked", *(n for n, p in parameters.items() if p.default is p.empty)):
        if not entry.get(key):
            raise UserError(f"{here} {key} is missing")
    about, compare = ("question", "asked", "design"), entry.get("compare", {})
    for key in about:
        check_value(f"{here} {key}", entry[key], str)
    check_value(f"{here} compare", compare, dict)
    allowed = [*about, *parameters, *inspect.signature(resolve).parameters, "compare"]
    for key in set(entry) - set(allowed):
        raise UserError(f"{here} {_unknown(key, allowed)}")
    given = {key: value for key, value in entry.items() if key not in (*about, "compare")}
    return Study(name, **{key: entry[key] for key in about}, compare=compare, parameters=given)


def _check_pair(here: str, pair: Any, of: Study, studies: Mapping[str, Study]) -> None:
    """Raises `UserError` unless this is two arms, each of its study."""
    if not isinstance(pair, list) or len(set(map(str, pair))) != 2 or not all(isinstance(arm, str) for arm in pair):
        raise UserError(
            f'{here} = {pair!r} must be two arms, such as ["mixed", "original"] or ["STUDY/mixed", "mixed"]'
        )
    for arm in pair:
        name, _, of_other = arm.rpartition("/")
        if name and name not in studies:
            raise UserError(f"{here}: study {_unknown(name, studies)}")
        trained = (studies[name] if name else of).settings[0].arms
        if of_other not in trained:
            raise UserError(f"{here}: arm {_unknown(of_other, trained)}")


def _unknown(name: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name).lower(), known, 1)
    guess = f"did you mean {close[0]}? " if close else ""
    return f"{name!r} is unknown; {guess}choose one of {', '.join(known)}"


def table(name: str) -> pd.DataFrame:
    """Return a table's rows: those of the repository, and of the results folder what it has beside them.

    A results folder with a studies.toml in it, such as a copy of the committed one, takes the repository's place.
    """
    folders = [results_dir()] if (results_dir() / REGISTRY.name).exists() else [ROOT / "results", results_dir()]
    paths = [folder / "tables" / f"{name}.csv" for folder in dict.fromkeys(folders)]
    return _read(tuple((path, path.stat().st_mtime_ns) for path in paths if path.exists()))


@cache
def _read(files: tuple[tuple[Path, int], ...]) -> pd.DataFrame:
    """The time is a part of the key: a table that has grown is read again."""
    return pd.concat([read_table(path) for path, _ in files]).drop_duplicates("run_id", ignore_index=True)


def how(studied: Study) -> str:
    """How many runs are published of a study, where they were computed, how long it took, and with which commits."""
    rows = studied.rows.drop_duplicates("run_id")
    lines = [f"{len(rows)} {'run' if len(rows) == 1 else 'runs'} of classifiers: {studied.command}"]
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
