"""One folder a run, named by its config's hash: a finished run is never computed again."""

import errno
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torchvision

from rag_lib import __version__
from rag_lib.checkpoint import checkpoints
from rag_lib.config import NUMERICS, ClassifierConfig, DataConfig, GanConfig
from rag_lib.errors import UserError
from rag_lib.paths import ROOT, results_dir
from rag_lib.storage import is_locked, locked, sweep, write_json, write_whole
from rag_lib.training import pick_device, pick_precision

# by a run's kind, and by the name of the field that holds one
CONFIGS = {"data": DataConfig, "gan": GanConfig, "classifier": ClassifierConfig, "judge": ClassifierConfig}


@dataclass(frozen=True)
class Run:
    """A finished run: `folder` has config.json, env.json, history.csv, weights; `metrics` is metrics.json."""

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

    def environment(self) -> dict[str, Any]:
        return json.loads((self.folder / "env.json").read_text())


def identity(config: Any) -> dict[str, Any]:
    """The config's fields as a plain dictionary, an own folder by its name: its content has a hash of its own."""

    def without_path(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = {k: without_path(v) for k, v in value.items()}
        if str(value.get("dataset", "")).startswith("folder:"):
            value["dataset"] = "folder:" + Path(value["dataset"].removeprefix("folder:")).name
        return value

    return without_path(asdict(config))


def run_id(kind: str, config: Any) -> str:
    """`kind` and twelve digits of the hash of the config's identity and `NUMERICS`."""
    return f"{kind}-{hash_of(identity(config))}"


def hash_of(fields: dict[str, Any]) -> str:
    text = json.dumps([NUMERICS, fields], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def has_todays_fields(kind: str, config: dict[str, Any]) -> bool:
    """Whether a saved config has just the fields that this version's configs have."""
    known = {f.name for f in fields(CONFIGS[kind])} if kind in CONFIGS else {"gan", "judge"}
    return config.keys() == known and all(
        has_todays_fields(name, value) for name, value in config.items() if isinstance(value, dict)
    )


def run_folder(id: str) -> Path:
    """The folder of run `id`; raises `UserError` for a name that leads out of `results/runs`."""
    if not id or Path(id).name != id or id in (".", ".."):
        raise UserError(f"{id!r} is no run's name; `python -m rag_lib runs` lists them")
    return results_dir() / "runs" / id


def cached(kind: str, config: Any, compute: Callable[[Path], dict[str, Any]]) -> Run:
    """The run of this config: read if it is finished, else computed by `compute(folder) -> metrics`.

    metrics.json is written last and atomically: where it stands, the run is whole. Of several processes that
    ask at once one computes, the others wait for it. Raises `UserError` where the disk is full.
    """
    id = run_id(kind, config)
    if run := finished(id):
        return run
    with locked(lock_of(id), f"another process computes {id}; waiting for it"):
        return finished(id) or _compute(id, config, compute)


def finished(id: str) -> Run | None:
    folder = run_folder(id)
    if not (folder / "metrics.json").exists():
        return None
    return Run(id, folder, json.loads((folder / "metrics.json").read_text()), reused=True)


def lock_of(name: str) -> Path:
    return results_dir() / "runs" / ".locks" / name


def _compute(id: str, config: Any, compute: Callable[[Path], dict[str, Any]]) -> Run:
    folder = run_folder(id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        write_json(folder / "config.json", identity(config))
        # the settings of the moment the run started, not of its end
        env = since_the_start(folder, environment(getattr(config, "precision", "fp32")))
        write_json(folder / "env.json", env)
        start = time.monotonic()
        metrics = compute(folder)
        write_json(folder / "env.json", env | {"seconds": round(env["seconds"] + time.monotonic() - start, 1)})
        write_json(folder / "metrics.json", metrics)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(f"{id}: {e.strerror} in {folder}; make room and start again, it goes on where it was") from e
    for path in folder.glob("checkpoint-*"):
        path.unlink()
    return Run(id, folder, metrics, reused=False)


def since_the_start(folder: Path, env: dict[str, Any]) -> dict[str, Any]:
    """`env` with the seconds that earlier attempts at this run took up to the checkpoint it goes on from.

    Where the surroundings changed in between, another commit or device, both are named.
    """
    kept = checkpoints(folder)
    if not kept or not (folder / "env.json").exists():
        return env | {"resumed": 0, "seconds": 0.0}
    before = json.loads((folder / "env.json").read_text())
    spent = kept[0].stat().st_mtime - datetime.fromisoformat(before["started"]).timestamp()
    changed = {k: f"{before[k]}, then {v}" for k, v in env.items() if k != "started" and before.get(k) != v}
    return env | changed | {"resumed": before["resumed"] + 1, "seconds": before["seconds"] + max(0.0, spent)}


def environment(precision: str) -> dict[str, Any]:
    """What a run's numbers may depend on beside its config: commit, versions, device, threads, precision."""
    device = pick_device()
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "rag_lib"], capture_output=True, text=True, check=True
        )
        commit += "+changes" if changed.stdout.strip() else ""
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"  # no git, or not a clone
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "commit": commit,
        "rag_lib": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": f"{sys.platform} {name}",
        "device": device.type,
        "threads": torch.get_num_threads(),
        "precision": pick_precision(precision, device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _state(folder: Path, current: bool) -> str:
    if is_locked(lock_of(folder.name)):
        return "running"
    return "stale" if not current else "finished" if finished(folder.name) else "unfinished"


def list_runs() -> pd.DataFrame:
    """Every folder under `results/runs`: its state, size in MB and config in short.

    The state is running (in another process), finished, unfinished, or stale, which means that
    this version of the code would give the config another name, so it will not be reused.
    """
    rows = []
    named_as_runs = re.compile(r"(gan|classifier|quality)-[0-9a-f]{12}")  # anything else there is the user's own
    for folder in sorted(p for p in (results_dir() / "runs").glob("*") if named_as_runs.fullmatch(p.name)):
        config = folder / "config.json"
        saved = json.loads(config.read_text()) if config.exists() else {}
        kind, _, digits = folder.name.rpartition("-")
        current = digits == hash_of(saved) and has_todays_fields(kind, saved)
        megabytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
        data = saved.get("data") or saved.get("gan", {}).get("data", {})
        parts = [data.get("dataset"), *(saved.get(k) for k in ("model", "arm", "steps"))]
        parts += [f"seed {saved['seed']}"] if "seed" in saved else []
        rows.append(
            {
                "run": folder.name,
                "state": _state(folder, current),
                "MB": round(megabytes, 1),
                "what": " ".join(str(p) for p in parts if p is not None),
            }
        )
    return pd.DataFrame(rows, columns=["run", "state", "MB", "what"])


def clean_runs() -> list[str]:
    """Removes the runs that are stale or unfinished, and returns their names. Finished and running ones stay."""
    runs = list_runs()
    names = list(runs.loc[runs["state"].isin(["stale", "unfinished"]), "run"])
    for name in names:
        with locked(lock_of(name), f"another process computes {name}; waiting for it"):
            if runs.set_index("run").loc[name, "state"] == "stale" or not finished(name):
                shutil.rmtree(run_folder(name))
    return names


def collect(table: str, rows: pd.DataFrame, runs: list[Run]) -> Path:
    """Merges `rows` (one a run, with a `run_id`) into `results/tables/<table>.csv`, sorted by run id.

    Beside it, `<table>_provenance.csv` tells each run's commit, versions, device, threads and wall time.
    A row of a run that was computed anew replaces the old one; all others stay.
    """
    provenance = pd.DataFrame([{"run_id": run.id, **run.environment()} for run in runs])
    folder = results_dir() / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(lock_of(f"table-{table}"), f"another process writes the table {table}; waiting for it"):
        for path, new in ((folder / f"{table}.csv", rows), (folder / f"{table}_provenance.csv", provenance)):
            # as text, so that rows that are not replaced stay the same to the letter
            old = pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else new.iloc[:0]
            merged = pd.concat([old[~old["run_id"].isin(new["run_id"])], new.astype(object)])
            write_whole(path, merged.sort_values("run_id").to_csv(index=False, lineterminator="\n").encode())
    return folder / f"{table}.csv"
