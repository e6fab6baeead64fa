"""The runs as tables: what lies under `results/runs`, and the rows of `results/tables`."""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from rag_lib.base import results_dir
from rag_lib.runtime.files import checkpoints, is_locked, locked, read_json, read_table, room_for, sweep, write_whole
from rag_lib.runtime.provenance import attempts_at
from rag_lib.runtime.store import (
    Run,
    digest_of,
    discard_checkpoints,
    finished,
    lock_of,
    names_itself,
    run_folder,
    run_id,
)
from rag_lib.settings.config import from_dict


def _state(folder: Path, saved: dict[str, Any]) -> str:
    if is_locked(lock_of(folder.name)):
        return "running"
    if saved and not names_itself(folder.name, saved):
        return "stale"
    gan = saved.get("gan") and finished(run_id("gan", from_dict("gan", saved["gan"])))
    if gan and {attempt.get("generator") for attempt in attempts_at(folder)} - {None, digest_of(gan)}:
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
        gan = saved.get("gan")
        data = saved.get("data") or (gan.get("data") if isinstance(gan, dict) else None)
        dataset = data.get("dataset") if isinstance(data, dict) else None
        parts = [dataset, *(saved.get(k) for k in ("model", "arm", "steps"))]
        parts += [f"seed {saved['seed']}"] if "seed" in saved else []
        what = " ".join(str(p) for p in parts if p is not None)
        rows.append((folder.name, _state(folder, saved), round(megabytes, 1), what))
    return pd.DataFrame(rows, columns=["run", "state", "MB", "what"])


def clean_runs() -> list[str]:
    """Remove the runs that are stale or unfinished, and return their names; all others stay.

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
    """Merge `rows` (with a `run_id`) into `results/tables/<table>.csv`, sorted by run id.

    Beside it, `<table>_provenance.csv` tells each run's commit, versions, device, threads and wall time.
    `runs`: theirs, and those of others that are named in them; none where another table tells of them. Rows of the
    same runs are replaced, all others stay.
    """
    provenance = pd.DataFrame([{"run_id": run.id, **run.environment()} for run in runs])
    folder = results_dir() / "tables"
    waiting = "another process writes the tables; waiting for it"
    with room_for(f"the table {table} in {folder}"), locked(lock_of("tables"), waiting):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        entered = {table: rows} | ({f"{table}_provenance": provenance} if runs else {})
        for path, new in ((folder / f"{name}.csv", new) for name, new in entered.items()):
            # as text, so that rows that are not replaced stay the same to the letter
            old = read_table(path, dtype=str, keep_default_na=False) if path.exists() else new.iloc[:0]
            kept = old[~old["run_id"].isin(new["run_id"])]
            merged = pd.concat([kept, new.astype(object)]).sort_values("run_id", kind="stable")
            write_whole(path, merged.to_csv(index=False, lineterminator="\n").encode())
    return folder / f"{table}.csv"
