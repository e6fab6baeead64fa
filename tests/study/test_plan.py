"""A study as a plan: its runs and their needs, how long they will take, and who computes them."""

import math
import shutil
import sys

import pytest

from rag_lib import study
from rag_lib.base import UserError
from rag_lib.cli import main
from rag_lib.settings.config import EngineConfig
from rag_lib.study import plan
from rag_lib.study.arms import synthetic
from rag_lib.study.plan import ids_of, jobs
from rag_lib.study.resolve import resolve

SMOKE = resolve(preset="smoke", arms=["generated", "original"], replicates=2)


@pytest.mark.parametrize("labels", ["conditional", "per_class", "pseudo"])
def test_every_run_stands_once_in_the_plan_and_after_those_that_it_needs(labels):
    studies = [
        resolve(preset="smoke", replicates=2, overrides={"gan.labels": labels, "gan.width": width}) for width in (4, 8)
    ]
    planned = jobs(studies)
    ids = [job.id for job in planned]
    assert len(set(ids)) == len(ids)
    assert all(need in ids[:i] for i, job in enumerate(planned) for need in job.needs)
    assert set(ids_of(studies)["classifier"] + ids_of(studies)["quality"]) <= set(ids)
    gans = [job for job in planned if job.kind == "gan"]
    assert [len(job.needs) for job in gans] == [labels == "pseudo"] * 4
    assert all(job.needs == () for job in planned if job.kind == "classifier" and job.config.gan is None)


def test_the_outlook_counts_what_is_there_and_tells_the_time_by_runs_of_the_same_kind(results):
    before = plan.outlook(jobs([SMOKE]))
    assert before["runs"].to_dict() == {"gan": 2, "cnn": 4, "quality": 2}
    assert before["finished"].sum() == 0
    assert before["minutes"].isna().all()  # nobody has computed anything here
    study.run([resolve(preset="smoke", arms=["generated", "original"])])
    halfway = plan.outlook(jobs([SMOKE]))
    assert halfway["finished"].to_dict() == {"gan": 1, "cnn": 2, "quality": 1}
    assert (halfway["minutes"] > 0).all()
    longer = plan.outlook(jobs([resolve(preset="smoke", overrides={"gan.steps": 80})]))
    assert longer["minutes"]["gan"] == pytest.approx(10 * halfway["minutes"]["gan"])
    wider = plan.outlook(jobs([resolve(preset="smoke", overrides={"gan.width": 16})]))
    assert math.isnan(wider["minutes"]["gan"])
    study.run([SMOKE])
    assert (plan.outlook(jobs([SMOKE]))["minutes"] == 0).all()


@pytest.mark.parametrize("command", [["classify"], ["low-data", "--n-real", "50,100"], ["ablation"], ["notebooks"]])
def test_a_dry_run_prints_the_plan_and_computes_nothing(command, results, capsys):
    assert main([*command, "--preset", "smoke", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "of them to be computed" in said
    assert "unknown" in said
    assert not results.exists()


def test_images_of_an_earlier_training_are_not_taken_for_those_of_the_weights_that_are_there(results, digits):
    """Regression: a generator deleted and trained again within one kernel had its old images go on."""
    of_seed = [study.run_gan(resolve(preset="smoke", seed=seed), digits).folder for seed in (0, 1)]
    before = synthetic(of_seed[0], 10, 0)
    assert synthetic(of_seed[0], 10, 0) is before
    shutil.copy(of_seed[1] / "generator.safetensors", of_seed[0])
    assert synthetic(of_seed[0], 10, 0).x.equal(synthetic(of_seed[1], 10, 0).x)
    assert not synthetic(of_seed[0], 10, 0).x.equal(before.x)


def test_the_engine_is_no_part_of_what_is_computed():
    there = resolve(preset="smoke", overrides={"engine.name": "ray", "engine.gan_gpus": 0.25})
    here = resolve(preset="smoke")
    assert there.name == here.name
    assert [job.id for job in jobs([there])] == [job.id for job in jobs([here])]
    assert study.settings_for(preset="smoke", engine="ray").engine == EngineConfig(name="ray")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "dask"}, "engine.name = 'dask' is unknown; choose one of local, ray"),
        ({"overrides": {"engine.gan_gpus": 0.5}}, "engine.gan_gpus = 0.5 goes with engine = 'ray' only"),
        ({"engine": "ray", "overrides": {"engine.gan_cpus": 0.0}}, "engine.gan_cpus = 0.0 is out of range"),
        ({"engine": "ray", "overrides": {"engine.gan_gpu": 1}}, "did you mean engine.gan_gpus?"),
    ],
)
def test_an_engine_that_cannot_be_is_refused_in_one_line(given, message):
    with pytest.raises(UserError) as error:
        study.settings_for(preset="smoke", **given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_without_ray_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'engine = "ray" needs Ray: python -m pip install -e "\.\[ray\]"'):
        study.run([study.settings_for(preset="smoke", engine="ray")])
