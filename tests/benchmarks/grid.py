"""What a run costs beyond its own time: `python tests/benchmarks/grid.py`, ten minutes on an idle machine.

Two grids of tiny runs, a small and a large one, by each engine: in this process, by worker processes, and on clusters
of one or two machines of one processor each, simulated on this one. What the larger grid takes longer, over the runs
that it has more, is a run's time without what it takes to start; times the processors, less the same in this process,
it is a run's overhead. Then the same plan as simulated work, of seconds that pass, by as many workers as a machine
might have.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from unittest import mock

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAG_PROGRESS": "text"}
import pandas as pd
from bench import write  # beside this file
from ray.cluster_utils import Cluster

from rag_lib import study
from rag_lib.base import results_dir
from rag_lib.runtime.provenance import environment
from rag_lib.settings.config import Settings
from rag_lib.study import scheduler
from rag_lib.study.engines import Engine
from rag_lib.study.plan import Job, jobs
from rag_lib.study.resolve import resolve

SIZES = (2, 20)  # classifiers an arm
SECONDS = {"gan": 0.5, "classifier": 0.1, "quality": 0.02}  # of simulated runs
CORES = (1, 2, 4, 8, 16)


def settings(size: int, **engine: object) -> Settings:
    given = {"gan_cpus": 1.0} | engine
    overrides = {"classifiers": {"cnn": size}} | {f"engine.{name}": value for name, value in given.items()}
    return resolve(preset="smoke", overrides=overrides)


def seconds_of(grid: Settings) -> float:
    """The wall time of the grid from its first run to its last in the table, in results of its own."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, RAG_RESULTS=folder):
        start = time.perf_counter()
        study.run([grid])
        return time.perf_counter() - start


def measured(processors: int, **engine: object) -> dict[str, object]:
    """Seconds of the larger grid, and milliseconds of a processor a run."""
    grids = [settings(size, **engine) for size in SIZES]
    runs, seconds = [len(jobs([grid])) for grid in grids], [seconds_of(grid) for grid in grids]
    of_run = 1000 * processors * (seconds[1] - seconds[0]) / (runs[1] - runs[0])
    return {"processors": processors, "runs": runs[1], "seconds": seconds[1], "ms_per_run": of_run}


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
    seconds_of(settings(SIZES[0], workers=1))  # warm-up: imports, the disk's cache
    rows = [{"engine": "local"} | measured(1, workers=1)]
    rows += [{"engine": "local"} | measured(2, workers=2)]
    for nodes in (1, 2):
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        for _ in range(nodes - 1):
            made.add_node(num_cpus=1)
        rows.append({"engine": "ray"} | measured(nodes, name="ray", address=made.address))
        made.shutdown()
    for row in rows[1:]:
        row["overhead_ms_per_run"] = row["ms_per_run"] - rows[0]["ms_per_run"]
    table = pd.DataFrame([*rows, *map(simulated, CORES)]).round(2)
    print(table.to_string(index=False))
    machine = environment("auto") | {"processors": os.cpu_count()}
    write(results_dir(), bench_grid=table.to_dict("records"), bench_grid_provenance=[machine])


if __name__ == "__main__":
    sys.exit(main())
