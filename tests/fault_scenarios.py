"""What test_reliability.py does to real processes: `python fault_scenarios.py SCENARIO`, a JSON line at the end.

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
digits = load(DataConfig())
small = {"train": digits.train, "val": digits.val[:50], "test": digits.test[:50]}


def train(config: GanConfig | ClassifierConfig) -> Run:
    if isinstance(config, GanConfig):
        return train_gan(config, digits.train)
    return train_classifier(config, small)


def fork(work: Callable[[], object]) -> int:
    """Runs `work` in a child of this process, whose id it returns; the child's exit status is 0 if `work` succeeds."""
    pid = os.fork()
    if pid == 0:
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


def kill_from(step: int, work: Callable[[], object], runs: Path, chance: random.Random) -> bool:
    """Starts `work` and kills it at a random moment after a checkpoint of its own from `step` on; whether it was there.

    `runs`: the folder that it writes to.
    """
    step = max(step, newest(runs) + 1)  # one that is there already may be an earlier attempt's
    pid = fork(work)
    while newest(runs) < step:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False  # it has ended
        time.sleep(0.001)
    time.sleep(chance.uniform(0.0, 0.02))  # into a step, or into the writing of a checkpoint
    os.kill(pid, signal.SIGKILL)
    return status_of(pid) == -signal.SIGKILL


def newest(runs: Path) -> int:
    """The step of the newest checkpoint in these folders; 0 where there is none."""
    return max((int(p.stem.split("-")[1]) for p in runs.rglob("checkpoint-*.pt")), default=0)


def into(folder: str, work: Callable[[], object]) -> Callable[[], object]:
    """`work` with a results folder of its own."""
    base = Path(os.environ["RAG_RESULTS"])

    def moved() -> object:
        os.environ["RAG_RESULTS"] = str(base / folder)
        return work()

    return moved


def artefacts(folder: str) -> dict[str, str]:
    """The bytes of everything that the runs under `folder` have left, but for what tells of their time."""
    runs = Path(os.environ["RAG_RESULTS"]) / folder / "runs"
    files = [p for p in sorted(runs.rglob("*")) if p.is_file() and p.name != "env.json" and ".locks" not in p.parts]
    return {p.relative_to(runs).as_posix(): p.read_bytes().hex() for p in files}


def attempts(folder: str) -> list[int]:
    """How many attempts each of the runs under `folder` took."""
    runs = Path(os.environ["RAG_RESULTS"]) / folder / "runs"
    return [len(json.loads(p.read_text())["attempts"]) for p in runs.rglob("env.json")]


def kills() -> dict:
    """Both trainings, each killed a dozen times at random moments, against the same ones left in peace."""
    chance = random.Random(20230501)
    n_kills = 0
    for config in (GAN, CLASSIFIER):
        assert status_of(fork(into("calm", lambda c=config: train(c)))) == 0
        assert status_of(fork(into("other", lambda c=config: train(replace(c, seed=1))))) == 0
        runs = Path(os.environ["RAG_RESULTS"]) / "stormy" / "runs"
        for step in sorted(chance.sample(range(1, 300), 12)):
            n_kills += kill_from(step, into("stormy", lambda c=config: train(c)), runs, chance)
        assert status_of(fork(into("stormy", lambda c=config: train(c)))) == 0
    calm, stormy, other = artefacts("calm"), artefacts("stormy"), artefacts("other")
    return {
        "kills": n_kills,
        "resumed": sum(n - 1 for n in attempts("stormy")),
        "files": len(calm),
        "same": calm == stormy,
        "control_differs": not set(calm.values()) & {v for k, v in other.items() if not k.endswith(".png")},
    }


def killed_while_writing() -> dict:
    """Killed when half of the third checkpoint is on disk."""
    write = storage.write_whole
    written = []

    def half(path: Path, *content: bytes) -> None:
        written.append(path.name)
        if sum(name.startswith("checkpoint") for name in written) == 3:
            path.with_name(f"{path.name}.tmp{os.getpid()}").write_bytes(
                b"".join(content)[: sum(map(len, content)) // 2]
            )
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, *content)

    def attempt() -> None:
        storage.write_whole = half
        train(SHORT)

    status = status_of(fork(into("stormy", attempt)))
    runs = Path(os.environ["RAG_RESULTS"]) / "stormy" / "runs"
    left = sorted(p.name.split(".tmp")[0].split("-")[0] for p in runs.rglob("*.tmp*"))
    statuses = [status_of(fork(into(folder, lambda: train(SHORT)))) for folder in ("stormy", "calm")]
    return {
        "status": status,
        "left": left,
        "statuses": statuses,
        "same": artefacts("calm") == artefacts("stormy"),
        "attempts": attempts("stormy"),
    }


def at_once() -> dict:
    """Four processes ask for the same run at the same time."""
    answers = Path(os.environ["RAG_RESULTS"])
    answers.mkdir(parents=True, exist_ok=True)
    children = [fork(lambda i=i: (answers / f"answer{i}").write_text(str(train(SHORT).reused))) for i in range(4)]
    statuses = [status_of(pid) for pid in children]
    return {"statuses": statuses, "reused": sorted((answers / f"answer{i}").read_text() for i in range(4))}


def full_disk() -> dict:
    """No file may grow beyond 1,000 bytes from the fifty-first step on; then the limit is lifted."""
    import resource

    def attempt() -> None:
        log = checkpoint.Steps.log

        def limited(self, **values) -> None:
            if self.done == 50:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            log(self, **values)

        checkpoint.Steps.log = limited
        train(SHORT)

    status = status_of(fork(into("full", attempt)))
    runs = Path(os.environ["RAG_RESULTS"]) / "full" / "runs"
    kept = [p.name for p in runs.rglob("checkpoint-*.pt")]
    whole = [bool(storage.load_checkpoint(p)) for p in runs.rglob("checkpoint-*.pt")]
    statuses = [status_of(fork(into(folder, lambda: train(SHORT)))) for folder in ("full", "calm")]
    return {
        "status": status,
        "kept": len(kept),
        "whole": all(whole),
        "left": [p.name for p in runs.rglob("*.tmp*")],
        "statuses": statuses,
        "same": artefacts("calm") == artefacts("full"),
    }


def soak() -> dict:
    """Fifty short runs: each is killed once at a random moment in a child, then finished in this process."""
    chance = random.Random(7)
    killed, memory, handles = 0, [], []
    for seed in range(50):
        config = replace(GAN if seed % 2 else CLASSIFIER, steps=100, seed=seed)
        killed += kill_from(chance.randrange(1, 15), lambda c=config: train(c), results_dir() / "runs", chance)
        train(config)
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        handles.append(len(os.listdir("/proc/self/fd")))
    runs = results_dir() / "runs"
    kinds = {tuple(sorted(p.name for p in run.rglob("*") if p.is_file())) for run in runs.glob("*-*")}
    return {
        "killed": killed,
        "runs": len(list(runs.glob("*-*/metrics.json"))),
        "memory_growth_mb": memory[-1] - memory[9],
        "handles": [handles[9], handles[-1]],
        "files_of_a_run": sorted(kinds),
        "lock_bytes": sum(p.stat().st_size for p in (runs / ".locks").iterdir()),
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
