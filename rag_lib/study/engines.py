"""Who computes a job: this process, or worker processes on this machine; another takes the place of one that dies.

A third, a Ray cluster, is in cluster.py.
"""

import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from rag_lib.base import UserError
from rag_lib.runtime.files import LESS_MEMORY
from rag_lib.runtime.store import finished
from rag_lib.study.arms import splits_of
from rag_lib.study.plan import Job, compute

SPAWN = get_context("spawn")  # a process that was forked cannot use CUDA, nor the threads that its parent had
RETRIES = 5  # of a run whose process or machine is lost; one that fails by itself is not tried again


class Engine:
    """Computes jobs in this process, one after another; the others say how they differ."""

    room = 0.0  # processors that jobs may take together; a single one may take more
    orders = False  # whether a job may be submitted while those that it needs are running
    in_background = False  # whether one line tells of all jobs, and not each of itself

    def submit(self, job: Job, running: Mapping[str, Future]) -> Future:
        """Start a job; its future gives the files of its run, by path, or None where they lie in `results`."""
        future: Future = Future()
        try:
            future.set_result(compute_here(job))
        except Exception as e:
            future.set_exception(e)
        return future

    def take_in(self, job: Job, files: Any) -> None:
        """Put the files of a run into `results`."""

    def state(self, left: Sequence[Job], running: Mapping[str, Future]) -> str:
        """Say what is going on; raise `UserError` where a job that is left can be computed no more."""
        return f"{len(running)} running"

    def close(self) -> None:
        """Stop what is running, such that it can resume."""


def compute_here(job: Job) -> None:
    compute(job, [finished(need) for need in job.needs], splits_of(job.data))


class Workers(Engine):
    """So many processes; a thread of this process waits for each."""

    in_background = True

    def __init__(self, n: int):
        self.room = float(n)
        self.threads = ThreadPoolExecutor(n)
        self.own = threading.local()  # each thread's process, and the pipe to it
        self.processes: list[BaseProcess] = []
        self.closed, self.lock = False, threading.Lock()
        self.said: dict[str, str] = {}  # the last line of each run's progress, by the run's id

    def submit(self, job: Job, running: Mapping[str, Future]) -> Future:
        return self.threads.submit(self._compute, job)

    def state(self, left: Sequence[Job], running: Mapping[str, Future]) -> str:
        """Say how many runs are on their way, and how far the one is that began first."""
        lines = [self.said[name] for name in running if name in self.said]
        steps = re.match(r".* of \d+ steps", lines[0]) if lines else None
        return f"{len(running)} running" + (f" ({steps[0]})" if steps else "")

    def _compute(self, job: Job) -> None:
        for _ in range(1 + RETRIES):
            try:
                pipe = self._pipe()
                pipe.send(job)
                while isinstance(message := pipe.recv(), str):
                    self.said[job.id] = message
            except (EOFError, ConnectionError):  # its process has died; the next one resumes from the last checkpoint
                vars(self.own).clear()
            else:
                if message is not None:
                    raise message
                return
        raise UserError(f"its process died {1 + RETRIES} times, as it does where memory runs out; {LESS_MEMORY}")

    def _pipe(self) -> Connection:
        """Return the way to this thread's process, which is started where there is none."""
        with self.lock:
            if self.closed:
                raise EOFError
            if not hasattr(self.own, "pipe"):
                pipe, there = SPAWN.Pipe()
                process = SPAWN.Process(target=serve, args=(there,), daemon=True)
                main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
                try:
                    process.start()  # which would run a script once more
                finally:
                    sys.modules["__main__"] = main
                there.close()  # only that process has it now, so that its death ends the pipe
                self.processes.append(process)
                self.own.pipe = pipe
            return self.own.pipe

    def close(self) -> None:
        """Have the trainings write a checkpoint and end."""
        with self.lock:
            self.closed = True
            for process in self.processes:
                process.terminate()
        self.threads.shutdown()
        for process in self.processes:
            process.join()


class Lines(io.TextIOBase):
    """What a worker prints, its run's progress, as messages to the parent."""

    def __init__(self, pipe: Connection):
        self.pipe = pipe

    def write(self, text: str) -> int:
        if text.strip():
            self.pipe.send(text.strip())
        return len(text)


def serve(pipe: Connection) -> None:
    """Compute the jobs that come through the pipe; of each send its progress, then None or the error that ended it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which ends this process
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ["RAG_PROGRESS"] = "text"
    with redirect_stdout(Lines(pipe)):
        while True:
            try:
                compute_here(pipe.recv())
            except EOFError:
                return
            except UserError as e:
                pipe.send(e)
            except Exception as e:
                pipe.send(RuntimeError(f"{e!r}\n{traceback.format_exc()}"))
                return  # a device may refuse all that follows; a new process may not
            else:
                pipe.send(None)


def end_with_parent() -> None:
    parent_process().join()
    signal.raise_signal(signal.SIGTERM)  # after which a training writes a checkpoint
