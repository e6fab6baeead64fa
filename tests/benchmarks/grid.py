"""What a run costs beyond its own time on Ray: `python tests/benchmarks/grid.py`, five minutes on an idle machine.

The same grid of 202 tiny runs in this process, then on clusters of 1, 2 and 4 machines of one processor each, all of
them simulated on this one. A run's overhead is how much longer it keeps a machine's processor than it does in this
process: the wall time times the machines (or this one's processors, if these are fewer), less what the local grid
took, over the runs. In it are Ray's scheduling, sending images, generators and results, starting processes, and
waiting for the GAN; not joining the cluster, which is told apart.
"""

import os
import sys
import tempfile
import time
from unittest import mock

os.environ |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAG_PROGRESS": "text"}
import pandas as pd
from bench import write  # beside this file
from ray.cluster_utils import Cluster

from rag_lib import study
from rag_lib.base import results_dir
from rag_lib.runtime.provenance import environment
from rag_lib.settings.config import Settings
from rag_lib.study import cluster
from rag_lib.study.plan import jobs
from rag_lib.study.resolve import resolve

NODES = (1, 2, 4)


def settings(**engine: str) -> Settings:
    overrides = {"classifiers": {"cnn": 40}} | {f"engine.{name}": value for name, value in engine.items()}
    return resolve(preset="smoke", overrides=overrides)


def seconds_of(grid: Settings) -> float:
    """The wall time of the grid from its first run handed over to its last in the table, in results of its own."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, RAG_RESULTS=folder):
        start = time.perf_counter()
        study.run([grid])
        return time.perf_counter() - start


def main() -> None:
    n, processors = len(jobs([settings()])), os.cpu_count()
    seconds_of(settings())  # warm-up: imports, the disk's cache
    local = seconds_of(settings())
    rows = [{"engine": "local", "machines": 1, "runs": n, "seconds": local, "ms_per_run": 1000 * local / n}]
    for nodes in NODES:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        for _ in range(nodes - 1):
            made.add_node(num_cpus=1)
        there = {"name": "ray", "address": made.address}
        for _ in range(2):  # the first one sends the code, too
            start = time.perf_counter()
            cluster.connect(settings(**there).engine).shutdown()
            joining = time.perf_counter() - start
        seconds = seconds_of(settings(**there)) - joining
        made.shutdown()
        of_run = 1000 * seconds * min(nodes, processors) / n
        overhead = of_run - rows[0]["ms_per_run"]
        rows.append({"engine": "ray", "machines": nodes, "runs": n, "seconds": seconds, "ms_per_run": of_run})
        rows[-1] |= {"overhead_ms_per_run": overhead, "joining_seconds": joining}
    table = pd.DataFrame(rows).round(1)
    print(table.to_string(index=False))
    machine = environment("auto") | {"processors": processors}
    write(results_dir(), bench_grid=table.to_dict("records"), bench_grid_provenance=[machine])


if __name__ == "__main__":
    sys.exit(main())
