"""The jobs of a study as tasks of a Ray cluster, each of which takes the files of the runs that it needs.

Ray orders them, computes again what a lost machine had, and frees what no task takes any more. The machines share
nothing but Ray: code, real images and files travel through it. Only the driver, the process that asked, writes into
`results`, so that a run there is finished or absent.
"""

import io
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import rag_lib
from rag_lib.base import UserError
from rag_lib.data.datasets import Splits
from rag_lib.runtime.files import locked, room_for, write_whole
from rag_lib.runtime.provenance import commit_of_code
from rag_lib.runtime.store import discard_checkpoints, finished, lock_of, run_folder
from rag_lib.settings.config import EngineConfig
from rag_lib.study.arms import splits_of
from rag_lib.study.engines import RETRIES, Engine
from rag_lib.study.plan import Job, compute

# the results of a machine's process: the same for all its runs, so that what one has generated serves the next
PLACE = Path(tempfile.gettempdir(), f"rag_lib-{uuid4()}")
Files = dict[str, bytes]  # what is in a run's folder, by path


class OnRay(Engine):
    """A cluster; raises `UserError` at once where there is none, or no machine in it that has what a job takes."""

    room = math.inf
    orders = in_background = True

    def __init__(self, config: EngineConfig, planned: Sequence[Job]):
        self.config, self.ray = config, connect(config)
        # one with a GPU has a process of its own, as Ray does it: CUDA keeps to the first that a process was given
        self.tasks = {
            kind: self.ray.remote(**takes(config, kind), max_retries=RETRIES)(compute_there)
            for kind in {job.kind for job in planned}
        }
        # until all are submitted: then only tasks refer to it, and Ray frees it with the last of them
        self.put = cache(lambda value, of: self.ray.put(value(of)))
        try:
            self.check_machines(planned)
        except UserError:
            self.close()
            raise

    def submit(self, job: Job, running: Mapping[str, Future]) -> Future:
        device = os.environ.get("RAG_DEVICE", "") if takes(self.config, job.kind)["num_gpus"] else "cpu"
        needed = [running[need].object_ref if need in running else self.put(files_of, need) for need in job.needs]
        task = self.tasks[job.kind].options(name=job.id)
        return task.remote(job, device, self.put(splits_of, job.data), *needed).future()

    def take_in(self, job: Job, files: Files) -> None:
        write_run(job.id, files)

    def state(self, left: Sequence[Job], running: Mapping[str, Future]) -> str:
        self.put.cache_clear()
        self.check_machines(left)
        has, free = self.ray.cluster_resources(), self.ray.available_resources()
        return f"{has.get('CPU', 0) - free.get('CPU', 0):g} processors busy"

    def check_machines(self, planned: Sequence[Job]) -> None:
        """Raise `UserError` where no machine of the cluster has what one of these jobs takes."""
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for kind in {job.kind: None for job in planned}:
            cpus, gpus = takes(self.config, kind).values()
            if not any(has.get("CPU", 0) >= cpus and has.get("GPU", 0) >= gpus for has in machines):
                raise UserError(
                    f"no machine of the cluster has engine.{kind}_cpus = {cpus} and engine.{kind}_gpus = {gpus}"
                )

    def close(self) -> None:
        self.ray.shutdown()  # of this driver; the cluster stays, and drops what it was computing for it


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
            f"this machine, and engine.address=local uses its processors for this command alone"
        ) from e
    return ray


def takes(engine: EngineConfig, kind: str) -> dict[str, float]:
    """Return how many processors and GPUs a run of this kind takes, as options of Ray's."""
    return {f"num_{name}": getattr(engine, f"{kind}_{name}") for name in ("cpus", "gpus")}


def compute_there(job: Job, device: str, splits: Splits, *needed: Files) -> Files:
    """Compute a job on a machine of the cluster, on that device; return its run's files."""
    os.environ |= {"RAG_RESULTS": str(PLACE), "RAG_DEVICE": device}
    try:
        for need, files in zip(job.needs, needed, strict=True):
            write_run(need, files)
        with redirect_stdout(io.StringIO()):  # the driver's line tells of it
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
