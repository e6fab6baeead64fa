"""What a GPU is lent for, each part within its minutes: whether and how fast the project runs there, then its tables.

    python tests/benchmarks/gpu.py check --minutes 2 --out FOLDER
    python tests/benchmarks/gpu.py tables --minutes 9 --out FOLDER

`check` measures on random images and leaves check.csv and profile.txt. `tables` is in gpu_tables.py. Both write as they
go, so that being cut off loses only what was under way.
"""

import argparse
import csv
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import bench  # beside this file, as are gpu_tables, plain and costs
import gpu_tables
import plain
import torch
from costs import random_images

from rag_lib.classifiers import train as train_classifier
from rag_lib.gan import train as train_gan
from rag_lib.runtime import steps
from rag_lib.runtime.files import checkpoints, load_weights, newest
from rag_lib.runtime.numerics import pick_device
from rag_lib.runtime.provenance import environment
from rag_lib.runtime.store import Run, run_folder, run_id
from rag_lib.settings.config import CLASSIFIERS, ClassifierConfig, GanConfig
from rag_lib.study.engines import SPAWN
from rag_lib.study.resolve import resolve

sys.path.append(str(Path(__file__).parents[1]))  # for helpers.py
import helpers

WARM_UP = 10  # steps, and at least as many are measured


class EnoughError(Exception):
    """Ends a training that has been measured."""


def rate(
    config: GanConfig | ClassifierConfig, loop: str, seconds: float, begin: Callable[[], object] = lambda: None
) -> float:
    measured: list[float] = []

    def end(seconds_a_step: float) -> None:
        measured.append(seconds_a_step)
        raise EnoughError

    with suppress(EnoughError):
        bench.train(replace(config, steps=50_000), loop, bench.Clock(seconds, WARM_UP, begin, end))
    return round(config.batch_size / measured[0], 1)


@contextmanager
def plain_calls() -> Iterator[None]:
    """Our loops without a graph."""

    def captured(step: Callable, *_: Any) -> Callable:
        return step

    with mock.patch.object(train_gan, "captured", captured), mock.patch.object(train_classifier, "captured", captured):
        yield


def profile(config: GanConfig | ClassifierConfig) -> str:
    """Where the time of some steps goes, by operation, on the device first."""
    on_gpu = pick_device().type == "cuda"
    kinds = torch.profiler.ProfilerActivity
    recorded = torch.profiler.profile(activities=[kinds.CPU, *([kinds.CUDA] if on_gpu else [])])
    rate(config, "ours", 0.0, recorded.start)
    recorded.stop()
    by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return recorded.key_averages().table(sort_by=by, row_limit=30, max_name_column_width=60)


def train(config: GanConfig | ClassifierConfig) -> Run:
    """A training as the study does it, to its end, on random images that are the same in every process."""
    torch.manual_seed(0)
    images = random_images(config.data)
    if isinstance(config, GanConfig):
        return helpers.train_gan(config, images)
    return helpers.train_classifier(config, {"train": images, "test": images[:250]})


def seconds_to_its_end(config: GanConfig | ClassifierConfig) -> float:
    return train(config).environment()["seconds"]


def train_with_checkpoints(config: GanConfig) -> None:
    steps.SECONDS_BETWEEN, steps.MAX_SHARE = 0.0, 1.0  # after every step
    train(config)


def killed_and_resumed(config: GanConfig) -> str:
    """Kill a training in another process and resume it here; compare its weights with those of uninterrupted ones."""
    folder = run_folder(run_id("gan", config))
    child = SPAWN.Process(target=train_with_checkpoints, args=(config,))
    child.start()
    try:
        while child.is_alive() and not any(int(path.stem[-8:]) >= WARM_UP for path in checkpoints(folder)):
            time.sleep(0.01)
    finally:
        child.kill()
        child.join()
    step = newest(folder)["done"]
    return f"from step {step}; {differences(trained(config, attempts=2), trained(config), trained(config))}"


def by_graph_and_plain_call(config: GanConfig | ClassifierConfig) -> str:
    """Compare the weights of a training by plain calls with those of the same one by a graph, twice."""
    with plain_calls():
        plain = trained(config)
    return differences(plain, trained(config), trained(config))


def trained(config: GanConfig | ClassifierConfig, attempts: int = 1) -> torch.Tensor:
    """All weights after a training of so many attempts, in a row; its folder is removed."""
    run = train(config)
    if run.environment()["attempts"] != attempts:
        raise RuntimeError(f"{run.environment()['attempts']} attempts at {run.id}")
    name = "generator" if isinstance(config, GanConfig) else "classifier"
    weights, _ = load_weights(run.folder / f"{name}.safetensors")
    shutil.rmtree(run.folder)
    return torch.cat([w.float().flatten() for w in weights.values()])


def differences(first: torch.Tensor, once: torch.Tensor, twice: torch.Tensor) -> str:
    """Say by how much the first weights differ, beside what two trainings of one kind do."""
    return f"weights differ by {(first - once).abs().max():g}, of two alike by {(twice - once).abs().max():g}"


def check(preset: str, seconds: float, out: Path) -> int:
    """Measure in order of worth, each rate for `seconds`, a row each; return how many failed."""
    settings = resolve("mnist", preset, overrides={"classifiers": dict.fromkeys(CLASSIFIERS, 1)})
    kinds = {"GAN": settings.gan} | {config.model: config for config, _ in settings.classifiers}
    plain.TRIAL_SECONDS = seconds / 3
    failures = []
    with ExitStack() as stack:
        file = stack.enter_context(open(out / "check.csv", "w", newline="", buffering=1))
        results = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(mock.patch.dict(os.environ, RAG_RESULTS=results))
        table = csv.writer(file)

        def enter(what: str, measured: str, value: Callable[..., Any], *given: Any) -> Any:
            try:
                found = value(*given)
            except Exception as e:
                traceback.print_exc()
                failures.append(what)
                found = f"failed: {e!r}"
            table.writerow((what, measured, found))
            print(what, measured, found, flush=True)
            return found

        def enter_rates(measured: str, loop: str) -> dict[str, Any]:
            return {name: enter(name, f"{measured}, images/s", rate, of, loop, seconds) for name, of in kinds.items()}

        table.writerow(("what", "measured", "value"))
        for name, value in machine().items():
            enter("machine", name, str, value)
        for name, config in kinds.items():
            enter(name, "seconds of a training to its end", seconds_to_its_end, replace(config, steps=WARM_UP))
        ours = enter_rates("ours", "ours")
        with plain_calls():
            enter_rates("ours without a graph", "ours")
        enter("GAN", "killed and resumed", killed_and_resumed, replace(settings.gan, steps=6 * WARM_UP))
        for name in ("GAN", "cnn"):
            short = replace(kinds[name], steps=20 * WARM_UP)
            enter(name, f"plain calls against a graph, {short.steps} steps", by_graph_and_plain_call, short)
        enter_rates("plain", "plain")
        slowest = min(kinds, key=lambda name: ours[name] if isinstance(ours[name], float) else math.inf)
        enter(slowest, "profile, characters", lambda: (out / "profile.txt").write_text(profile(kinds[slowest])))
        enter_rates("plain_bf16", "plain_bf16")
    return len(failures)


def machine() -> dict[str, Any]:
    """The versions, the device's name, and what its numbers and its speed may depend on."""
    matmul, conv = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "cores": os.cpu_count()}
    chosen = {"fp32 products": matmul, "fp32 convolutions": conv, "autotuning": torch.backends.cudnn.benchmark}
    return environment("auto") | versions | chosen


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("check", "tables"))
    parser.add_argument("--minutes", type=float, required=True, help="the wall time it may take after its imports")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="a folder (default: $OUT)")
    parser.add_argument("--preset", default="paper", help="smoke to rehearse (default: paper)")
    parser.add_argument("--earlier", type=Path, help="tables: the folder that an earlier visit left")
    parser.add_argument("--workers", type=int, default=max(2, min(4, os.cpu_count() // 2)), help="tables: processes")
    options = parser.parse_args(arguments)
    if options.out is None:
        parser.error("--out is missing")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("RAG_PROGRESS", "text")
    if options.part == "tables":
        return bool(gpu_tables.tables(options.preset, options.minutes, options.out, options.earlier, options.workers))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 60 * options.minutes)
    try:
        return bool(check(options.preset, options.minutes / 2, options.out))
    except KeyboardInterrupt:
        print("the minutes are over; check.csv has what was measured", flush=True)
        return 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(main())
