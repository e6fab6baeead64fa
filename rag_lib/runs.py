"""One folder a run, named by its config's hash: a finished run is never computed again."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from rag_lib import storage
from rag_lib.checked import Checked, check_value
from rag_lib.checkpoint import checkpoints
from rag_lib.config import NUMERICS, as_dict, from_dict
from rag_lib.errors import UserError
from rag_lib.paths import results_dir
from rag_lib.provenance import attempts_at, earlier_attempts, environment, merged
from rag_lib.storage import is_locked, load_weights, locked, read_json, room_for, sha256, sweep, write_json, write_whole

# of a finished run, by its kind
WEIGHTS = {"gan": "generator.safetensors", "classifier": "classifier.safetensors"}


@dataclass(frozen=True)
class Run:
    """A finished run: `folder` has config.json, env.json and what its kind leaves; `metrics` is metrics.json."""

    id: str
    folder: Path
    metrics: dict[str, Any]
    reused: bool  # whether it stood there already

    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "history.csv")

    def confusion(self) -> pd.DataFrame:
        """Counts of images: rows the true or requested class, columns the predicted one."""
        # names such as 007 or NA are names, not numbers or gaps
        counts = pd.read_csv(self.folder / "confusion.csv", dtype={0: str}, keep_default_na=False)
        return counts.set_index(counts.columns[0]).rename_axis(None)

    def predictions(self, name: str) -> Tensor:
        """Return the class predicted for each image of `test` or `val`, in the order of the split: int64, N.

        Raises `UserError` for a run of an earlier version, which did not keep them, and for any other name.
        """
        path = self.folder / "predictions.safetensors"
        if not path.exists():
            raise UserError(f"{self.id} predates the record of predictions; delete {self.folder} to compute it again")
        kept, _ = load_weights(path)
        check_value("name", name, str, choices=tuple(kept))
        return kept[name].long()

    def closest(self) -> pd.DataFrame:
        """Each class's closest pair (of a quality run): indices of the generated and of the train image, distance."""
        return pd.read_csv(self.folder / "closest.csv")

    def environment(self) -> dict[str, Any]:
        """Commit, versions, device and the like, of all attempts at this run (`provenance.merged`)."""
        return merged(attempts_at(self.folder))


def run_id(kind: str, config: Checked) -> str:
    """`kind` and twelve digits of the hash of the config's identity and `NUMERICS`."""
    text = json.dumps([NUMERICS, identity(config)], sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def identity(config: Checked) -> dict[str, Any]:
    """The config as a dictionary, without the fields that were added later and stand at their defaults."""
    values = as_dict(config)
    for f in fields(config):
        value = getattr(config, f.name)
        if isinstance(value, Checked):
            values[f.name] = identity(value)
        elif f.metadata.get("added") and value == f.default:
            del values[f.name]
    return values


def names_itself(id: str, saved: dict[str, Any]) -> bool:
    """Whether this version of the code gives the run of a saved config the name `id`."""
    kind = id.partition("-")[0]
    try:
        return run_id(kind, from_dict(kind, saved)) == id
    except (KeyError, TypeError, UserError):
        return False


def run_folder(id: str) -> Path:
    """The folder of run `id`; raises `UserError` for a name that leads out of `results/runs`."""
    if not id or Path(id).name != id or id in (".", ".."):
        raise UserError(f"{id!r} is no run's name; `python -m rag_lib runs` lists them")
    return results_dir() / "runs" / id


def cached(kind: str, config: Any, compute: Callable[[Path], dict[str, Any]], gan: Run | None = None) -> Run:
    """The run of this config: read if it is finished, else computed by `compute(folder) -> metrics`.

    metrics.json is written last and atomically: where it stands, the run is whole. Of several processes that
    ask at once one computes, the others wait for it. `gan`: whose images it sees; env.json names the weights, since
    another training with the same config may give others. Raises `UserError` where the disk is full, and for a
    run that has seen images of other weights, finished or not.
    """
    id = run_id(kind, config)
    weights = weights_of(gan)
    if (run := finished(id)) is None:
        with locked(lock_of(id), f"another process computes {id}; waiting for it"):
            if (run := finished(id)) is None:
                return _compute(id, config, compute, weights)
    check_seen(run, gan)
    return run


def weights_of(gan: Run | None) -> str | None:
    """The first twelve digits of the SHA-256 of a generator's weights."""
    return gan and sha256(gan.folder / "generator.safetensors")[:12]


def check_seen(run: Run, gan: Run | None) -> None:
    """Raises `UserError` where a finished run has seen images of another training than `gan`, the one that is there."""
    _check_weights(run.folder, attempts_at(run.folder), weights_of(gan))


def _check_weights(folder: Path, attempts: list[dict[str, Any]], weights: str | None) -> None:
    """Raises `UserError` where one of these attempts at a run has seen images of another generator than `weights`."""
    for seen in (attempt.get("generator") for attempt in attempts):
        if seen not in (None, weights):
            raise UserError(
                f"{folder.name} has seen images of another training of its generator (weights {seen}, now {weights}); "
                "`python -m rag_lib runs --clean` removes all such runs; then they are computed again"
            )


def finished(id: str) -> Run | None:
    """The run, if it is there as a whole: with its metrics, config, surroundings and weights."""
    folder = run_folder(id)
    weights = folder / WEIGHTS.get(id.partition("-")[0], "")
    metrics = read_json(folder / "metrics.json")
    whole = metrics and read_json(folder / "config.json") and attempts_at(folder) and weights.exists()
    return Run(id, folder, metrics, reused=True) if whole else None


def lock_of(name: str) -> Path:
    return results_dir() / "runs" / ".locks" / name


def _compute(id: str, config: Any, compute: Callable[[Path], dict[str, Any]], weights: str | None) -> Run:
    folder = run_folder(id)
    with room_for(f"{id} in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        write_json(folder / "config.json", as_dict(config))
        attempts = earlier_attempts(folder)
        _check_weights(folder, attempts, weights)
        # the surroundings of the moment it started, not of its end
        now = environment(getattr(config, "precision", "fp32")) | ({"generator": weights} if weights else {})
        attempts.append(now | {"seconds": 0.0})
        write_json(folder / "env.json", {"attempts": attempts})
        start = time.monotonic()
        metrics = compute(folder)
        attempts[-1]["seconds"] = time.monotonic() - start
        write_json(folder / "env.json", {"attempts": attempts})
        write_json(folder / "metrics.json", metrics)
    discard_checkpoints(folder)
    return Run(id, folder, metrics, reused=False)


def discard_checkpoints(folder: Path) -> None:
    for path in folder.glob("checkpoint-*"):
        path.unlink()


def _state(folder: Path, saved: dict[str, Any]) -> str:
    if is_locked(lock_of(folder.name)):
        return "running"
    if saved and not names_itself(folder.name, saved):
        return "stale"
    gan = saved.get("gan") and finished(run_id("gan", from_dict("gan", saved["gan"])))
    if gan and {attempt.get("generator") for attempt in attempts_at(folder)} - {None, weights_of(gan)}:
        return "stale"
    if finished(folder.name):
        return "finished"
    return "resumable" if checkpoints(folder) else "unfinished"


def list_runs() -> pd.DataFrame:
    """Every folder under `results/runs`: its state, size in MB and config in short.

    The state is running (in another process), finished, resumable (from its checkpoint), unfinished, or stale: it will
    not be reused, since this version of the code gives its config another name, or its GAN was trained anew.
    """
    rows = []
    named_as_runs = re.compile(r"(gan|classifier|quality)-[0-9a-f]{12}")  # anything else there is the user's own
    for folder in sorted(p for p in (results_dir() / "runs").glob("*") if named_as_runs.fullmatch(p.name)):
        saved = read_json(folder / "config.json")
        megabytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
        data = saved.get("data") or (saved.get("gan") or {}).get("data")
        dataset = data.get("dataset") if isinstance(data, dict) else None
        parts = [dataset, *(saved.get(k) for k in ("model", "arm", "steps"))]
        parts += [f"seed {saved['seed']}"] if "seed" in saved else []
        what = " ".join(str(p) for p in parts if p is not None)
        rows.append((folder.name, _state(folder, saved), round(megabytes, 1), what))
    return pd.DataFrame(rows, columns=["run", "state", "MB", "what"])


def clean_runs() -> list[str]:
    """Removes the runs that are stale or unfinished, and returns their names; all others stay.

    What a kill at the last moment has left beside a finished run goes, too.
    """
    removed = []
    for name, state in list_runs().set_index("run")["state"].items():
        if state in ("stale", "unfinished", "finished"):
            with locked(lock_of(name), f"another process computes {name}; waiting for it"):
                if state == "finished":
                    sweep(run_folder(name))
                    discard_checkpoints(run_folder(name))
                elif state == "stale" or not (finished(name) or checkpoints(run_folder(name))):
                    shutil.rmtree(run_folder(name))
                    removed.append(name)
    return removed


def collect(table: str, rows: pd.DataFrame, runs: list[Run]) -> Path:
    """Merges `rows` (one a run, with a `run_id`) into `results/tables/<table>.csv`, sorted by run id.

    Beside it, `<table>_provenance.csv` tells each run's commit, versions, device, threads and wall time.
    `runs`: theirs, and those of others that are named in them. Rows of the same runs are replaced, all others stay.
    """
    provenance = pd.DataFrame([{"run_id": run.id, **run.environment()} for run in runs])
    folder = results_dir() / "tables"
    waiting = "another process writes the tables; waiting for it"
    with room_for(f"the table {table} in {folder}"), locked(lock_of("tables"), waiting):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        for path, new in ((folder / f"{table}.csv", rows), (folder / f"{table}_provenance.csv", provenance)):
            # as text, so that rows that are not replaced stay the same to the letter
            old = storage.read_table(path, dtype=str, keep_default_na=False) if path.exists() else new.iloc[:0]
            merged = pd.concat([old[~old["run_id"].isin(new["run_id"])], new.astype(object)])
            write_whole(
                path, merged.sort_values("run_id", kind="stable").to_csv(index=False, lineterminator="\n").encode()
            )
    return folder / f"{table}.csv"
