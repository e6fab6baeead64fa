"""`gpu.py tables`: what no table has of the paper's groups at its schedule, by several processes on one device.

It leaves the tables, jobs.csv (how far each run is), and the runs with their generators in parts of one archive.
`--earlier FOLDER` resumes from these; with `--minutes 0` it only enters the rows of that folder into the tables.
"""

import io
import multiprocessing
import os
import shutil
import signal
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

from rag_lib import study
from rag_lib.analysis import published
from rag_lib.base import UserError, results_dir
from rag_lib.runtime.files import checkpoints, write_whole
from rag_lib.runtime.store import finished, run_folder
from rag_lib.settings.config import Settings
from rag_lib.study.arms import splits_of
from rag_lib.study.plan import Job, compute, jobs
from rag_lib.study.resolve import replicate, resolve

SPAWN = multiprocessing.get_context("spawn")  # a process that was forked cannot use CUDA
DATASETS = ("mnist", "cifar10_jpeg")
ARMS = ("original", "generated", "mixed", "original_half")
REPLICATES = 5
PART, PARTS = 16_000_000, 3  # bytes of a file, and how many the archive of runs may fill
LARGEST = 24_000_000  # bytes: a GAN's checkpoint and a `cnn` are packed, the weights of a ResNet are not


def plan(preset: str) -> list[Job]:
    """The runs in order of worth, without those that a table has, and without what only these would need."""

    def asked(dataset: str, *models: str) -> Settings:
        return resolve(dataset, preset, arms=ARMS, overrides={"classifiers": dict.fromkeys(models, 1)})

    studies = [asked(dataset, "cnn", "resnet34", "resnet18") for dataset in DATASETS]
    studies += [asked(dataset, "resnet50", "resnet101") for dataset in DATASETS]
    studies += [replicate(asked(dataset, "cnn"), r) for r in range(1, REPLICATES) for dataset in DATASETS]
    needed: set[str] = set()
    kept = []
    for job in reversed(jobs(studies)):
        if job.id in needed or (job.kind in study.TABLES and not stands(job)):
            kept.append(job)
            needed |= set(job.needs)
    return kept[::-1]


def stands(job: Job) -> bool:
    return job.id in set(published.table(study.TABLES[job.kind])["run_id"])


def work(planned: Sequence[Job], until: float, claims: Path) -> None:
    """What each process does: run after run, until all are done or it is `until`."""
    torch.set_num_threads(1)
    # a training writes a checkpoint on this signal, then it ends the process
    alarm = threading.Timer(until - time.time(), os.kill, (os.getpid(), signal.SIGTERM))
    alarm.daemon = True
    alarm.start()
    try:
        for job in taken(planned, claims):
            try:
                compute(job, [finished(id) for id in job.needs], splits_of(job.data))
            except Exception as e:
                record_of(job.id, claims).write_text(f"{type(e).__name__}: {e}")
                traceback.print_exc()
                if not isinstance(e, UserError):  # the device may refuse all that follows; a new process may not
                    raise
    finally:
        alarm.cancel()


def taken(planned: Sequence[Job], claims: Path) -> Iterator[Job]:
    """The first of the runs that nobody has taken and that lack nothing, again and again; waits for such.

    A claim is a lock: that of a process that was killed is free again.
    """

    def is_left(job: Job) -> bool:
        return not (finished(job.id) or any(failed(id, claims) for id in (job.id, *job.needs)))

    while left := [job for job in planned if is_left(job)]:
        for job in left:
            if all(finished(id) for id in job.needs):
                with suppress(Timeout), FileLock(claims / job.id).acquire(blocking=False):
                    if is_left(job):  # else another process has just ended it
                        yield job
                        break
        else:
            time.sleep(0.2)


def record_of(id: str, claims: Path) -> Path:
    return claims / f"{id}.failed"


def failed(id: str, claims: Path) -> str:
    """The error that ended this run, if one did."""
    return record_of(id, claims).read_text() if record_of(id, claims).exists() else ""


def tables(preset: str, minutes: float, out: Path, earlier: Path | None, workers: int) -> int:
    """Compute what is missing within `minutes`; leave what there is whenever a run is done; return how many failed."""
    until, reserve = time.time() + 60 * minutes, min(15.0, 6 * minutes)  # for the last checkpoints, and for packing
    if earlier:
        unpack(earlier)
    planned = plan(preset)
    claims = Path(tempfile.mkdtemp())
    processes: list[Any] = [None] * (workers if minutes else 0)
    done: set[str] = set()
    running = True
    while running:
        for i, process in enumerate(processes):
            if time.time() < until - reserve and (process is None or process.exitcode):  # at first, and after a crash
                processes[i] = SPAWN.Process(target=work, args=(planned, until - reserve, claims), daemon=True)
                processes[i].start()
        running = any(process.is_alive() for process in processes) and time.time() < until - reserve / 2
        if not running:
            for process in processes:
                process.kill()
                process.join()
        new = [job for job in planned if job.id not in done and finished(job.id)]
        for job in new:
            if job.kind in study.TABLES and not stands(job):
                study.enter(job, {id: finished(id) for id in (*job.needs, job.id)})
        done |= {job.id for job in new}
        if new or not running:
            leave(planned, claims, out, last=not running)
        time.sleep(1 if running else 0)
    return sum(bool(failed(job.id, claims)) for job in planned)


def leave(planned: Sequence[Job], claims: Path, out: Path, last: bool) -> None:
    """Copy the tables to `out`, list the runs, and pack them; checkpoints only at the `last` time."""
    for name in study.TABLES.values():
        for path in (results_dir() / "tables").glob(f"{name}*.csv"):
            shutil.copy(path, out)
    rows = []
    for job in planned:
        states = {
            "finished": finished(job.id),
            "failed": failed(job.id, claims),
            "started": run_folder(job.id).exists(),
        }
        state = next((state for state, holds in states.items() if holds), "waiting")
        what = getattr(job.config, "model", ""), getattr(job.config, "arm", "")
        rows.append((job.id, job.data.dataset, job.data.split_seed, *what, state, failed(job.id, claims)))
    columns = ["run_id", "dataset", "replicate", "classifier", "arm", "state", "error"]
    pd.DataFrame(rows, columns=columns).to_csv(out / "jobs.csv", index=False)
    pack([job for job in planned if last or finished(job.id)], out)


def pack(planned: Sequence[Job], out: Path) -> None:
    """Write the runs' files as an archive in parts, the small ones first, as far as there is room."""
    folders = [run_folder(job.id) for job in planned]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file() and ".tmp" not in path.name]
    older = {path for folder in folders for path in checkpoints(folder)[1:]}
    sizes = {path: path.stat().st_size for path in found if path not in older}
    sizes = {path: size for path, size in sizes.items() if size < LARGEST}
    packed, room = io.BytesIO(), PART * PARTS - 20_000
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, size in sorted(sizes.items(), key=lambda item: (item[0].suffix == ".pt", item[1])):
            room -= size + 1_024  # its header, and what fills it up to a whole block
            if room > 0:
                archive.add(path, path.relative_to(results_dir() / "runs"))
    for i, start in enumerate(range(0, len(packed.getbuffer()), PART)):
        write_whole(out / f"runs.tar.{i}", packed.getvalue()[start : start + PART])


def unpack(earlier: Path) -> None:
    """Put the runs that `pack` left there into `results`; those that are finished here stay."""
    content = b"".join(path.read_bytes() for path in sorted(earlier.glob("runs.tar.*")))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        new = [member for member in archive if not finished(member.name.partition("/")[0])]
        archive.extractall(results_dir() / "runs", new, filter="data")
