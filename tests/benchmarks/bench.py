"""`make bench`: the training loops' speed against plain ones, and against what the processor can do.

Ours and its rivals run in a process each and take turns, a few steps at a time, so that all see the same
moods of the machine; nothing else should be running. Speeds are medians over the turns. Images are random
pixels: the time of a step does not depend on what they show.

A processor with AVX-512 measures as if it had AVX2 alone, and so no bfloat16, by

    export ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2
    python tests/benchmarks/bench.py --precision fp32
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pandas as pd
import plain  # beside this file, as is costs
from costs import data_seconds, operations, peak, random_images, synchronize, workloads

from rag_lib.base import results_dir
from rag_lib.classifiers.train import train_classifier
from rag_lib.gan.train import train_gan
from rag_lib.runtime import steps
from rag_lib.runtime.numerics import pick_device, pick_precision
from rag_lib.runtime.provenance import environment, processor
from rag_lib.settings.config import ClassifierConfig, GanConfig

TURN_SECONDS = 0.8
TURNS = 10
PAUSE = 0.1  # seconds


class Clock:
    """Stands in for the progress counter: after `warm_up` steps it times at least as many, for `seconds`.

    `begin` is called before the first of these, `end` with the seconds a step after the last; then it begins anew.
    """

    def __init__(self, seconds: float, warm_up: int, begin: Callable[[], object], end: Callable[[float], object]):
        self.seconds, self.warm_up, self.begin, self.end = seconds, warm_up, begin, end
        self.steps = -warm_up

    def update(self, n: int, settle: Callable[[], None] = lambda: None) -> None:
        self.steps += n
        if self.steps >= self.warm_up and time.perf_counter() - self.start >= self.seconds:
            synchronize()  # what is still queued belongs to these steps
            self.end((time.perf_counter() - self.start) / self.steps)
            self.steps = 0
        if self.steps == 0:
            self.begin()
            settle()
            synchronize()
            self.start = time.perf_counter()

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        pass


def wait_for_turn() -> None:
    if not sys.stdin.readline():
        sys.exit()


def tell(seconds: float) -> None:
    time.sleep(PAUSE)  # until no worker fetches ahead any more
    print(seconds, flush=True)


def train(config: GanConfig | ClassifierConfig, loop: str, counter: Clock) -> None:
    """Train by `loop` on random images until `counter`, which is told of every step, ends it."""
    images = random_images(config.data)
    if loop != "ours":
        getattr(plain, loop)(images, config, lambda settle: counter.update(1, settle))
    told = mock.patch.object(steps, "progress", return_value=nullcontext(counter))
    with told, tempfile.TemporaryDirectory() as folder:
        if isinstance(config, GanConfig):
            train_gan(config, images, Path(folder))
        else:
            train_classifier(config, {"train": images}, Path(folder), "")


def race(name: str, precision: str, *loops: str) -> dict[str, float]:
    """Seconds a step (the median over the turns) of each loop on workload `name`."""
    command = [sys.executable, __file__, "--precision", precision, "--work", name, "--loop"]
    processes = {
        loop: subprocess.Popen([*command, loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for loop in loops
    }
    seconds: dict[str, list[float]] = {loop: [] for loop in loops}
    for turn in range(-1, TURNS):
        for loop, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            measured = float(process.stdout.readline())
            if turn >= 0:  # one turn to warm up
                seconds[loop].append(measured)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {loop: statistics.median(values) for loop, values in seconds.items()}


def measure(name: str, config: GanConfig | ClassifierConfig) -> dict[str, object]:
    """One row of the table."""
    precision = pick_precision(config.precision, pick_device())
    rivals = ["plain", *(["plain_bf16"] if precision == "bf16" else [])]  # emulated it is 25 times as slow
    rivals += ["ignite"] if isinstance(config, ClassifierConfig) else []
    before = peak(precision)
    seconds = race(name, precision, "ours", *rivals)
    top = (before + peak(precision)) / 2
    achieved = operations(config) / seconds["ours"]
    speeds = {f"{loop}_images_per_s": round(config.batch_size / s, 1) for loop, s in seconds.items()}
    ratios = {f"ratio_to_{loop}": round(seconds[loop] / seconds["ours"], 2) for loop in rivals}
    return {
        "what": name,
        **speeds,
        **ratios,
        "ms_per_step": round(seconds["ours"] * 1e3, 2),
        "gflop_per_s": round(achieved / 1e9),
        "matrix_product_gflop_per_s": round(top / 1e9),
        "share_of_peak": round(achieved / top, 3),
        "share_of_data": round(data_seconds(config) / seconds["ours"], 3),
    }


def write(results: Path, **tables: list[dict[str, object]]) -> None:
    """Write these tables by their names, each a list of rows, into the folder `results`."""
    (results / "tables").mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(results / "tables" / f"{name}.csv", index=False, lineterminator="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="workloads whose name contains this; no table is written")
    text = "that our loops compute in (default: auto, bf16 where the processor computes in it)"
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help=text)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        clock = Clock(TURN_SECONDS, 1, wait_for_turn, tell)
        return train(workloads(options.precision)[options.work], options.loop, clock)  # until the input ends
    held = " (its AVX-512 unused)" if os.environ.get("ONEDNN_MAX_CPU_ISA") else ""
    rows = []
    for name, config in workloads(options.precision).items():
        if options.only not in name:
            continue
        rows.append(measure(name, config))
        print("\n".join(f"{key:>28}  {value}" for key, value in rows[-1].items()), end="\n\n", flush=True)
        if not options.only:  # after every row, so that an interrupted benchmark leaves what it has
            machine = environment(options.precision) | {"processor": f"{os.cpu_count()} cores, {processor()}{held}"}
            name = f"bench_{machine['precision']}"
            write(results_dir(), **{name: rows, f"{name}_provenance": [machine]})


if __name__ == "__main__":
    main()
