"""The same study on a Ray cluster of this machine: the same bytes, and what is left when parts of it die."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
from helpers import wait_until

from rag_lib import study
from rag_lib.base import ROOT, UserError
from rag_lib.runtime.files import locked
from rag_lib.runtime.store import Run, finished, lock_of
from rag_lib.settings.config import EngineConfig, Settings
from rag_lib.study import conduct
from rag_lib.study.cluster import connect, takes
from rag_lib.study.plan import Job, jobs
from rag_lib.study.resolve import resolve
from rag_lib.study.scheduler import compute_all

pytestmark = pytest.mark.slow
ARMS = ["original", "generated", "mixed_add"]


@pytest.fixture
def cluster(monkeypatch):
    """Two machines of one processor each; the second can be killed."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs Ray: pip install --editable '.[ray]'")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else tests that run beside it starve it
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray wants a secret in the home folder
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def grid(cluster, **overrides) -> Settings:
    """36 runs of classifiers and 4 GANs, in seconds."""
    given = {"engine.name": "ray", "engine.address": cluster.address, "engine.gan_cpus": 1.0, "classifiers": {"cnn": 3}}
    given |= overrides
    return resolve(preset="smoke", arms=ARMS, replicates=4, overrides=given)


def check_whole(settings: Settings, results: Path) -> None:
    """Every run of the plan is there, and each has one row."""
    assert all(finished(job.id) for job in jobs([settings]))
    for name, runs in (("classify", 36), ("quality", 4)):
        table = pd.read_csv(results / "tables" / f"{name}.csv")
        assert len(table) == table["run_id"].nunique() == runs
    assert all((folder / "metrics.json").exists() for folder in (results / "runs").glob("*-*"))


@pytest.mark.parametrize("labels", ["conditional", "per_class", "pseudo"])
def test_a_cluster_gives_the_same_tables_to_the_byte(labels, cluster, results, monkeypatch):
    def tables(name: str, engine: EngineConfig) -> bytes:
        monkeypatch.setenv("RAG_RESULTS", str(results / name))
        settings = resolve(preset="smoke", arms=ARMS, replicates=2, overrides={"gan.labels": labels})
        study.run([replace(settings, engine=engine)])
        quality = pd.read_csv(results / name / "tables" / "quality.csv").drop(columns="gan_seconds")
        return (results / name / "tables" / "classify.csv").read_bytes() + quality.to_csv().encode()

    assert tables("there", grid(cluster).engine) == tables("here", EngineConfig(gan_cpus=1.0))
    provenance = pd.read_csv(results / "there" / "tables" / "classify_provenance.csv")
    here = pd.read_csv(results / "here" / "tables" / "classify_provenance.csv")
    same = ["run_id", "commit", "torch", "platform", "device", "threads", "precision", "attempts"]
    pd.testing.assert_frame_equal(provenance[same], here[same])


def test_a_machine_lost_in_the_middle_costs_its_runs_no_more_than_time(cluster, results):
    """When 12 of the study's runs are finished."""
    second = next(node for node in cluster.list_all_nodes() if not node.head)
    settings = grid(cluster)

    def struck(engine: EngineConfig, planned: Sequence[Job]) -> Iterator[tuple[Job, Run]]:
        for i, done in enumerate(compute_all(engine, planned), 1):
            yield done
            if i == 12:
                cluster.remove_node(second, allow_graceful=False)

    with mock.patch.object(conduct, "compute_all", struck):
        study.run([settings])
    check_whole(settings, results)
    assert len(cluster.list_all_nodes()) == 1


def test_a_driver_that_was_killed_resumes_where_it_was(cluster, results):
    settings = grid(cluster)
    command = [sys.executable, "-m", "rag_lib", "classify", "--preset", "smoke", "--arms", ",".join(ARMS)]
    command += ["--replicates", "4", "--set", "classifiers={'cnn':3}", "--engine", "ray", "--address", cluster.address]
    command += ["--set", "engine.gan_cpus=1"]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: len(list((results / "runs").glob("*-*/metrics.json"))) >= 12, 120)
    driver.kill()
    driver.wait()
    before = {path: path.stat().st_mtime_ns for path in (results / "runs").glob("*-*/metrics.json")}
    assert len(before) < len(jobs([settings]))
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    check_whole(settings, results)


def test_a_run_that_fails_is_named_with_its_config_and_a_way_to_try_again(cluster, capfd):
    models = {"cnn": 1, "resnet18": 1}
    settings = grid(cluster, **{"classifiers": models, "resnet18.lr": 1e30, "resnet18.schedule": "step"})
    with pytest.raises(UserError, match=r"12 of 32 runs failed, the others are finished; the first: .*; to try"):
        study.run([settings])
    failed = [job for job in jobs([settings]) if not finished(job.id)]
    assert {job.config.model for job in failed} == {"resnet18"}
    said = capfd.readouterr().err
    assert all(f"{job.id} failed: {job.title}: " in said for job in failed)
    assert said.count('"lr": 1e+30') == len(failed) == 12


def test_what_cannot_be_had_is_refused_in_a_line(cluster, results):
    for name, value, message in (
        ("gan_gpus", 1.0, "no machine of the cluster has .*engine.gan_gpus = 1.0"),
        ("address", "127.0.0.1:1", "engine.address = '127.0.0.1:1': .*ray start --head"),
    ):
        with pytest.raises(UserError, match=rf"\A.*{message}.*\Z"):  # in one line
            study.run([grid(cluster, **{f"engine.{name}": value})])
    assert not (results / "runs").exists()


def test_a_run_without_a_share_of_a_gpu_sees_none_and_others_their_own(cluster, monkeypatch):
    """Regression: a process that went on to another GPU would have stayed on its first."""
    cluster.add_node(num_cpus=1, num_gpus=2)
    settings = grid(cluster, **{"engine.gan_gpus": 0.5})
    ray = connect(settings.engine)
    try:

        def process() -> tuple[int, str]:
            return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "")

        task = ray.remote(**takes(settings.engine, "gan"))(process)
        seen = ray.get([task.remote() for _ in range(4)])
        assert len({pid for pid, _ in seen}) == 4
        assert {gpu for _, gpu in seen} <= {"0", "1"}
    finally:
        ray.shutdown()
    # what the driver asks for would fail there, or take a GPU that is not its own
    monkeypatch.setenv("RAG_DEVICE", "no such device")
    runs = dict(compute_all(grid(cluster).engine, jobs([settings])[:1]))
    assert [run.environment()["device"] for run in runs.values()] == ["cpu"]


def test_nothing_stays_in_memory_that_no_run_needs(cluster):
    """Regression: the images of all replicates stayed in the cluster's memory."""
    import ray

    def used() -> float:
        return ray.cluster_resources()["object_store_memory"] - ray.available_resources()["object_store_memory"]

    settings = grid(cluster)
    runs, planned = compute_all(settings.engine, jobs([settings])), jobs([settings])
    next(runs)
    at_first = used()
    for _ in planned[1:]:
        next(runs)
    wait_until(lambda: not used(), 30)
    assert used() == 0 < at_first
    runs.close()


def test_a_folder_that_another_process_holds_does_not_stop_the_others(cluster):
    """Regression: nothing was fetched or handed over until it was free."""
    settings = grid(cluster)
    planned = jobs([settings])
    held = next(job for job in planned if job.kind == "classifier" and job.config.gan is None and not job.needs)
    ids = []
    with locked(lock_of(held.id), ""):
        runs = compute_all(settings.engine, planned)
        while len(ids) < 20:
            ids.append(next(runs)[0].id)
    assert held.id not in ids
    assert held.id in [job.id for job, _ in runs]
