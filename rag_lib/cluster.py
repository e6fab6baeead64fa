"""The jobs of a study on a Ray cluster, in any order that their needs allow, on whatever machines it has.

The machines share nothing but Ray: code, real images, generators and results travel through it, and only the driver,
the process that asked, writes into `results`. There a run is finished or absent; what a lost machine was computing is
computed again on another.
"""

import json
import math
import os
import re
import shlex
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import rag_lib
from rag_lib.cluster_task import Files, compute_there, files_of, write_run
from rag_lib.config import EngineConfig, as_dict
from rag_lib.errors import UserError
from rag_lib.jobs import Job, compute, splits_of
from rag_lib.progress import in_kernel, progress, to_set
from rag_lib.provenance import commit_of_code
from rag_lib.runs import Run, check_seen, finished, lock_of, run_folder
from rag_lib.storage import is_locked

RETRIES = 5  # of a run whose process or machine is lost; one that fails by itself is not tried again
SECONDS_BETWEEN = 0.2  # two looks at what is finished


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
        untried = sum(any(id in grid.failed for id in job.needs) for job, _ in grid.failed.values())
        need_them = f", {untried} that need them were not tried" if untried else ""
        raise UserError(
            f"{len(grid.failed) - untried} of {len(planned)} runs failed{need_them}, the others are finished; to try "
            f"again: {same_again()}"
        )


def same_again() -> str:
    """What the user does to ask for the same study once more."""
    program = sys.modules["__main__"].__spec__
    if program and program.name == "rag_lib.__main__":
        return f"python -m rag_lib {shlex.join(sys.argv[1:])}"
    return "run the cell again" if in_kernel() else "ask for the study again"


def connect(engine: EngineConfig) -> Any:
    """The module `ray`, connected to the cluster; raises `UserError` where that cannot be done."""
    try:
        import ray  # optional: one machine needs none of it
    except ImportError as e:
        raise UserError('engine = "ray" needs Ray: python -m pip install -e ".[ray]"') from e
    there = {"RAG_COMMIT": commit_of_code(), "RAG_PROGRESS": "text"}  # the code that travels is no clone
    code = {"py_modules": [str(Path(rag_lib.__file__).parent)], "excludes": ["__pycache__"], "env_vars": there}
    try:
        if found := re.fullmatch(r"([^/]+):(\d+)", address_of_head(engine)):  # for minutes Ray would try again
            socket.create_connection((found[1], int(found[2])), timeout=10).close()
        ray.init(address=engine.address, runtime_env=code, logging_level="warning")
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(
            f"engine.address = {engine.address!r}: {' '.join(str(e).split())}; `ray start --head` starts a cluster on "
            f"this machine, and {to_set('engine.address', 'local')} uses its processors for this command alone"
        ) from e
    return ray


def address_of_head(engine: EngineConfig) -> str:
    """Where Ray will look for the head; `auto` is what `ray start` has left, even of a cluster that is no more."""
    if engine.address != "auto":
        return engine.address
    left = Path(tempfile.gettempdir(), "ray", "ray_current_cluster")
    return os.environ.get("RAY_ADDRESS") or (left.read_text().strip() if left.exists() else "")


class Grid:
    """The jobs of a plan on a cluster: which wait, which are under way, which have failed."""

    def __init__(self, ray: Any, engine: EngineConfig, planned: Sequence[Job]):
        self.ray, self.engine, self.waiting = ray, engine, list(planned)
        self.kinds = list(dict.fromkeys(job.kind for job in planned))
        self.tasks = {kind: self.task(kind, compute_there) for kind in self.kinds}
        self.under_way: dict[Any, Job] = {}  # by Ray's reference to their result
        self.arrived: list[tuple[Job, Files]] = []  # whose folder another process holds
        self.finished: set[str] = set()
        self.failed: dict[str, tuple[Job, str]] = {}
        self.in_memory: dict[Any, Any] = {}  # Ray's references to real images, and to runs that others need
        self.users = Counter(key for job in planned for key in (job.data, *job.needs))  # jobs that will need them
        self.room()

    def task(self, kind: str, function: Callable[..., Any]) -> Any:
        """The function as a task of Ray's that takes what a run of this kind takes."""
        takes = self.takes(kind)
        options = {"num_cpus": takes.get("CPU", 0), "num_gpus": takes.get("GPU", 0), "max_retries": RETRIES}
        if "GPU" in takes:  # CUDA keeps to the first GPU that a process was given, Ray would give it another
            options["max_calls"] = 1
        return self.ray.remote(**options)(function)

    def room(self) -> int:
        """How many jobs are handed over at once: twice what the cluster computes, so that its memory holds little.

        Raises `UserError` where no machine has what a job takes, be it that the last one was lost.
        """
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        at_once = 0.0
        for kind in self.kinds:
            takes = self.takes(kind)
            of_machine = [min(has.get(name, 0) / amount for name, amount in takes.items()) for has in machines]
            if max(of_machine, default=0) < 1:
                raise UserError(f"no machine of the cluster has what a run of kind {kind} takes: {takes}; see engine.*")
            at_once = max(at_once, sum(of_machine))
        return 2 * math.ceil(at_once)

    def takes(self, kind: str) -> dict[str, float]:
        """What a run of this kind takes of a machine, in Ray's names."""
        amounts = {name: getattr(self.engine, f"{kind}_{name.lower()}s") for name in ("CPU", "GPU")}
        return {name: amount for name, amount in amounts.items() if amount}

    def runs(self) -> Iterator[tuple[Job, Run]]:
        there = sum(finished(job.id) is not None for job in self.waiting)
        with progress(len(self.waiting), "grid", there, "runs") as counter:
            while self.waiting or self.under_way or self.arrived:
                yield from self.start()
                if references := list(self.under_way):
                    done, _ = self.ray.wait(references, num_returns=len(references), timeout=SECONDS_BETWEEN)
                    for reference in done:
                        self.fetch(self.under_way.pop(reference), reference)
                elif self.waiting or self.arrived:  # for another process that computes what is missing here
                    time.sleep(SECONDS_BETWEEN)
                yield from self.write()
                counter.set_postfix_str(f"{self.n_running()} running, {len(self.failed)} failed")
                counter.update(max(0, len(self.finished) + len(self.failed) - counter.n))

    def start(self) -> Iterator[tuple[Job, Run]]:
        """Hands over what waits for nothing more; gives what is finished already."""
        still, room = [], self.room()
        for job in self.waiting:
            lost = [id for id in job.needs if id in self.failed]
            if lost:
                self.settle(job, f"needs {lost[0]}, which failed")
            elif len(self.under_way) >= room or not self.finished.issuperset(job.needs):
                still.append(job)
            elif run := finished(job.id) or unpacked(job):
                yield from self.reuse(job, run)
            elif is_locked(lock_of(job.id)):  # another process computes it
                still.append(job)
            else:
                self.hand_over(job)
        self.waiting = still

    def reuse(self, job: Job, run: Run) -> Iterator[tuple[Job, Run]]:
        """Gives a run that is finished already, but one that has seen images of another training of its generator."""
        gan = next((finished(id) for id in job.needs if id.startswith("gan-")), None)
        try:
            check_seen(run, gan)
        except UserError as e:
            return self.settle(job, str(e))
        self.settle(job)
        yield job, run

    def settle(self, job: Job, failure: str = "") -> None:
        """Books a job as finished or failed, and frees what no other needs."""
        if failure:
            self.failed[job.id] = (job, failure)
        else:
            self.finished.add(job.id)
        for key in (job.data, *job.needs):
            self.users[key] -= 1
            if not self.users[key]:
                self.in_memory.pop(key, None)

    def hand_over(self, job: Job) -> None:
        images = self.keep(job.data, lambda: splits_of(job.data))
        needed = {id: self.keep(id, lambda id=id: files_of(run_folder(id))) for id in job.needs}
        takes = self.takes(job.kind)
        device = os.environ.get("RAG_DEVICE", "") if "GPU" in takes else "cpu"  # a GPU that it sees is not its own
        task = self.tasks[job.kind].options(name=job.id)
        self.under_way[task.remote(job, max(1, int(takes.get("CPU", 0))), device, [images], needed)] = job

    def keep(self, key: Any, value: Callable[[], Any]) -> Any:
        """The reference to `value()` in the cluster's memory, where it is put once."""
        if key not in self.in_memory:
            self.in_memory[key] = self.ray.put(value())
        return self.in_memory[key]

    def fetch(self, job: Job, reference: Any) -> None:
        """Takes in the files of a job that Ray is done with, or why it failed."""
        try:
            self.arrived.append((job, self.ray.get(reference)))
        except self.ray.exceptions.RayError as e:
            reason = e.cause if isinstance(e, self.ray.exceptions.RayTaskError) else e
            what = f"{type(reason).__name__}: {reason}".splitlines()[0]
            trace = "" if isinstance(reason, UserError) else f"\n{e}"  # what the user can mend says so in its line
            self.settle(job, what)
            tqdm.write(f"{job.id} failed: {what}; its config: {json.dumps(as_dict(job.config))}{trace}", sys.stderr)

    def write(self) -> Iterator[tuple[Job, Run]]:
        """Puts what has arrived into `results`, but where another process holds the folder: that waits its turn."""
        arrived, self.arrived = self.arrived, []
        for job, files in arrived:
            if is_locked(lock_of(job.id)):
                self.arrived.append((job, files))
            else:
                write_run(job.id, files)
                self.settle(job)
                yield job, replace(finished(job.id), reused=False)

    def n_running(self) -> int:
        """About how many jobs have a processor now, where the cluster is ours alone; the others under way wait."""
        free, there = self.ray.available_resources(), self.ray.cluster_resources()
        asked = [self.takes(job.kind) for job in self.under_way.values()]
        shares = [
            (there.get(name, 0) - free.get(name, 0)) / (sum(takes.get(name, 0) for takes in asked) / len(asked))
            for name in ("CPU", "GPU")
            if any(name in takes for takes in asked)
        ]
        return min(len(asked), round(max(shares, default=0)))


def unpacked(job: Job) -> Run | None:
    """The run of a pretrained generator, whose file is here and takes no computing; None for any other job."""
    return compute(job, [], splits_of(job.data)) if getattr(job.config, "pretrained", "") else None
