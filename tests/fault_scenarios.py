"""What test_reliability.py does to real processes: `python fault_scenarios.py SCENARIO` fails unless all ends well.

Attempts at a run are forked from this process, which has imported everything and started no thread: a child
is up in milliseconds, and killing it is as real as killing any process.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from helpers import train_classifier, train_gan

from rag_lib.base import results_dir
from rag_lib.data.datasets import load
from rag_lib.runtime import files as storage
from rag_lib.runtime import steps as checkpoint
from rag_lib.runtime.store import Run
from rag_lib.settings.config import ClassifierConfig, DataConfig, GanConfig

torch.set_num_threads(1)  # threads would not survive the fork
checkpoint.SECONDS_BETWEEN, checkpoint.MAX_SHARE = 0.0, float("inf")  # one after every step
GAN = GanConfig(width=8, steps=400, batch_size=16, ema=0.9, lr=1e-3)
SHORT = replace(GAN, steps=60)
CLASSIFIER = ClassifierConfig(steps=500, batch_size=16, lr=1e-3)
RESULTS = results_dir()
digits = load(DataConfig())
small = {"train": digits.train, "val": digits.val[:50], "test": digits.test[:50]}


def train(config: GanConfig | ClassifierConfig) -> Run:
    if isinstance(config, GanConfig):
        return train_gan(config, digits.train)
    return train_classifier(config, small)


def fork(folder: str, work: Callable[[], object]) -> int:
    """Runs `work` with results in `folder` in a child, whose id it returns; its exit status is 0 if `work` succeeds."""
    pid = os.fork()
    if pid == 0:
        os.environ["RAG_RESULTS"] = str(RESULTS / folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            work()
        except BaseException as e:
            print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def finish(folder: str, config: GanConfig | ClassifierConfig) -> None:
    """Train to the end, with results in `folder`."""
    assert status_of(fork(folder, lambda: train(config))) == 0


def kill_from(step: int, folder: str, config: GanConfig | ClassifierConfig, chance: random.Random) -> bool:
    """Starts a training and kills it at a random moment after a checkpoint of its own from `step` on.

    Returns whether it was still there.
    """
    step = max(step, newest(folder) + 1)  # one that is there already may be an earlier attempt's
    pid = fork(folder, lambda: train(config))
    while newest(folder) < step:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False  # it has ended
        time.sleep(0.001)
    time.sleep(chance.uniform(0.0, 0.02))  # into a step, or into the writing of a checkpoint
    os.kill(pid, signal.SIGKILL)
    return status_of(pid) == -signal.SIGKILL


def checkpoints(folder: str) -> list[Path]:
    return list((RESULTS / folder / "runs").rglob("checkpoint-*.pt"))


def newest(folder: str) -> int:
    """The step of the newest checkpoint there; 0 where there is none."""
    return max((int(path.stem.split("-")[1]) for path in checkpoints(folder)), default=0)


def half_written(folder: str) -> list[str]:
    return [path.name.split("-")[0] for path in (RESULTS / folder / "runs").rglob("*.tmp*")]


def artefacts(folder: str) -> dict[str, bytes]:
    """The bytes of everything that the runs under `folder` have left, but for what tells of their time."""
    runs = RESULTS / folder / "runs"
    files = [p for p in runs.rglob("*") if p.is_file() and p.name != "env.json" and ".locks" not in p.parts]
    return {p.relative_to(runs).as_posix(): p.read_bytes() for p in files}


def attempts(folder: str) -> list[int]:
    """How many attempts each of the runs under `folder` took."""
    return [len(json.loads(p.read_text())["attempts"]) for p in (RESULTS / folder / "runs").rglob("env.json")]


def kills() -> None:
    """Both trainings, each killed a dozen times at random moments, against the same ones left in peace."""
    chance = random.Random(20230501)
    killed = 0
    for config in (GAN, CLASSIFIER):
        finish("calm", config)
        finish("other", replace(config, seed=1))
        for step in sorted(chance.sample(range(1, 300), 12)):
            killed += kill_from(step, "stormy", config, chance)
        finish("stormy", config)
    calm, other = artefacts("calm"), artefacts("other")
    assert killed == sum(n - 1 for n in attempts("stormy")) == 24
    assert artefacts("stormy") == calm
    assert len(calm) == 2 * (3 + 1) + 1 + 10  # config, metrics, history and weights; a confusion; samples
    assert not set(calm.values()) & {value for name, value in other.items() if not name.endswith(".png")}


def killed_while_writing() -> None:
    """Killed when half of the third checkpoint is on disk."""
    write = storage.write_whole
    written = []

    def half(path: Path, *content: bytes) -> None:
        written.append(path.name)
        if sum(name.startswith("checkpoint") for name in written) == 3:
            whole = b"".join(content)
            path.with_name(f"{path.name}.tmp{os.getpid():016x}").write_bytes(whole[: len(whole) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, *content)

    def attempt() -> None:
        storage.write_whole = half
        train(SHORT)

    assert status_of(fork("stormy", attempt)) == -signal.SIGKILL
    assert half_written("stormy") == ["checkpoint"]
    finish("stormy", SHORT)
    finish("calm", SHORT)
    assert attempts("stormy") == [2]
    assert artefacts("stormy") == artefacts("calm")  # what was half written is gone, too


def at_once() -> None:
    """Four processes ask for the same run at the same time: one computes it."""
    answers = [RESULTS / f"answer{i}" for i in range(4)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    children = [fork(".", lambda a=answer: a.write_text(str(train(SHORT).reused))) for answer in answers]
    assert [status_of(pid) for pid in children] == [0, 0, 0, 0]
    assert sorted(answer.read_text() for answer in answers) == ["False", "True", "True", "True"]


def full_disk() -> None:
    """No file may grow beyond 1,000 bytes from the fifty-first step on; then the limit is lifted."""
    import resource

    def attempt() -> None:
        log = checkpoint.Steps.log

        def limited(self, **values) -> dict[str, float] | None:
            if self.done == 50:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            return log(self, **values)

        checkpoint.Steps.log = limited
        train(SHORT)

    assert status_of(fork("full", attempt)) == 1
    assert len([storage.load_checkpoint(path) for path in checkpoints("full")]) == 2  # which are whole
    assert half_written("full") == []
    finish("full", SHORT)
    finish("calm", SHORT)
    assert artefacts("full") == artefacts("calm")


def soak() -> None:
    """Fifty short runs: each is killed once at a random moment in a child, then finished in this process."""
    chance = random.Random(7)
    killed, memory, handles = 0, [], []
    for seed in range(50):
        config = replace(GAN if seed % 2 else CLASSIFIER, steps=100, seed=seed)
        killed += kill_from(chance.randrange(1, 15), ".", config, chance)
        train(config)
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        handles.append(len(os.listdir("/proc/self/fd")))
    runs = RESULTS / "runs"
    assert killed == len(list(runs.glob("*-*/metrics.json"))) == 50
    assert memory[-1] - memory[9] < 20
    assert handles[-1] == handles[9]
    # a GAN's and a classifier's
    kinds = {tuple(sorted(p.name for p in run.rglob("*") if p.is_file())) for run in runs.glob("*-*")}
    assert len(kinds) == 2
    assert checkpoints(".") == half_written(".") == []
    assert sum(path.stat().st_size for path in (runs / ".locks").iterdir()) == 0


if __name__ == "__main__":
    globals()[sys.argv[1]]()
