"""The jobs of a study on a Ray cluster, in any order that their needs allow, on whatever machines it has.

The machines share nothing but Ray: code, real images, generators and results travel through it, and only the driver,
the process that asked, writes into `results`. There a run is finished or absent; what a lost machine was computing is
computed again on another.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import rag_lib
from rag_lib.config import EngineConfig, as_dict
from rag_lib.errors import UserError
from rag_lib.jobs import Job, compute, splits_of
from rag_lib.progress import in_kernel, progress
from rag_lib.provenance import commit_of_code
from rag_lib.runs import Run, finished, lock_of, run_folder
from rag_lib.storage import locked, room_for, write_whole

RETRIES = 5  # of a run whose process or machine is lost; one that fails by itself is not tried again
SECONDS_BETWEEN = 0.2  # two looks at what is finished
Files = dict[str, bytes]  # what is in a run's folder, by path


def on_ray(engine: EngineConfig, planned: Sequence[Job]) -> Iterator[tuple[Job, Run]]:
    """Computes the jobs on a cluster: each with its run, as soon as it is there.

    Those that fail do not stop the others: each is reported on stderr, and at the end a `UserError` counts them.
    Raises `UserError` at once where there is no such cluster, or no machine in it that has what a job takes.
    """
    ray = connect(engine)
    try:
        grid = Grid(ray, engine, planned)
        yield from grid.runs()
    finally:
        ray.shutdown()  # of this driver; the cluster stays, and drops what it was computing for it
    if grid.failed:
        lines = (f"{id} ({job.title or job.kind}): {why}" for id, (job, why) in grid.failed.items())
        print("\nFailed:", *lines, sep="\n", file=sys.stderr)
        again = "run the cell again" if in_kernel() else f"python -m rag_lib {shlex.join(sys.argv[1:])}"
        raise UserError(
            f"{len(grid.failed)} of {len(planned)} runs failed, the others are finished; to try them again: {again}"
        )


def connect(engine: EngineConfig) -> Any:
    """The module `ray`, connected to the cluster; raises `UserError` where that cannot be done."""
    try:
        import ray  # optional: one machine needs none of it
    except ImportError as e:
        raise UserError("engine = 'ray' needs Ray: python -m pip install -e '.[ray]'") from e
    there = {
        "RAG_COMMIT": commit_of_code(),  # of the code that travels; its copies are no clones
        "RAG_DEVICE": os.environ.get("RAG_DEVICE", ""),
        "RAG_PROGRESS": "text",
    }
    code = {"py_modules": [str(Path(rag_lib.__file__).parent)], "excludes": ["__pycache__"], "env_vars": there}
    try:
        if found := re.fullmatch(r"(.+):(\d+)", engine.address):  # for minutes Ray would try again
            socket.create_connection((found[1], int(found[2])), timeout=10).close()
        ray.init(address=engine.address, runtime_env=code, logging_level="warning")
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(
            f"engine.address = {engine.address!r}: {' '.join(str(e).split())}; `ray start --head` starts a cluster on "
            "this machine, and engine.address = 'local' uses this machine's processors for this command alone"
        ) from e
    return ray


class Grid:
    """The jobs of a plan on a cluster: which wait, which are under way, which have failed."""

    def __init__(self, ray: Any, engine: EngineConfig, planned: Sequence[Job]):
        self.ray, self.engine, self.waiting = ray, engine, list(planned)
        self.task = ray.remote(compute_there)
        self.under_way: dict[Any, Job] = {}  # by Ray's reference to their result
        self.finished: set[str] = set()
        self.failed: dict[str, tuple[Job, str]] = {}
        self.in_memory: dict[Any, Any] = {}  # Ray's references to real images, and to runs that others need
        for kind in {job.kind for job in planned}:
            takes = self.takes(kind)
            if not any(all(node["Resources"].get(n, 0) >= x for n, x in takes.items()) for node in ray.nodes()):
                raise UserError(f"no machine of the cluster has what a run of kind {kind} takes: {takes}; see engine.*")

    def takes(self, kind: str) -> dict[str, float]:
        """What a run of this kind takes of a machine, in Ray's names."""
        amounts = {name: getattr(self.engine, f"{kind}_{name.lower()}s") for name in ("CPU", "GPU")}
        return {name: amount for name, amount in amounts.items() if amount}

    def runs(self) -> Iterator[tuple[Job, Run]]:
        there = sum(finished(job.id) is not None for job in self.waiting)
        with progress(len(self.waiting), "grid", there, "runs") as counter:
            while self.waiting or self.under_way:
                yield from self.start()
                references = list(self.under_way)
                done, _ = self.ray.wait(references, num_returns=len(references), timeout=SECONDS_BETWEEN)
                for reference in done:
                    yield from self.fetch(self.under_way.pop(reference), reference)
                counter.set_postfix_str(f"{self.n_running()} running, {len(self.failed)} failed")
                counter.update(max(0, len(self.finished) + len(self.failed) - counter.n))

    def start(self) -> Iterator[tuple[Job, Run]]:
        """Hands over what waits for nothing more; gives what is finished already."""
        still = []
        for job in self.waiting:
            lost = [id for id in job.needs if id in self.failed]
            if lost:
                self.failed[job.id] = (job, f"needs {lost[0]}, which failed")
            elif not self.finished.issuperset(job.needs):
                still.append(job)
            elif run := finished(job.id):
                self.finished.add(job.id)
                yield job, run
            else:
                self.hand_over(job)
        self.waiting = still

    def hand_over(self, job: Job) -> None:
        images = self.keep(job.data, lambda: splits_of(job.data))
        needed = {id: self.keep(id, lambda id=id: files_of(run_folder(id))) for id in job.needs}
        takes = self.takes(job.kind)
        options = {"num_cpus": takes.get("CPU", 0), "num_gpus": takes.get("GPU", 0), "max_retries": RETRIES}
        task = self.task.options(**options, name=job.id)
        self.under_way[task.remote(job, max(1, int(options["num_cpus"])), [images], needed)] = job

    def keep(self, key: Any, value: Callable[[], Any]) -> Any:
        """The reference to `value()` in the cluster's memory, where it is put once."""
        if key not in self.in_memory:
            self.in_memory[key] = self.ray.put(value())
        return self.in_memory[key]

    def fetch(self, job: Job, reference: Any) -> Iterator[tuple[Job, Run]]:
        """The run of a job that Ray is done with, now in `results`; nothing where it failed."""
        try:
            files = self.ray.get(reference)
        except self.ray.exceptions.RayError as e:
            reason = e.cause if isinstance(e, self.ray.exceptions.RayTaskError) else e
            what = f"{type(reason).__name__}: {reason}".splitlines()[0]
            trace = "" if isinstance(reason, UserError) else f"\n{e}"  # what the user can mend says so in its line
            self.failed[job.id] = (job, what)
            tqdm.write(f"{job.id} failed: {what}; its config: {json.dumps(as_dict(job.config))}{trace}", sys.stderr)
            return
        write_run(job.id, files)
        self.finished.add(job.id)
        yield job, replace(finished(job.id), reused=False)

    def n_running(self) -> int:
        """How many jobs have a processor now; the others under way wait for one."""
        free, there = self.ray.available_resources(), self.ray.cluster_resources()
        asked = [self.takes(job.kind) for job in self.under_way.values()]
        shares = [
            (there.get(name, 0) - free.get(name, 0)) / (sum(takes.get(name, 0) for takes in asked) / len(asked))
            for name in ("CPU", "GPU")
            if any(name in takes for takes in asked)
        ]
        return min(len(asked), round(max(shares, default=0)))


def compute_there(job: Job, threads: int, images: list[Any], needed: dict[str, Any]) -> Files:
    """What a machine of the cluster does: the files of the job's finished run.

    `images`: the reference to the real images of its replicate; `needed`: references to the files of the runs that it
    needs, by their ids.
    """
    import ray

    torch.set_num_threads(threads)
    # the same for all runs of a process, so that images that were generated for one serve the next (jobs.synthetic)
    place = Path(tempfile.gettempdir()) / f"rag_lib-{os.getpid()}"
    os.environ["RAG_RESULTS"] = str(place)
    try:
        for id, reference in needed.items():
            write_run(id, ray.get(reference))
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # the driver's line tells of it
            run = compute(job, [finished(id) for id in needed], fetched(images[0]))
        return files_of(run.folder)
    finally:
        shutil.rmtree(place)


@lru_cache(maxsize=2)  # a process computes run after run on the same images
def fetched(reference: Any) -> Any:
    import ray

    return ray.get(reference)


def files_of(folder: Path) -> Files:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_run(id: str, files: Files) -> None:
    """Puts a finished run into `results`: it is there only with its last file, metrics.json."""
    folder = run_folder(id)
    with room_for(f"{id} in {folder}"), locked(lock_of(id), f"another process writes {id}; waiting for it"):
        if finished(id):
            return
        for name in sorted(files, key=lambda name: name == "metrics.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, files[name])
