"""How the scheduler scales: `python tests/benchmarks/grid.py`, half a minute.

A study's plan as simulated work, of seconds that pass, by as many workers as a machine might have.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from unittest import mock

os.environ["RAG_PROGRESS"] = "text"
import pandas as pd
from bench import write  # beside this file

from rag_lib.base import results_dir
from rag_lib.runtime.provenance import environment
from rag_lib.study import scheduler
from rag_lib.study.engines import Engine
from rag_lib.study.plan import Job, jobs
from rag_lib.study.resolve import resolve

SECONDS = {"gan": 0.5, "classifier": 0.1, "quality": 0.02}  # of simulated runs
CORES = (1, 2, 4, 8, 16)


class Simulated(Engine):
    """So many processors, on each of which a run takes its seconds and computes nothing."""

    in_background = True

    def __init__(self, cores: int):
        self.room = float(cores)
        self.threads = ThreadPoolExecutor(cores)

    def submit(self, job: Job, running: Mapping[str, Future]) -> Future:
        return self.threads.submit(time.sleep, SECONDS[job.kind])


def simulated(cores: int) -> dict[str, object]:
    planned = jobs([resolve(replicates=5, overrides={"classifiers": {"cnn": 3}, "engine.gan_cpus": 1.0})])
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, RAG_RESULTS=folder),
        mock.patch.object(scheduler, "outcome", return_value=None),
    ):
        list(scheduler.scheduled(Simulated(cores), planned, {}))
    return {"engine": "simulated", "processors": cores, "runs": len(planned), "seconds": time.perf_counter() - start}


def main() -> None:
    table = pd.DataFrame(map(simulated, CORES)).round(2)
    print(table.to_string(index=False))
    machine = environment("auto") | {"processors": os.cpu_count()}
    write(results_dir(), bench_grid=table.to_dict("records"), bench_grid_provenance=[machine])


if __name__ == "__main__":
    sys.exit(main())
