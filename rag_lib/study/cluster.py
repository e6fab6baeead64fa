"""The jobs of a study as tasks of a Ray cluster, each of which takes the files of the runs that it needs.

Ray orders them, computes again what a lost machine had, and frees what no task takes any more. The machines share
nothing but Ray: code, real images and files travel through it. Only the driver, the process that asked, writes into
`results`, so that a run there is finished or absent.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from tqdm import tqdm

import rag_lib
from rag_lib.base import UserError
from rag_lib.data.datasets import Splits
from rag_lib.runtime.files import is_locked, locked, room_for, write_whole
from rag_lib.runtime.progress import in_kernel, progress, to_set
from rag_lib.runtime.provenance import commit_of_code
from rag_lib.runtime.store import Run, check_seen, discard_checkpoints, finished, lock_of, run_folder
from rag_lib.settings.config import EngineConfig, as_dict
from rag_lib.study.arms import splits_of
from rag_lib.study.plan import Job, compute

RETRIES = 5  # of a run whose process or machine is lost; one that fails by itself is not tried again
SECONDS_BETWEEN = 0.2  # two looks at what is finished
# the results of a machine's process: the same for all its runs, so that what one has generated serves the next
PLACE = Path(tempfile.gettempdir(), f"rag_lib-{uuid4()}")
Files = dict[str, bytes]  # what is in a run's folder, by path


def on_ray(engine: EngineConfig, planned: Sequence[Job]) -> Iterator[tuple[Job, Run]]:
    """Compute the jobs on a cluster; give each with its run as soon as it is there.

    Those that fail do not stop the others: each is reported on stderr, and at the end a `UserError` counts them.
    Raises `UserError` at once where there is no such cluster, or no machine in it that has what a job takes.
    """
    failed: dict[str, str] = {}  # why, by the run's id
    ray = connect(engine)
    try:
        yield from runs(ray, engine, planned, failed)
    finally:
        ray.shutdown()  # of this driver; the cluster stays, and drops what it was computing for it
    if failed:
        lines = [f"{job.id} ({job.title or job.kind}): {failed[job.id]}" for job in planned if job.id in failed]
        print("\nFailed:", *lines, sep="\n", file=sys.stderr)
        untried = sum(job.id in failed and not failed.keys().isdisjoint(job.needs) for job in planned)
        need_them = f", {untried} that need them were not tried" if untried else ""
        raise UserError(
            f"{len(failed) - untried} of {len(planned)} runs failed{need_them}, the others are finished; "
            f"to try again: {same_again()}"
        )


def same_again() -> str:
    """Say what the user does to ask for the same study once more."""
    program = sys.modules["__main__"].__spec__
    if program and program.name == "rag_lib.__main__":
        return f"python -m rag_lib {shlex.join(sys.argv[1:])}"
    return "run the cell again" if in_kernel() else "ask for the study again"


def connect(engine: EngineConfig) -> Any:
    """Return the module `ray`, connected to the cluster; raises `UserError` where that cannot be done."""
    try:
        import ray  # optional: one machine needs none of it
    except ImportError as e:
        raise UserError('engine = "ray" needs Ray: python -m pip install -e ".[ray]"') from e
    there = {"RAG_COMMIT": commit_of_code(), "RAG_PROGRESS": "text"}  # the code that travels is no clone
    code = {"py_modules": [str(Path(rag_lib.__file__).parent)], "excludes": ["__pycache__"], "env_vars": there}
    try:
        if found := re.fullmatch(r"([^/]+):(\d+)", engine.address):  # for minutes Ray would try again
            socket.create_connection((found[1], int(found[2])), timeout=10).close()
        ray.init(address=engine.address, runtime_env=code, logging_level="warning")
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(
            f"engine.address = {engine.address!r}: {' '.join(str(e).split())}; `ray start --head` starts a cluster on "
            f"this machine, and {to_set('engine.address', 'local')} uses its processors for this command alone"
        ) from e
    return ray


def runs(ray: Any, engine: EngineConfig, planned: Sequence[Job], failed: dict[str, str]) -> Iterator[tuple[Job, Run]]:
    """Give each job with its run, after those that it needs; put into `failed` why there is none."""
    check_machines(ray, engine, planned)
    results = submit(ray, engine, planned)
    left = {job.id: job for job in planned}
    with progress(len(planned), "grid", len(planned) - len(results), "runs") as counter:
        while left:
            time.sleep(SECONDS_BETWEEN)
            check_machines(ray, engine, left.values())  # those that have what a job takes may be lost
            coming = len(results)
            ready = set(ray.wait(list(results.values()), num_returns=coming, timeout=0)[0])
            came = [job for job in left.values() if job.id not in results or results[job.id] in ready]
            del ready  # a reference to what a task gave keeps what it took
            for job in came:
                if left.keys() & job.needs or is_locked(lock_of(job.id)):  # another process computes it
                    continue
                del left[job.id]
                result = results.pop(job.id, None)
                if lost := failed.keys() & job.needs:
                    failed[job.id] = f"needs {min(lost)}, which failed"
                    continue
                try:
                    run = take_in(job, result and ray.get(result))
                except (UserError, ray.exceptions.RayError) as e:
                    failed[job.id] = report(job, e)
                else:
                    del result
                    yield job, run
            busy = ray.cluster_resources().get("CPU", 0) - ray.available_resources().get("CPU", 0)
            counter.set_postfix_str(f"{busy:g} processors busy, {len(failed)} failed")
            counter.update(coming - len(results))


def check_machines(ray: Any, engine: EngineConfig, planned: Iterable[Job]) -> None:
    """Raise `UserError` where no machine of the cluster has what one of these jobs takes."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind in {job.kind: None for job in planned}:
        cpus, gpus = takes(engine, kind).values()
        if not any(has.get("CPU", 0) >= cpus and has.get("GPU", 0) >= gpus for has in machines):
            raise UserError(
                f"no machine of the cluster has engine.{kind}_cpus = {cpus} and engine.{kind}_gpus = {gpus}"
            )


def takes(engine: EngineConfig, kind: str) -> dict[str, float]:
    """Return how many processors and GPUs a run of this kind takes, as options of Ray's."""
    return {f"num_{name}": getattr(engine, f"{kind}_{name}") for name in ("cpus", "gpus")}


def submit(ray: Any, engine: EngineConfig, planned: Sequence[Job]) -> dict[str, Any]:
    """Make a task of each run that is not finished; return the references to their files, by the runs' ids."""

    @cache  # until all are submitted: then only tasks refer to it, and Ray frees it with the last of them
    def put(value: Callable[[Any], Any], of: Any) -> Any:
        return ray.put(value(of))

    # one with a GPU has a process of its own, as Ray does it: CUDA keeps to the first that a process was given
    kinds = {job.kind for job in planned}
    tasks = {kind: ray.remote(**takes(engine, kind), max_retries=RETRIES)(compute_there) for kind in kinds}
    results: dict[str, Any] = {}
    for job in planned:
        if finished(job.id):
            continue
        cpus, gpus = takes(engine, job.kind).values()
        device = os.environ.get("RAG_DEVICE", "") if gpus else "cpu"  # a GPU that it sees is not its own
        needed = [results[need] if need in results else put(files_of, need) for need in job.needs]
        of_job = (job, max(1, int(cpus)), device, put(splits_of, job.data), *needed)
        results[job.id] = tasks[job.kind].options(name=job.id).remote(*of_job)
    return results


def compute_there(job: Job, threads: int, device: str, splits: Splits, *needed: Files) -> Files:
    """Compute a job on a machine of the cluster, with so many threads, on that device; return its run's files."""
    torch.set_num_threads(threads)
    os.environ |= {"RAG_RESULTS": str(PLACE), "RAG_DEVICE": device}
    try:
        for need, files in zip(job.needs, needed, strict=True):
            write_run(need, files)
        with contextlib.redirect_stdout(io.StringIO()):  # the driver's line tells of it
            compute(job, [finished(need) for need in job.needs], splits)
        return files_of(job.id)
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)  # where it is not, there is a better error


def files_of(name: str) -> Files:
    folder = run_folder(name)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_run(name: str, files: Files) -> None:
    """Put a finished run into `results`, unless it is there: as a whole, with its last file, metrics.json."""
    folder = run_folder(name)
    with room_for(f"{name} in {folder}"), locked(lock_of(name), f"another process writes {name}; waiting for it"):
        if finished(name):
            return
        for file in sorted(files, key=lambda file: file == "metrics.json"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / file, files[file])
        discard_checkpoints(folder)  # of a training that was interrupted here


def take_in(job: Job, files: Files | None) -> Run:
    """Return the job's run, written into `results` if `files` are given; raises `UserError` as `check_seen` does."""
    if files:
        write_run(job.id, files)
    if (run := finished(job.id)) is None:
        raise UserError(f"{job.id} has gone from {run_folder(job.id).parent} since; ask for it again")
    check_seen(run, next((finished(need) for need in job.needs if need.startswith("gan-")), None))
    return run


def report(job: Job, error: Exception) -> str:
    """Print why a job failed, with its config, and where, unless its user can mend it; return why, in a line."""
    cause = getattr(error, "cause", error)  # Ray wraps what a task raises
    why = f"{type(cause).__name__}: {cause}".splitlines()[0]
    trace = "" if isinstance(cause, UserError) else f"\n{error}"
    tqdm.write(f"{job.id} failed: {why}; its config: {json.dumps(as_dict(job.config))}{trace}", sys.stderr)
    return why
