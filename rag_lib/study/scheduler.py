"""The scheduler of a plan's jobs, the same for all engines: what is ready and finds room starts."""

import json
import shlex
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext

import torch
from tqdm import tqdm

from rag_lib.base import UserError
from rag_lib.runtime.files import is_locked
from rag_lib.runtime.numerics import pick_device
from rag_lib.runtime.progress import in_kernel, progress
from rag_lib.runtime.store import Run, check_seen, finished, lock_of, run_folder
from rag_lib.settings.config import EngineConfig, as_dict
from rag_lib.study.engines import Engine, Workers
from rag_lib.study.plan import Job

SECONDS_BETWEEN = 0.2  # two looks at what is finished
MEMORY = 1.5e9  # bytes that a worker may take: more than it does with all of MNIST


def engine_of(config: EngineConfig, planned: Sequence[Job]) -> Engine:
    """Return the engine of these settings; worker processes only where several could be busy."""
    if config.name == "ray":
        from rag_lib.study.cluster import OnRay  # with Ray, which one machine needs not

        return OnRay(config, planned)
    workers = min(config.workers or processors(), sum(not finished(job.id) for job in planned))
    return Workers(workers) if workers > 1 else Engine()


def processors() -> int:
    """How many workers this machine has processors and memory for; 1 on a GPU, which would not be theirs alone."""
    import psutil

    if pick_device().type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), int(psutil.virtual_memory().available / MEMORY)))


def compute_all(config: EngineConfig, planned: Sequence[Job]) -> Iterator[tuple[Job, Run]]:
    """Compute the jobs; give each with its run as soon as it is there, after those that it needs.

    Those that fail do not stop the others: each is reported on stderr, and at the end a `UserError` counts them.
    """
    failed: dict[str, str] = {}  # why, by the run's id
    engine = engine_of(config, planned)
    try:
        yield from scheduled(engine, planned, failed)
    finally:
        engine.close()
    if failed:
        untried = sum(job.id in failed and not failed.keys().isdisjoint(job.needs) for job in planned)
        need_them = f", {untried} that need them were not tried" if untried else ""
        raise UserError(
            f"{len(failed) - untried} of {len(planned)} runs failed{need_them}, the others are finished; the first: "
            f"{next(iter(failed.values()))}; to try again: {same_again()}"
        )


def scheduled(engine: Engine, planned: Sequence[Job], failed: dict[str, str]) -> Iterator[tuple[Job, Run]]:
    """Give each job with its run, after those that it needs; put into `failed` why there is none."""
    left = {job.id: job for job in planned}
    there = {name for name in left if finished(name)}
    settled = set(there)  # nothing is left to compute
    running: dict[str, Future] = {}
    with progress(len(left), "grid", len(settled), "runs") if engine.in_background else nullcontext() as counter:
        while left:
            for job in left.values():
                if job.id in running or job.id in settled:
                    continue
                if any(n in left and n not in there and not (engine.orders and n in running) for n in job.needs):
                    continue
                if failed.keys() & job.needs:
                    settled.add(job.id)
                elif not running or sum(left[name].threads for name in running) + job.threads <= engine.room:
                    running[job.id] = engine.submit(job, running)
            ready = settled | {name for name, future in running.items() if future.done()}
            came = [job for job in left.values() if job.id in ready and not left.keys() & job.needs]
            came = [job for job in came if not is_locked(lock_of(job.id))]  # another process computes it
            for job in came:
                del left[job.id]
                if (run := outcome(engine, job, running.pop(job.id, None), failed)) is not None:
                    yield job, run
            if counter:
                counter.set_postfix_str(f"{engine.state(list(left.values()), running)}, {len(failed)} failed")
                counter.update(sum(job.id not in settled for job in came))
            if not came:
                pause(running.values())


def pause(running: Iterable[Future]) -> None:
    """Wait a little, or until one of these is done; no name outlives it, since a future keeps what its run took."""
    busy = [future for future in running if not future.done()]
    wait(busy, SECONDS_BETWEEN, FIRST_COMPLETED) if busy else time.sleep(SECONDS_BETWEEN)


def outcome(engine: Engine, job: Job, future: Future | None, failed: dict[str, str]) -> Run | None:
    """Return the run of a job; report why there is none, put that into `failed`, and return None."""
    if lost := failed.keys() & job.needs:
        failed[job.id] = f"needs {min(lost)}, which failed"
        return None
    try:
        if future is not None and (files := future.result()):
            engine.take_in(job, files)
        if (run := finished(job.id)) is None:
            raise UserError(f"{job.id} has gone from {run_folder(job.id).parent} since; ask for it again")
        check_seen(run, next((finished(need) for need in job.needs if need.startswith("gan-")), None))
    except Exception as e:
        cause = getattr(e, "cause", e)  # Ray wraps what a task raises
        mendable = isinstance(cause, UserError)
        why = str(cause) if mendable else f"{type(cause).__name__}: {cause}"
        title = f"{job.title or job.kind}: "
        failed[job.id] = title + why.splitlines()[0].removeprefix(title)
        trace = "" if mendable else "\n" + "".join(traceback.format_exception(e))
        tqdm.write(
            f"{job.id} failed: {failed[job.id]}; its config: {json.dumps(as_dict(job.config))}{trace}", sys.stderr
        )
        return None
    return run


def same_again() -> str:
    """Say what the user does to ask for the same study once more."""
    program = sys.modules["__main__"].__spec__
    if program and program.name == "rag_lib.__main__":
        return f"python -m rag_lib {shlex.join(sys.argv[1:])}"
    return "run the cell again" if in_kernel() else "ask for the study again"
