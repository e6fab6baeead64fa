"""Nothing is lost: kills, interrupts, full disks, damaged files, several processes at once.

docs/reliability.md names these tests. Processes are real, and so are the signals.
"""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import refused, train_gan, wait_until, write
from torch import nn

from rag_lib.base import ROOT, UserError
from rag_lib.cli import main
from rag_lib.runtime import steps as checkpoint
from rag_lib.runtime.files import (
    checkpoints,
    load_checkpoint,
    load_weights,
    locked,
    save_checkpoint,
    save_weights,
    write_whole,
)
from rag_lib.runtime.signals import HeldBack
from rag_lib.runtime.steps import Steps
from rag_lib.runtime.store import lock_of, run_id
from rag_lib.runtime.tables import clean_runs, collect, list_runs
from rag_lib.settings.config import GanConfig
from rag_lib.study.resolve import resolve

on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at processes in /proc")
real_signals = pytest.mark.skipif(os.name != "posix", reason="forks and POSIX signals")
GAN = GanConfig(width=8, steps=12, batch_size=8, ema=0.9)


def scenario(name: str) -> str:
    """Runs one of tests/fault_scenarios.py, which checks what comes of it, in a process of its own; what it says."""
    script = ROOT / "tests" / "fault_scenarios.py"
    done = subprocess.run([sys.executable, script, name], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every step."""
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_SHARE", float("inf"))


class Toy:
    """A training of a few numbers, for what concerns the steps alone."""

    def __init__(self, folder: Path, total: int = 10):
        self.folder, self.total = folder, total
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        self.model = nn.Linear(2, 1)
        self.adam = torch.optim.Adam(self.model.parameters(), 0.1)

    def run(self, stop_before: int | None = None, loss_at: dict[int, float] | None = None) -> Steps:
        with Steps(self.folder, self.total, {"model": self.model, "adam": self.adam}, "toy", "try less") as steps:
            for step in steps:
                if step == stop_before:
                    raise InterruptedError
                x = torch.full((1, 2), float(step))
                loss = self.model(x).square().mean()
                self.adam.zero_grad()
                loss.backward()
                self.adam.step()
                steps.log(loss=torch.tensor((loss_at or {}).get(step, float(loss.detach()))))
        return steps


def interrupted(folder: Path, before: int) -> Toy:
    """A training that was stopped before a step, with a checkpoint of every step until then."""
    toy = Toy(folder)
    with pytest.raises(InterruptedError):
        toy.run(stop_before=before)
    return toy


def test_a_training_in_a_thread_runs(tmp_path):
    """Where Python takes no handlers of signals."""
    with ThreadPoolExecutor() as pool:
        assert pool.submit(Toy(tmp_path).run).result().done == 10


def test_checkpoints_cost_a_hundredth_of_the_time(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_SHARE", 0.01)
    monkeypatch.setattr(checkpoint, "save_checkpoint", lambda path, state: (time.sleep(0.1), written.append(path)))
    Toy(tmp_path, total=100).run()
    assert len(written) == 1  # the next is due after ten seconds


@real_signals
@pytest.mark.slow
def test_a_run_killed_two_dozen_times_ends_with_the_very_same_bytes():
    scenario("kills")


@real_signals
def test_a_kill_within_the_write_of_a_checkpoint_leaves_the_one_before():
    scenario("killed_while_writing")


@pytest.mark.slow
@on_linux
def test_fifty_short_runs_with_kills_leak_no_memory_handles_or_disk():
    scenario("soak")


@contextmanager
def started(*command: str):
    """A training that would go on for ever, in a process that takes Ctrl-C even where this one ignores it."""
    command = [sys.executable, "-m", "rag_lib", *command, "--preset", "smoke", "--gan-steps", "200000"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()


def catches_sigterm(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM: it has one while it takes the steps of a training."""
    status = Path(f"/proc/{pid}/status")
    caught = [line for line in status.read_text().splitlines() if line.startswith("SigCgt")] if status.exists() else []
    return bool(caught) and bool(int(caught[0].split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def kept(results: Path) -> dict:
    """The one checkpoint that a signal has left."""
    (path,) = results.rglob("checkpoint-*.pt")
    return load_checkpoint(path)


@on_linux
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_save_a_checkpoint_and_take_their_course(results, number, status):
    with started("train") as process:
        wait_until(lambda: catches_sigterm(process.pid))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    if number == signal.SIGINT:
        assert "the same command resumes" in errors
    state = kept(results)
    assert 0 < state["done"] < 200_000
    assert state["parts"]["adam_g"]["state"][0]["step"] == state["done"]


def reply_of(client) -> dict:
    """The next cell's; a busy machine leaves several to the question whether the kernel has started."""
    while (message := client.get_shell_msg(timeout=60))["msg_type"] != "execute_reply":
        pass
    return message["content"]


@real_signals
def test_jupyters_interrupt_saves_a_checkpoint_and_reaches_the_cell(results):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()
    try:
        client.execute(
            "from rag_lib.data import load\nfrom rag_lib.study.resolve import resolve\n"
            "from rag_lib import study\n"
            "settings = resolve(preset='smoke', overrides={'gan.steps': 200000})\n"
            "study.run_gan(settings, load(settings.data))"
        )
        wait_until(lambda: list(results.glob("runs/*/samples")))
        time.sleep(1)
        manager.interrupt_kernel()
        reply = reply_of(client)
        assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
        assert kept(results)["done"] > 0
        client.execute("1 + 1")  # the kernel lives on
        assert reply_of(client)["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@on_linux
def test_ctrl_c_on_make_study_saves_a_checkpoint(results):
    with started("notebooks") as process:
        wait_until(lambda: list(results.glob("runs/*/samples")))
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command resumes" in errors
    assert kept(results)["done"] > 0


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, even where these tests were started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_ignored_signal_stays_ignored(tmp_path, interruptible):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Steps(tmp_path, 2, {"model": nn.Linear(2, 1)}, "toy", "try less") as steps:
        assert [signal.raise_signal(signal.SIGINT) or step for step in steps] == [0, 1]
    assert checkpoints(tmp_path) == []


def test_a_second_signal_takes_effect_at_once(interruptible):
    with HeldBack() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.pending == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signals.pending = None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_are_held_back_again_after_a_handler_that_returns(interruptible):
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    with HeldBack() as signals:
        for n in (1, 2):
            signal.raise_signal(signal.SIGINT)
            assert len(seen) == n - 1
            signals.deliver()
            assert len(seen) == n


def test_a_signal_during_the_last_step_is_not_swallowed(tmp_path, interruptible):
    def run() -> None:
        with Steps(tmp_path, 1, {"model": nn.Linear(2, 1)}, "toy", "try less") as steps:
            assert list(steps) == [0]
            signal.raise_signal(signal.SIGINT)  # before the handlers are back in place

    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@real_signals
def test_four_processes_that_ask_for_a_run_at_once_compute_it_once():
    assert scenario("at_once").count("waiting for it") == 3


def test_a_place_without_locks_is_named_and_listing_needs_none(results, digits):
    """As a folder of another user's, a read-only one, and a file system without locks refuse one."""
    run = train_gan(GAN, digits.train)
    shutil.rmtree(lock_of(run.id).parent)
    for id in (run.id, run_id("gan", replace(GAN, seed=1))):
        lock_of(id).mkdir(parents=True)
    assert list(list_runs()["state"]) == ["finished"]
    assert train_gan(GAN, digits.train).reused
    with refused(".locks (Is a directory); set RAG_RESULTS"):
        train_gan(replace(GAN, seed=1), digits.train)


def test_a_folder_that_one_may_not_write_to_is_named_by_the_command_line(results, monkeypatch, capsys):
    (results / "runs" / "gan-000000000000").mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(OSError(errno.EACCES, "Refused", path)))
    assert main(["runs", "--clean"]) == 2
    message = capsys.readouterr().err
    assert str(results) in message
    assert message.count("\n") == 1


def test_a_run_in_progress_is_listed_as_running_and_not_cleaned_away(results):
    id = run_id("gan", GAN)
    (results / "runs" / id).mkdir(parents=True)
    assert list(list_runs()["state"]) == ["unfinished"]  # no config.json yet
    with locked(lock_of(id), "never printed"):
        assert list(list_runs()["state"]) == ["running"]
        assert clean_runs() == []
    assert clean_runs() == [id]


def test_cleaning_spares_what_can_be_resumed_and_tidies_what_is_finished(results, digits):
    finished, started = train_gan(GAN, digits.train).folder, results / "runs" / run_id("gan", replace(GAN, seed=1))
    (finished / "checkpoint-00000012.pt").write_bytes(b"left by a kill at the last moment")
    started.mkdir()
    config = json.loads((finished / "config.json").read_text()) | {"seed": 1}
    (started / "config.json").write_text(json.dumps(config))
    assert sorted(list_runs()["state"]) == ["finished", "unfinished"]
    (started / "checkpoint-00000002.pt").write_bytes(b"")
    assert sorted(list_runs()["state"]) == ["finished", "resumable"]
    assert clean_runs() == []
    assert not list(finished.glob("checkpoint-*"))
    assert list(started.glob("checkpoint-*"))


@real_signals
def test_a_full_disk_keeps_the_old_checkpoints_and_says_what_happened():
    said = scenario("full_disk")
    assert "no checkpoint at step 51 (File too large); that of step 50 stays, the training continues" in said
    assert "UserError: gan-" in said
    assert "File too large; make room, or mend the disk, and run again" in said


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) * 2 // 3
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(tmp_path, often, capfd, damage):
    straight = Toy(tmp_path / "straight")
    straight.run()
    newest, older = checkpoints(interrupted(tmp_path / "broken", 6).folder)
    newest.write_bytes(damage(newest.read_bytes()))
    again = Toy(tmp_path / "broken")
    steps = again.run()
    assert "is damaged: its SHA-256 is not the one it was written with" in capfd.readouterr().err
    assert older.name == "checkpoint-00000005.pt"
    assert [row["step"] for row in steps.history] == list(range(1, 11))
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), straight.model.parameters(), strict=True))
    assert newest.with_suffix(".refused").exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path, often, capfd):
    one, two = interrupted(tmp_path / "one", 3), Toy(tmp_path / "two")
    checkpoints(one.folder)[0].rename(two.folder / "checkpoint-00000003.pt")
    steps = two.run()
    assert "is a checkpoint of another run (one)" in capfd.readouterr().err
    assert [row["step"] for row in steps.history] == list(range(1, 11))


def test_a_checkpoint_of_other_networks_is_refused_before_any_step(tmp_path, often):
    toy = interrupted(tmp_path / "toy", 3)
    toy.model = nn.Linear(3, 1)
    with refused("is from another version of rag_lib; delete its folder to start anew"):
        toy.run()
    assert len(checkpoints(toy.folder)) == 2


class Payload:
    def __reduce__(self):
        return (os.system, (f"touch {os.environ['RAG_RESULTS']}.ran",))


def test_a_pickle_with_a_payload_is_not_run(tmp_path):
    path = tmp_path / "checkpoint-00000001.pt"
    save_checkpoint(path, {"parts": Payload()})  # with a SHA-256 that fits
    with refused("holds something else than numbers"):
        load_checkpoint(path)
    assert not Path(f"{os.environ['RAG_RESULTS']}.ran").exists()
    pickle.loads(pickle.dumps(Payload()))  # the control: it would have run
    assert Path(f"{os.environ['RAG_RESULTS']}.ran").exists()


def test_every_bit_of_a_file_of_weights_is_covered(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}, {"seed": 1})
    good = path.read_bytes()
    weights, card = load_weights(path)
    assert torch.equal(weights["a"], torch.arange(6.0).reshape(2, 3))
    assert card == {"seed": 1}
    for position in range(len(good)):
        for bit in range(8):
            path.write_bytes(good[:position] + bytes([good[position] ^ 1 << bit]) + good[position + 1 :])
            with pytest.raises(UserError):
                load_weights(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b""),
        ("config.json", b"{}"),
        ("env.json", b""),
        ("generator.safetensors", None),  # regression: without its weights it was reused
    ],
)
def test_a_run_with_a_damaged_record_is_named_and_counts_as_unfinished(name, content, digits, results, capsys):
    damaged = train_gan(resolve(preset="smoke").gan, digits.train).folder / name
    damaged.unlink() if content is None else damaged.write_bytes(content)
    assert main(["runs"]) == main(["classify", "--preset", "smoke", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert " unfinished " in said.out
    assert said.err.count(f"{damaged} is damaged") == said.err.count("\n") == (content is not None)
    assert main(["train", "--preset", "smoke"]) == main(["runs"]) == 0
    assert " finished " in capsys.readouterr().out


def test_what_a_kill_left_half_written_is_swept(digits, results):
    runs, tables = results / "runs" / run_id("gan", GAN), results / "tables"
    half = f"tmp{'0af3' * 4}"
    for path in (runs / "checkpoint-00000001.pt", runs / "samples/step.png", tables / "t.csv"):
        write(path.parent, {f"{path.name}.{half}": b"half"})
    write(tables, {"mine.tmp.csv": b"", "notes.tmpl": b""})  # regression: these went, too
    run = train_gan(GAN, digits.train)
    collect("t", pd.DataFrame([{"run_id": run.id}]), [run])
    assert sorted(path.name for path in results.rglob("*.tmp*")) == ["mine.tmp.csv", "notes.tmpl"]


def test_two_writers_of_one_file_never_share_what_is_not_whole_yet(tmp_path, monkeypatch):
    """Regression: the process id alone told them apart; two containers' processes both are number 1."""
    seen, replace_file = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (seen.append(old), replace_file(old, new)))
    write_whole(tmp_path / "file", b"one")
    write_whole(tmp_path / "file", b"two")
    assert len(set(seen)) == 2


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 2e4])
def test_a_loss_that_diverges_stops_and_keeps_the_last_good_checkpoint(tmp_path, often, loss):
    toy = Toy(tmp_path / "toy")
    with refused("at step 7, ", "diverged; the checkpoint of step 6 is kept; try less"):
        toy.run(loss_at={6: loss})
    assert [load_checkpoint(p)["done"] for p in checkpoints(toy.folder)] == [6, 5]


def test_a_device_that_runs_behind_is_stopped_at_the_next_look(tmp_path, request, monkeypatch):
    """At the next row of the history, here of every tenth step, or at the next checkpoint, which is not written."""
    monkeypatch.setattr(checkpoint, "BEHIND", ("cpu",))
    with refused("loss = 20000 at steps 11 to 20,", "there is no checkpoint"):
        Toy(tmp_path / "one", total=1_000).run(loss_at={12: 2e4})
    request.getfixturevalue("often")
    with refused("loss = 20000 at step 13,", "the checkpoint of step 12 is kept"):
        Toy(tmp_path / "two", total=1_000).run(loss_at={12: 2e4})


def test_weights_that_are_not_finite_are_noticed_and_not_saved(tmp_path, request):
    """At the end, or at a checkpoint; the loss that is logged is still a number."""
    for toy in (Toy(tmp_path / "one", total=1), Toy(tmp_path / "ten", total=10)):
        nn.init.constant_(toy.model.weight, float("nan"))
        with refused("weights that are not finite at step 1"):
            toy.run(loss_at={0: 1.0})
        assert checkpoints(toy.folder) == []
        request.getfixturevalue("often")


def test_a_resumed_runs_surroundings_tell_of_all_its_attempts(digits, often, monkeypatch):
    log, folder = Steps.log, Path(os.environ["RAG_RESULTS"]) / "runs" / run_id("gan", GAN)
    for stop_at, threads in ((3, 64), (6, 8), (9, 8)):

        def stop(self, stop_at=stop_at, **values):
            log(self, **values)
            if self.done == stop_at:
                raise InterruptedError

        monkeypatch.setattr(Steps, "log", stop)
        with pytest.raises(InterruptedError):
            train_gan(GAN, digits.train)
        for path in checkpoints(folder):  # regression: a copy's new date counted as time that the run took
            os.utime(path, (time.time() + 100_000,) * 2)
        env = json.loads((folder / "env.json").read_text())
        env["attempts"][-1]["threads"] = threads
        (folder / "env.json").write_text(json.dumps(env))
    monkeypatch.setattr(Steps, "log", log)
    run = train_gan(GAN, digits.train)
    after = run.environment()
    attempts = json.loads((folder / "env.json").read_text())["attempts"]
    assert after["attempts"] == len(attempts) == 4
    assert after["threads"] == f"64, then 8, then {torch.get_num_threads()}"
    assert after["commit"] == attempts[0]["commit"]
    assert after["started"] == attempts[0]["started"]
    assert after["seconds"] == pytest.approx(sum(a["seconds"] for a in attempts), abs=0.1)
    assert after["seconds"] < 10_000
    assert checkpoints(folder) == []
