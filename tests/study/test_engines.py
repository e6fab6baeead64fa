"""The scheduler, with real worker processes: the same bytes, and what a death, a failure and an interrupt cost."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from helpers import refused, wait_until

from rag_lib import study
from rag_lib.base import ROOT, UserError
from rag_lib.runtime.files import checkpoints
from rag_lib.runtime.store import finished, run_folder
from rag_lib.settings.config import EngineConfig, Settings
from rag_lib.study import engines
from rag_lib.study.engines import RETRIES, Engine
from rag_lib.study.plan import jobs
from rag_lib.study.resolve import resolve
from rag_lib.study.scheduler import engine_of, processors, scheduled


def grid(workers: int, **overrides) -> Settings:
    settings = resolve(preset="smoke", arms=["original", "generated"], replicates=2, overrides=overrides)
    return replace(settings, engine=EngineConfig(workers=workers))


def artefacts(results: Path) -> dict[str, bytes]:
    """The bytes of all runs and tables, but for what tells of their time."""
    files = [p for p in results.rglob("*") if p.is_file() and p.suffix in (".safetensors", ".csv", ".json")]
    timed = ("env.json", "quality.csv", "classify_provenance.csv", "quality_provenance.csv")
    return {p.relative_to(results).as_posix(): p.read_bytes() for p in files if p.name not in timed}


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Those of a process that may just have ended."""
    return [
        p
        for p in process.children(recursive=True)
        if p.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(p.cmdline())
    ]


def test_a_run_whose_process_dies_again_and_again_is_given_up(monkeypatch):
    monkeypatch.setattr(engines, "serve", print)  # a process that ends at once
    workers = engines.Workers(1)
    with refused("its process died 6 times", "memory"):
        workers.submit(jobs([grid(1)])[0], {}).result()
    workers.close()


def test_two_workers_leave_the_same_bytes_as_this_process_whatever_its_threads(results, monkeypatch):
    left = []
    for workers, threads in ((1, 2), (2, 1)):
        monkeypatch.setenv("RAG_RESULTS", str(results / str(workers)))
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        study.run([grid(workers)])
        assert torch.get_num_threads() == threads
        torch.set_num_threads(before)
        left.append(artefacts(results / str(workers)))
        provenance = pd.read_csv(results / str(workers) / "tables" / "quality_provenance.csv").set_index("run_id")
        assert {name[:3]: n for name, n in provenance["threads"].items()} == {"gan": 2, "qua": 1}
    assert left[0] == left[1]
    assert workers_of(psutil.Process()) == []


def classify(*given: str, workers: int = 2) -> subprocess.Popen:
    """Start the command in a process of its own; no thread more than its runs', so that what is killed is a run."""
    command = [sys.executable, "-m", "rag_lib", "classify", "--preset", "smoke", "--arms", "original,generated", *given]
    command += ["--set", f"engine.workers={workers}", "--set", "engine.gan_cpus=1"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)


def computed_by(worker: psutil.Process) -> str:
    """The run whose lock a worker holds; empty where it has none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return next((Path(file.path).name for file in worker.open_files() if "/.locks/" in file.path), "")
    return ""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_fails_stops_only_those_that_need_it(workers, capfd):
    settings = grid(workers, **{"gan.lr": 1e30, "gan.schedule": "step"})
    with pytest.raises(UserError, match=r"2 of 8 runs failed, 4 that need them were not tried, .*smaller gan\.lr"):
        study.run([settings])
    failed = [job for job in jobs([settings]) if not finished(job.id)]
    assert Counter(job.kind for job in failed) == {"gan": 2, "quality": 2, "classifier": 2}
    said = capfd.readouterr().err
    for job in failed:
        assert said.count(f"{job.id} failed: ") == (job.kind == "gan")


def test_an_error_that_nobody_expected_ends_its_worker_and_no_other_run(results, capfd):
    settings = resolve(preset="smoke", arms=["original"], overrides={"classifiers": {"cnn": 3}, "engine.workers": 2})
    bad, *good = (job.id for job in jobs([settings]))
    (results / "runs" / bad / "classifier.safetensors").mkdir(parents=True)  # where a file is to be written
    with pytest.raises(UserError, match=r"1 of 3 runs failed, the others are finished; the first: .*IsADirectoryError"):
        study.run([settings])
    assert all(finished(name) for name in good)
    assert "Traceback" in capfd.readouterr().err


def test_a_resumed_plan_is_computed_in_its_order(results):
    """Regression: what needs a generator that was finished already came after what needs none."""
    gan, original, generated = (j for j in jobs([resolve(preset="smoke", arms=["generated"])]) if j.kind != "quality")
    assert len(list(scheduled(Engine(), [gan], {}))) == 1
    came = [job.id for job, _ in scheduled(Engine(), [gan, generated, original], {})]
    assert came == [gan.id, generated.id, original.id]


def test_only_several_runs_are_worth_several_processes():
    settings = grid(2)
    assert type(engine_of(settings.engine, jobs([settings])[:1])) is Engine
    assert engine_of(settings.engine, jobs([settings])).room == 2
    assert 1 <= processors() <= torch.get_num_threads()


@pytest.mark.slow
def test_interrupted_or_orphaned_workers_leave_a_checkpoint_and_end(results, monkeypatch):
    long = ("--set", "gan.steps=600")
    gan = run_folder(next(job.id for job in jobs([grid(2, **{"gan.steps": 600})]) if job.kind == "gan"))
    resumed = []
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM, None):
        before = max(map(str, checkpoints(gan)), default="")
        process = classify(*long)
        if number:
            wait_until(lambda: workers_of(psutil.Process(process.pid)))  # noqa: B023 (called at once)
            started = workers_of(psutil.Process(process.pid))
            wait_until(lambda: gan.name in [computed_by(worker) for worker in started])  # noqa: B023
            time.sleep(2)  # into its training
            # SIGTERM to the whole group, as `timeout` sends it; regression: it came twice, which ended them at once
            os.killpg(process.pid, number) if number == signal.SIGTERM else process.send_signal(number)
            wait_until(lambda: not any(worker.is_running() for worker in started))  # noqa: B023
            assert max(map(str, checkpoints(gan))) > before
        said = process.communicate()[1]
        resumed.append("resuming from step" in said)
        assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9, signal.SIGTERM: -15, None: 0}[number]
    assert resumed == [False, True, True, True]
    left = artefacts(results)
    monkeypatch.setenv("RAG_RESULTS", str(results / "calm"))
    assert classify(*long, workers=1).wait() == 0
    assert artefacts(results / "calm") == left


@pytest.mark.slow
def test_a_script_without_a_guard_can_ask_for_a_study(results, tmp_path):
    """Regression: each worker ran the script once more, and died of it."""
    script = tmp_path / "script.py"
    script.write_text("""
from rag_lib import study
overrides = {"engine.workers": 2, "classifiers": {"cnn": 2}}
study.run([study.settings_for(preset="smoke", arms=["original"], overrides=overrides)])
print("once")
""")
    said = subprocess.run([sys.executable, script], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert said.count("once") == 1
    assert len(list((results / "runs").glob("classifier-*/metrics.json"))) == 2


@pytest.mark.slow
def test_twenty_killed_workers_change_no_byte(results, monkeypatch):
    given = ("--replicates", "2", "--set", "classifiers={'cnn': 3}", "--set", "classifier.steps=200")
    chance, killed = random.Random(20230501), Counter()
    process = classify(*given)
    while process.poll() is None and killed.total() < 20:
        time.sleep(chance.uniform(0.0, 0.1))
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            worker = chance.choice(workers_of(psutil.Process(process.pid)))
            if (name := computed_by(worker)) and killed[name] < RETRIES:
                worker.kill()
                killed[name] += 1
    assert process.wait() == 0
    assert killed.total() == 20
    left = artefacts(results)
    monkeypatch.setenv("RAG_RESULTS", str(results / "calm"))
    assert classify(*given, workers=1).wait() == 0
    assert artefacts(results / "calm") == left
