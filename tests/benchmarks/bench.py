"""`make bench`: the training loops' speed against plain ones, and against what the processor can do.

Ours and the rival run in two processes that take turns, a few steps each, so that both see the same moods
of the machine; nothing else should be running. Speeds are medians over the turns. Images are random
pixels: the time of a step does not depend on what they show.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from rag_lib import checkpoint, train_classifier, train_gan
from rag_lib.config import ClassifierConfig, GanConfig
from rag_lib.paths import results_dir
from rag_lib.runs import environment
from rag_lib.training import pick_device, pick_precision

sys.path.insert(0, str(Path(__file__).parent))
import plain  # beside this file
from costs import checkpoint_seconds, data_seconds, operations, peak, profile, random_images, workloads

TURN_SECONDS = 0.8
TURNS = 12


class Turns:
    """Stands in for the progress counter: times the steps of each turn, and waits for the next between two."""

    def __init__(self):
        self.steps, self.start = 0, 0.0
        self.wait()

    def wait(self) -> None:
        if not sys.stdin.readline():
            print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
            sys.exit()
        self.steps, self.start = 0, time.perf_counter()

    def update(self, n: int) -> None:
        self.steps += n
        seconds = time.perf_counter() - self.start
        if seconds > TURN_SECONDS and self.steps > 1:
            print(seconds / self.steps, flush=True)
            self.wait()

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        pass


def work(name: str, loop: str) -> None:
    """What one of the two processes does: `loop` on workload `name`, in turns, until its input ends."""
    config = workloads()[name]
    images = random_images(config.data)
    if loop != "ours":
        turns = None
        for _ in getattr(plain, loop)(images, config):
            turns = turns or Turns()  # the first step is warm-up
            turns.update(1)
    module, given = (train_gan, images) if isinstance(config, GanConfig) else (train_classifier, {"train": images})
    checkpoint.progress = lambda total, title, done: nullcontext(Turns())
    with tempfile.TemporaryDirectory() as folder:
        module._train(config, given, Path(folder))


def race(name: str, *loops: str) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds a step (the median over the turns) and peak memory in MB of each loop on workload `name`."""
    command = [sys.executable, __file__, "--work", name, "--loop"]
    processes = {
        loop: subprocess.Popen([*command, loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for loop in loops
    }
    seconds: dict[str, list[float]] = {loop: [] for loop in loops}
    memory = {}
    for turn in range(-1, TURNS):
        for loop, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            measured = float(process.stdout.readline())
            if turn >= 0:  # one turn to warm up
                seconds[loop].append(measured)
    for loop, process in processes.items():
        process.stdin.close()
        memory[loop] = json.loads(process.stdout.readline())["peak_mb"]
        process.wait()
    return {loop: statistics.median(values) for loop, values in seconds.items()}, memory


def measure(name: str, config: GanConfig | ClassifierConfig) -> dict[str, object]:
    loops = ["ours", "gan"] if isinstance(config, GanConfig) else ["ours", "classifier", "ignite_classifier"]
    precision = pick_precision(config.precision, pick_device())
    before = peak(precision)
    seconds, memory = race(name, *loops)
    top = (before + peak(precision)) / 2
    speed = {loop: config.batch_size / s for loop, s in seconds.items()}
    achieved = operations(config) / seconds["ours"]
    return {
        "what": name,
        "ours_images_per_s": round(speed["ours"], 1),
        "plain_images_per_s": round(speed[loops[1]], 1),
        "ratio": round(speed["ours"] / speed[loops[1]], 2),
        "ignite_images_per_s": round(speed["ignite_classifier"], 1) if len(loops) > 2 else None,
        "ignite_ratio": round(speed["ours"] / speed["ignite_classifier"], 2) if len(loops) > 2 else None,
        "ours_ms_per_step": round(seconds["ours"] * 1e3, 2),
        "gflops": round(achieved / 1e9),
        "peak_gflops": round(top / 1e9),
        "share_of_peak": round(achieved / top, 3),
        "checkpoint_ms": round(checkpoint_seconds(config) * 1e3),
        "share_of_data": round(data_seconds(config) / seconds["ours"], 3),
        "ours_peak_mb": round(memory["ours"]),
        "plain_peak_mb": round(memory[loops[1]]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.work, options.loop)
    rows = []
    for name, config in workloads().items():
        if options.only in name:
            rows.append(measure(name, config))
            print(pd.DataFrame(rows).tail(1).to_string(index=False, header=len(rows) == 1), flush=True)
    if not options.only:
        tables = results_dir() / "tables"
        profiles = [profile(name) for name in ("GAN, MNIST", "cnn, MNIST", "resnet34, cifar stem, CIFAR-10")]
        print(pd.DataFrame(profiles).to_string(index=False))
        pd.DataFrame(profiles).to_csv(tables / "bench_profile.csv", index=False)
        pd.DataFrame(rows).to_csv(tables / "bench.csv", index=False)
        pd.DataFrame([environment("auto") | {"processor": processor()}]).to_csv(
            tables / "bench_provenance.csv", index=False
        )
        print(tables / "bench.csv")


def processor() -> str:
    """The processor's name and number of cores, as far as the system tells."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor()}"


if __name__ == "__main__":
    main()
