"""`make bench`: the training loops' speed against plain ones, and against what the processor can do.

Ours and its rivals run in a process each and take turns, a few steps at a time, so that all see the same
moods of the machine; nothing else should be running. Speeds are medians over the turns. Images are random
pixels: the time of a step does not depend on what they show.
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
from typing import Any
from unittest import mock

import pandas as pd

from rag_lib.base import results_dir
from rag_lib.classifiers.train import train_classifier
from rag_lib.gan.train import train_gan
from rag_lib.runtime import steps as checkpoint
from rag_lib.runtime.numerics import pick_device, pick_precision
from rag_lib.runtime.provenance import environment
from rag_lib.settings.config import ClassifierConfig, GanConfig

sys.path.insert(0, str(Path(__file__).parent))
import plain  # beside this file
from costs import checkpoint_seconds, data_seconds, operations, peak, profile, random_images, synchronize, workloads

TURN_SECONDS = 0.8
TURNS = 10
PAUSE = 0.1  # seconds


class Turns:
    """Stands in for the progress counter: times the steps of each turn, and waits for the next between two."""

    def __init__(self):
        self.steps, self.start = 0, None

    def update(self, n: int, settle: Callable[[], None] = lambda: None) -> None:
        if self.start is None:  # the first step of all is warm-up
            return self.wait(settle)
        synchronize()
        self.steps += n
        seconds = time.perf_counter() - self.start
        if seconds > TURN_SECONDS:
            time.sleep(PAUSE)  # until no worker fetches ahead any more
            print(seconds / self.steps, flush=True)
            self.wait(settle)

    def wait(self, settle: Callable[[], None]) -> None:
        if not sys.stdin.readline():
            sys.exit()
        settle()
        self.steps, self.start = 0, time.perf_counter()

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        pass


def train(config: GanConfig | ClassifierConfig, loop: str, counter: Any) -> None:
    """Train by `loop` on random images until `counter`, which is told of every step, ends it."""
    images = random_images(config.data)
    if loop != "ours":
        getattr(plain, loop)(images, config, lambda settle: counter.update(1, settle))
    told = mock.patch.object(checkpoint, "progress", return_value=nullcontext(counter))
    with told, tempfile.TemporaryDirectory() as folder:
        if isinstance(config, GanConfig):
            train_gan(config, images, Path(folder))
        else:
            train_classifier(config, {"train": images}, Path(folder))


def race(name: str, *loops: str) -> dict[str, float]:
    """Seconds a step (the median over the turns) of each loop on workload `name`."""
    command = [sys.executable, __file__, "--work", name, "--loop"]
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
    rivals = ["plain", "plain_bf16"] if isinstance(config, GanConfig) else ["plain", "plain_bf16", "ignite"]
    precision = pick_precision(config.precision, pick_device())
    before = peak(precision)
    seconds = race(name, "ours", *rivals)
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
        "checkpoint_ms": round(checkpoint_seconds(config) * 1e3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="workloads whose name contains this; no table is written")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return train(workloads()[options.work], options.loop, Turns())  # until the input ends
    tables = results_dir() / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    rows, profiles = [], []
    for name, config in workloads().items():
        if options.only not in name:
            continue
        rows.append(measure(name, config))
        print("\n".join(f"{key:>28}  {value}" for key, value in rows[-1].items()), end="\n\n", flush=True)
        profiles.append(profile(name))
        if not options.only:  # after every row, so that an interrupted benchmark leaves what it has
            pd.DataFrame(rows).to_csv(tables / "bench.csv", index=False)
            pd.DataFrame(profiles).to_csv(tables / "bench_profile.csv", index=False)
            machine = environment("auto") | {"cores": os.cpu_count()}
            pd.DataFrame([machine]).to_csv(tables / "bench_provenance.csv", index=False)
    print(pd.DataFrame(profiles).to_string(index=False))


if __name__ == "__main__":
    main()
