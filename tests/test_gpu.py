"""The script for a GPU, rehearsed on the CPU: with what a bare machine has, and cut off by its minutes."""

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch

from rag_lib.base import ROOT, UserError, data_dir
from rag_lib.data.datasets import MNIST_MD5
from rag_lib.runtime import provenance
from rag_lib.runtime.store import finished
from rag_lib.settings.config import DataConfig
from rag_lib.study.plan import jobs
from rag_lib.study.resolve import resolve

BENCHMARKS = ROOT / "tests" / "benchmarks"
MINUTES = {"check": 0.1, "tables": 0.6}
ABSENT = ("mlxtend", "papermill", "jupyterlab", "IPython", "ipywidgets")
SITE = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Absent())
"""
REHEARSAL = f"""
import importlib
from contextlib import suppress

def rehearse():
    for name in {ABSENT}:
        with suppress(ModuleNotFoundError):
            raise AssertionError(importlib.import_module(name))
    from rag_lib.__main__ import main
    assert main("classify --dataset mnist --preset smoke --dry-run".split()) == 0
    import gpu
    for part, minutes in {MINUTES}.items():
        rest = ["--minutes", str(minutes), "--out", part, "--preset", "smoke", "--workers", "1"]
        assert gpu.main([part, *rest]) == 0

if __name__ == "__main__":
    rehearse()
"""


def bare(folder: Path) -> dict[str, str]:
    """The environment of a machine without what is `ABSENT`, also in the processes that a process starts."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    places = [folder / "site", ROOT, BENCHMARKS]
    variables = {"PYTHONPATH": os.pathsep.join(map(str, places)), "RAG_RESULTS": str(folder / "results")}
    return os.environ | variables | {"RAG_DEVICE": "cpu", "RAG_PROGRESS": "text", "OMP_NUM_THREADS": "1"}


def test_the_command_line_needs_neither_jupyter_nor_papermill(tmp_path):
    command = [sys.executable, "-m", "rag_lib", "classify", "--dataset", "mnist", "--preset", "smoke", "--dry-run"]
    done = subprocess.run(command, env=bare(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """Both parts, in a process without what a bare machine lacks, until their minutes are over: their folder."""
    if not all((data_dir() / "MNIST" / "raw" / name).exists() for name in MNIST_MD5):
        pytest.skip(f"needs MNIST in {data_dir()}")
    folder = tmp_path_factory.mktemp("gpu")
    variables = bare(folder) | {"RAG_DATA": str(data_dir())}
    (folder / "rehearsal.py").write_text(REHEARSAL)
    command = [sys.executable, "rehearsal.py"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    yield gpu
    for name in ("bench", "costs", "gpu", "gpu_tables", "plain"):
        sys.modules.pop(name, None)


def test_a_check_that_is_cut_off_leaves_what_it_has_measured(gpu, monkeypatch, tmp_path, capsys):
    """By the alarm that its minutes set, here at the third loop that is to be measured."""
    rates = iter((1.0, 2.0))

    def rate(*_):
        return next(rates, None) or signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(gpu, "rate", rate)
    monkeypatch.setattr(gpu, "seconds_to_its_end", lambda config: 0.5)
    assert gpu.main(["check", "--minutes", "60", "--out", str(tmp_path), "--preset", "smoke"]) == 0
    assert "the minutes are over" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "check.csv").set_index(["what", "measured"])["value"]
    assert table["machine", "platform"] == f"{sys.platform} {provenance.processor()}"
    assert [float(table[kind, "ours, images/s"]) for kind in ("GAN", "cnn")] == [1, 2]
    assert ("resnet18", "ours, images/s") not in table


@pytest.mark.slow
def test_a_check_measures_every_kind_beside_the_plain_loops(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "CLASSIFIERS", ("cnn",))
    few = gpu.random_images(DataConfig())[:6_000]  # for the rates, which do not depend on how many there are
    monkeypatch.setattr(gpu.bench, "random_images", lambda config: few)
    assert gpu.check("smoke", 0.03, tmp_path) == 0
    table = pd.read_csv(tmp_path / "check.csv").set_index(["what", "measured"])["value"]
    loops = ("ours", "ours without a graph", "plain", "plain_bf16")
    for kind in ("GAN", "cnn"):
        assert all(float(table[kind, f"{loop}, images/s"]) > 0 for loop in loops)
    same = "weights differ by 0, of two alike by 0"  # as they must be on a CPU
    assert re.fullmatch(rf"from step [1-5]\d; {same}", table["GAN", "killed and resumed"])
    assert [table[kind, "plain calls against a graph, 200 steps"] for kind in ("GAN", "cnn")] == [same, same]
    assert "convolution" in (tmp_path / "profile.txt").read_text()


def test_what_fails_is_a_row_and_the_rest_is_measured(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "CLASSIFIERS", ("cnn",))
    monkeypatch.setattr(gpu, "rate", lambda config, *_: {"cnn": 5.0}[config.model])  # a GAN has no model
    monkeypatch.setattr(gpu, "train", lambda config: 1 / 0)
    monkeypatch.setattr(gpu, "killed_and_resumed", lambda config: "yes")
    assert gpu.check("smoke", 0.1, tmp_path) > 0
    table = pd.read_csv(tmp_path / "check.csv").set_index(["what", "measured"])["value"]
    assert table["cnn", "seconds of a training to its end"] == "failed: ZeroDivisionError('division by zero')"
    assert table["GAN", "ours, images/s"].startswith("failed: AttributeError")
    assert float(table["cnn", "plain_bf16, images/s"]) == 5


@pytest.mark.slow
def test_tables_that_are_cut_off_leave_runs_that_another_visit_adds_to(rehearsed, gpu, results, tmp_path):
    left = rehearsed / "tables"
    files = {path.name: path.stat().st_size for path in left.iterdir()}
    assert len(files) <= 8
    assert max(files.values()) <= 16_000_000
    listed = pd.read_csv(left / "jobs.csv")
    assert listed["error"].isna().all()
    assert {"finished", "waiting"} <= set(listed["state"]) <= {"finished", "started", "waiting"}
    done = listed.loc[listed["state"] == "finished", "run_id"]
    assert done[0].startswith("gan-")  # the first in order of worth

    merged = tmp_path / "merged"
    again = ["--minutes", "0", "--earlier", str(left), "--out", str(merged), "--preset", "smoke"]
    assert gpu.main(["tables", *again]) == 0
    generator = Path("runs", done[0], "generator.safetensors")
    assert (results / generator).read_bytes() == (rehearsed / "results" / generator).read_bytes()
    assert finished(done.iloc[-1])
    for path in left.glob("*_provenance.csv"):
        for name in (path.name, path.name.replace("_provenance", "")):
            assert (merged / name).read_bytes() == (left / name).read_bytes()


def test_the_plan_has_the_studys_own_runs_in_order_of_worth_without_those_that_stand(gpu, monkeypatch):
    tables = gpu.gpu_tables
    planned = tables.plan("paper")
    of_study = {job.id for job in jobs([resolve("mnist", "paper"), resolve("cifar10_jpeg", "paper", replicates=5)])}
    both = [job for job in planned if getattr(job.config, "arm", "") != "original_half"]
    assert {job.id for job in both if job.data.split_seed == 0} <= of_study
    kinds = [(job.data.dataset, job.data.split_seed, getattr(job.config, "model", job.kind)) for job in planned]
    order = [("mnist", 0, name) for name in ("gan", "cnn", "quality", "resnet34", "resnet18")]
    order += [("cifar10_jpeg", 0, name) for name in ("gan", "cnn", "quality", "resnet34", "resnet18")]
    order += [(dataset, 0, name) for dataset in tables.DATASETS for name in ("resnet50", "resnet101")]
    order += [(d, r, name) for r in range(1, 5) for d in tables.DATASETS for name in ("gan", "cnn", "quality")]
    assert list(dict.fromkeys(kinds)) == order

    mixed = next(job for job in planned if job.kind == "classifier" and job.config.arm == "mixed")
    monkeypatch.setattr(tables, "stands", lambda job: job.data.split_seed > 0 or job.id == mixed.id)
    assert tables.plan("paper") == [job for job in planned if job.data.split_seed == 0 and job != mixed]
    monkeypatch.setattr(tables, "stands", lambda job: job.id != mixed.id)
    assert [job.id for job in tables.plan("paper")] == [*mixed.needs, mixed.id]


def test_a_run_is_taken_once_and_never_without_what_it_needs(gpu, tmp_path):
    tables, planned = gpu.gpu_tables, gpu.gpu_tables.plan("smoke")[:5]
    taken, beside = tables.taken(planned, tmp_path), tables.taken(planned, tmp_path)  # of another process
    assert [next(taken), next(beside)] == planned[:2]
    for job in planned[:2]:
        tables.record_of(job.id, tmp_path).write_text("it diverged")
    assert list(taken) == []


def test_a_run_whose_process_is_killed_is_taken_again(gpu, tmp_path):
    """Regression: it stayed taken, and whatever needed it waited until the minutes were over."""
    tables, planned = gpu.gpu_tables, gpu.gpu_tables.plan("smoke")[:2]
    if not (pid := os.fork()):
        try:
            next(tables.taken(planned, tmp_path))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert next(tables.taken(planned, tmp_path)) == planned[0]


def test_a_run_that_fails_is_listed_and_only_an_error_of_the_user_lets_its_process_go_on(gpu, monkeypatch, tmp_path):
    tables = gpu.gpu_tables
    planned = [job for job in tables.plan("smoke") if not job.needs][:3]
    errors = iter((UserError("it diverged"), RuntimeError("CUDA error")))

    def compute(*_):
        raise next(errors)

    monkeypatch.setattr(tables, "compute", compute)
    monkeypatch.setattr(tables, "splits_of", lambda data: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    with pytest.raises(RuntimeError):
        tables.work(planned, time.time() + 600, tmp_path)
    tables.leave(planned, tmp_path, tmp_path, last=True)
    listed = pd.read_csv(tmp_path / "jobs.csv", keep_default_na=False)
    assert listed["state"].tolist() == ["failed", "failed", "waiting"]
    assert listed["error"].tolist() == ["UserError: it diverged", "RuntimeError: CUDA error", ""]


def test_the_largest_files_stay_behind_and_what_is_packed_fits(gpu, monkeypatch, results, tmp_path):
    tables, planned = gpu.gpu_tables, gpu.gpu_tables.plan("smoke")[:2]
    sizes = {"metrics.json": 10, "generator.safetensors": 2_500, "checkpoint-00000002.pt": 9_000, "large.pt": 70_000}
    sizes |= {"checkpoint-00000001.pt": 9_000}
    for job in planned:
        folder = results / "runs" / job.id
        folder.mkdir(parents=True)
        for name, size in sizes.items():
            (folder / name).write_bytes(bytes(size))
    monkeypatch.setattr(tables, "PART", 18_000)
    monkeypatch.setattr(tables, "LARGEST", 60_000)
    tables.pack(planned, tmp_path)
    parts = sorted(tmp_path.glob("runs.tar.*"))
    assert len(parts) <= tables.PARTS
    assert max(part.stat().st_size for part in parts) <= 18_000
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        packed = Counter(name.partition("/")[2] for name in archive.getnames())
    assert packed == {"metrics.json": 2, "generator.safetensors": 2, "checkpoint-00000002.pt": 2}


def test_provenance_names_the_gpu(monkeypatch):
    monkeypatch.setattr(provenance, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    around = provenance.environment("fp32")
    assert around["device"] == "cuda"
    assert around["platform"] == f"{sys.platform} NVIDIA H100 80GB HBM3"
