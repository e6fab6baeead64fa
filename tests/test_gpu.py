"""The benchmarks on a CPU: with what a bare machine has, and cut off by their minutes.

How fast the loops are is for `make bench` to say, not for a test.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch

from rag_lib.base import ROOT, data_dir
from rag_lib.runtime import provenance
from rag_lib.runtime.numerics import pick_precision
from rag_lib.runtime.store import finished
from rag_lib.settings.config import DataConfig
from rag_lib.study.plan import jobs
from rag_lib.study.resolve import resolve

BENCHMARKS = ROOT / "tests" / "benchmarks"
ABSENT = ("mlxtend", "papermill", "jupyterlab", "IPython", "ipywidgets")


def run_on_a_bare_machine(folder: Path, *arguments: str) -> None:
    """Run Python in `folder` without what is `ABSENT`, also in the processes that it starts."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    for name in ABSENT:
        (site / f"{name}.py").write_text("raise ModuleNotFoundError(__name__)")
    variables = {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "RAG_RESULTS": str(folder / "results")}
    command, variables = [sys.executable, *arguments], os.environ | variables | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_line_needs_neither_jupyter_nor_papermill(tmp_path):
    command = ["classify", "--dataset", "mnist", "--preset", "smoke", "--dry-run"]
    run_on_a_bare_machine(tmp_path, "-m", "rag_lib", *command)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("gpu")


def measured(folder: Path) -> pd.Series:
    """The values of a check by what they are of, and what was measured."""
    return pd.read_csv(folder / "check.csv").set_index(["what", "measured"])["value"]


def test_a_check_that_is_cut_off_leaves_what_it_has_measured(gpu, monkeypatch, tmp_path, capsys):
    """By the alarm that its minutes set, here at the third loop that is to be measured."""
    rates = iter((1.0, 2.0))

    def rate(*_):
        return next(rates, None) or signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(gpu, "rate", rate)
    monkeypatch.setattr(gpu, "seconds_to_its_end", lambda config: 0.5)
    assert gpu.main(["check", "--minutes", "60", "--out", str(tmp_path), "--preset", "smoke"]) == 0
    assert "the minutes are over" in capsys.readouterr().out
    table = measured(tmp_path)
    assert table["machine", "platform"] == f"{sys.platform} {provenance.processor()}"
    assert [float(table[kind, "ours, images/s"]) for kind in ("GAN", "cnn")] == [1, 2]
    assert ("resnet18", "ours, images/s") not in table


def test_what_fails_is_a_row_and_the_rest_is_measured(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "CLASSIFIERS", ("cnn",))
    monkeypatch.setattr(gpu, "rate", lambda config, *_: {"cnn": 5.0}[config.model])  # a GAN has no model
    monkeypatch.setattr(gpu, "train", lambda config: 1 / 0)
    monkeypatch.setattr(gpu, "killed_and_resumed", lambda config: "yes")
    assert gpu.check("smoke", 0.1, tmp_path) > 0
    table = measured(tmp_path)
    assert table["cnn", "seconds of a training to its end"] == "failed: ZeroDivisionError('division by zero')"
    assert table["GAN", "ours, images/s"].startswith("failed: AttributeError")
    assert float(table["cnn", "plain_bf16, images/s"]) == 5


@pytest.mark.slow
def test_a_check_measures_every_kind_beside_the_plain_loops(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "CLASSIFIERS", ("cnn",))
    few = gpu.random_images(DataConfig())[:6_000]  # for the rates, which do not depend on how many there are
    monkeypatch.setattr(gpu.bench, "random_images", lambda config: few)
    assert gpu.check("smoke", 0.03, tmp_path) == 0
    table = measured(tmp_path)
    loops = ("ours", "ours without a graph", "plain", "plain_bf16")
    assert all(float(table[kind, f"{loop}, images/s"]) > 0 for kind in ("GAN", "cnn") for loop in loops)
    same = "weights differ by 0, of two alike by 0"  # as they must be on a CPU
    assert re.fullmatch(rf"from step [1-5]\d; {same}", table["GAN", "killed and resumed"])
    assert [table[kind, "plain calls against a graph, 200 steps"] for kind in ("GAN", "cnn")] == [same, same]
    assert "convolution" in (tmp_path / "profile.txt").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not (data_dir() / "MNIST").exists(), reason="RAG_DATA has no MNIST")
def test_tables_that_are_cut_off_leave_runs_that_another_visit_adds_to(gpu, results, tmp_path):
    script, rehearsed = str(BENCHMARKS / "gpu.py"), ["--preset", "smoke", "--workers", "1"]
    run_on_a_bare_machine(tmp_path, script, "check", "--minutes", "0.1", "--out", "check", *rehearsed)
    run_on_a_bare_machine(tmp_path, script, "tables", "--minutes", "0.6", "--out", "tables", *rehearsed)
    left = tmp_path / "tables"
    files = {path.name: path.stat().st_size for path in left.iterdir()}
    assert len(files) <= 8
    assert max(files.values()) <= 16_000_000
    listed = pd.read_csv(left / "jobs.csv")
    assert listed["error"].isna().all()
    assert {"finished", "waiting"} <= set(listed["state"]) <= {"finished", "started", "waiting"}
    done = listed.loc[listed["state"] == "finished", "run_id"]
    assert done[0].startswith("gan-")  # the first in order of worth

    first, merged = results.rename(tmp_path / "first"), tmp_path / "merged"
    again = ["--minutes", "0", "--earlier", str(left), "--out", str(merged), "--preset", "smoke"]
    assert gpu.main(["tables", *again]) == 0
    generator = Path("runs", done[0], "generator.safetensors")
    assert (results / generator).read_bytes() == (first / generator).read_bytes()
    assert finished(done.iloc[-1])
    for folder in (left, merged):
        shutil.unpack_archive(folder / "tables.tar", folder)
    names = [path.name for path in left.glob("*.csv") if path.name != "jobs.csv"]
    assert names
    for name in names:
        assert (merged / name).read_bytes() == (left / name).read_bytes()


def test_the_plan_has_the_studys_own_runs_in_order_of_worth(gpu, monkeypatch):
    monkeypatch.setattr(gpu.gpu_tables, "stands", lambda job: False)  # whatever is published
    planned = gpu.gpu_tables.plan("paper")
    of_study = {job.id for job in jobs([resolve("mnist", "paper"), resolve("cifar10_jpeg", "paper", replicates=5)])}
    both = [job for job in planned if getattr(job.config, "arm", "") != "original_half"]
    assert {job.id for job in both if job.data.split_seed == 0} <= of_study
    kinds = [(job.data.dataset, job.data.split_seed, getattr(job.config, "model", job.kind)) for job in planned]
    datasets = ("mnist", "cifar10_jpeg")
    order = [(d, 0, name) for d in datasets for name in ("gan", "cnn", "quality", "resnet34", "resnet18")]
    order += [(d, 0, name) for d in datasets for name in ("resnet50", "resnet101")]
    order += [(d, r, name) for r in range(1, 5) for d in datasets for name in ("gan", "cnn", "quality")]
    assert list(dict.fromkeys(kinds)) == order


def test_runs_that_a_table_has_and_what_only_they_need_are_not_planned(gpu, monkeypatch):
    tables = gpu.gpu_tables
    monkeypatch.setattr(tables, "stands", lambda job: False)
    planned = tables.plan("paper")
    mixed = next(job for job in planned if job.kind == "classifier" and job.config.arm == "mixed")
    monkeypatch.setattr(tables, "stands", lambda job: job.data.split_seed > 0 or job.id == mixed.id)
    assert tables.plan("paper") == [job for job in planned if job.data.split_seed == 0 and job != mixed]
    monkeypatch.setattr(tables, "stands", lambda job: job.id != mixed.id)
    assert [job.id for job in tables.plan("paper")] == [*mixed.needs, mixed.id]


def test_a_run_that_failed_is_listed_with_its_reason(gpu, tmp_path):
    planned = gpu.gpu_tables.plan("smoke")[:2]
    gpu.gpu_tables.leave(planned, {planned[0].id: "it diverged"}, tmp_path, last=True)
    listed = pd.read_csv(tmp_path / "jobs.csv", keep_default_na=False)
    assert listed[["state", "error"]].to_numpy().tolist() == [["failed", "it diverged"], ["waiting", ""]]


def test_the_largest_files_stay_behind_and_what_is_packed_fits(gpu, monkeypatch, results, tmp_path):
    tables, planned = gpu.gpu_tables, gpu.gpu_tables.plan("smoke")[:2]
    sizes = {"metrics.json": 10, "generator.safetensors": 2_500, "large.pt": 70_000}
    sizes |= {"checkpoint-00000001.pt": 9_000, "checkpoint-00000002.pt": 9_000}
    for job in planned:
        folder = results / "runs" / job.id
        folder.mkdir(parents=True)
        for name, size in sizes.items():
            (folder / name).write_bytes(bytes(size))
    monkeypatch.setattr(tables, "PART", 18_000)
    monkeypatch.setattr(tables, "LARGEST", 60_000)
    tables.pack(planned, tmp_path)
    parts = [path.read_bytes() for path in sorted(tmp_path.glob("runs.tar.*"))]
    assert len(parts) <= tables.PARTS
    assert max(map(len, parts)) <= 18_000
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        packed = Counter(name.partition("/")[2] for name in archive.getnames())
    assert packed == {"metrics.json": 2, "generator.safetensors": 2, "checkpoint-00000002.pt": 2}


def test_provenance_names_the_gpu(monkeypatch):
    monkeypatch.setattr(provenance, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    around = provenance.environment("fp32")
    assert (around["device"], around["platform"]) == ("cuda", f"{sys.platform} NVIDIA H100 80GB HBM3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"), [("GAN, D with spectral norm, MNIST", "auto"), ("cnn, CIFAR-10", "fp32")]
)
def test_a_workload_is_measured_against_its_rivals(name, precision, gpu, monkeypatch):
    monkeypatch.setattr(gpu.bench, "TURNS", 1)
    row = gpu.bench.measure(name, gpu.bench.workloads(precision)[name])
    rivals = {name.removeprefix("ratio_to_") for name in row if name.startswith("ratio_to_")}
    emulated = pick_precision(precision, torch.device("cpu")) != "bf16"
    assert rivals == {"plain"} | (set() if emulated else {"plain_bf16"}) | ({"ignite"} if "cnn" in name else set())
    for rival in rivals:
        ratio = row["ours_images_per_s"] / row[f"{rival}_images_per_s"]
        assert row[f"ratio_to_{rival}"] == pytest.approx(ratio, rel=0.01, abs=0.01)  # both are rounded
    assert 0 < row["share_of_peak"] < 1
    assert 0 < row["share_of_data"] < 1


def test_operations_are_counted_by_the_shapes(gpu):
    """A check by hand: the small CNN's three convolutions and its linear layer, forward and backward."""
    forward = 2 * 64 * (28 * 28 * 32 * 9 + 14 * 14 * 64 * 32 * 9 + 7 * 7 * 128 * 64 * 9 + 128 * 10)
    first = 2 * 64 * 28 * 28 * 32 * 9  # needs no gradient of its input
    counted = gpu.bench.operations(gpu.bench.workloads()["cnn, MNIST"])
    assert counted == pytest.approx(3 * forward - first, rel=0.01)
