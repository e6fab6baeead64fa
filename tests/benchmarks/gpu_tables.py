"""`gpu.py tables`: what no table has of the paper's groups at its schedule, by several processes on one device.

It leaves tables.tar, jobs.csv (how far each run is), and the runs with their generators in parts of one archive.
`--earlier FOLDER` resumes from these; with `--minutes 0` it only enters the rows of that folder into the tables.
"""

import io
import shutil
import signal
import tarfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from rag_lib.analysis import published
from rag_lib.base import results_dir
from rag_lib.runtime.files import checkpoints, write_whole
from rag_lib.runtime.store import finished, run_folder
from rag_lib.settings.config import Settings
from rag_lib.study import conduct
from rag_lib.study.engines import Workers
from rag_lib.study.plan import Job, jobs
from rag_lib.study.resolve import replicate, resolve
from rag_lib.study.scheduler import scheduled

DATASETS = ("mnist", "cifar10_jpeg")
ARMS = ("original", "generated", "mixed", "original_half")
REPLICATES = 5
PART, PARTS = 16_000_000, 3  # bytes of a file, and how many the archive of runs may fill
LARGEST = 24_000_000  # bytes: a GAN's checkpoint and a `cnn` are packed, the weights of a ResNet are not


def plan(preset: str) -> list[Job]:
    """The runs in order of worth, without those that a table has, and without what only these would need."""

    def asked(dataset: str, *models: str) -> Settings:
        overrides = {"classifiers": dict.fromkeys(models, 1), "engine.gan_cpus": 1.0}  # else a GAN is two workers'
        return resolve(dataset, preset, arms=ARMS, overrides=overrides)

    studies = [asked(dataset, "cnn", "resnet34", "resnet18") for dataset in DATASETS]
    studies += [asked(dataset, "resnet50", "resnet101") for dataset in DATASETS]
    studies += [replicate(asked(dataset, "cnn"), r) for r in range(1, REPLICATES) for dataset in DATASETS]
    needed: set[str] = set()
    kept = []
    for job in reversed(jobs(studies)):
        if job.id in needed or (job.kind in conduct.TABLES and not stands(job)):
            kept.append(job)
            needed |= set(job.needs)
    return kept[::-1]


def stands(job: Job) -> bool:
    return job.id in set(published.table(conduct.TABLES[job.kind])["run_id"])


def tables(preset: str, minutes: float, out: Path, earlier: Path | None, workers: int) -> int:
    """Compute what is missing within `minutes`; leave what there is whenever a run is done; return how many failed."""
    start = time.monotonic()
    if earlier:
        unpack(earlier)
    planned = plan(preset)
    before = {job.id for job in planned if finished(job.id)}
    failed: dict[str, str] = {}
    engine = Workers(workers)
    reserve = min(15.0, 6 * minutes)  # seconds for the last checkpoints, and for packing
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    left = 60 * minutes - reserve - (time.monotonic() - start)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, left) if minutes else 0, reserve / 2)
    try:
        with suppress(KeyboardInterrupt):
            for job, run in scheduled(engine, planned if minutes else (), failed):
                if job.kind in conduct.TABLES and not stands(job):
                    conduct.enter(job, {run.id: run} | {need: finished(need) for need in job.needs})
                if job.id not in before:
                    leave(planned, failed, out, last=False)
        with suppress(KeyboardInterrupt):
            engine.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        engine.closed = True
        for process in engine.processes:
            process.kill()
            process.join()
    for job in planned:  # what an earlier visit left, and what has ended since
        done = {name: finished(name) for name in (job.id, *job.needs)}
        if job.kind in conduct.TABLES and job.id not in failed and all(done.values()) and not stands(job):
            conduct.enter(job, done)
    leave(planned, failed, out, last=True)
    return len(failed)


def leave(planned: Sequence[Job], failed: Mapping[str, str], out: Path, last: bool) -> None:
    """Pack the tables into `out`, list the runs, and pack them; checkpoints only at the `last` time."""
    (results_dir() / "tables").mkdir(parents=True, exist_ok=True)
    shutil.make_archive(str(out / "tables"), "tar", results_dir() / "tables")
    rows = []
    for job in planned:
        states = {
            "finished": finished(job.id),
            "failed": job.id in failed,
            "started": run_folder(job.id).exists(),
        }
        state = next((state for state, holds in states.items() if holds), "waiting")
        what = getattr(job.config, "model", ""), getattr(job.config, "arm", "")
        rows.append((job.id, job.data.dataset, job.data.split_seed, *what, state, failed.get(job.id, "")))
    columns = ["run_id", "dataset", "replicate", "classifier", "arm", "state", "error"]
    pd.DataFrame(rows, columns=columns).to_csv(out / "jobs.csv", index=False)
    pack([job for job in planned if last or finished(job.id)], out)


def pack(planned: Sequence[Job], out: Path) -> None:
    """Write the runs' files as an archive in parts, generators and small ones first, as far as there is room."""
    folders = [run_folder(job.id) for job in planned]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file() and ".tmp" not in path.name]
    older = {path for folder in folders for path in checkpoints(folder)[1:]}
    sizes = {path: path.stat().st_size for path in found if path not in older}
    sizes = {path: size for path, size in sizes.items() if size < LARGEST}
    packed, room = io.BytesIO(), PART * PARTS - 20_000

    def worth(item: tuple[Path, int]) -> tuple:
        return item[0].suffix == ".pt", item[0].name != "generator.safetensors", item[1]

    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, size in sorted(sizes.items(), key=worth):
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
