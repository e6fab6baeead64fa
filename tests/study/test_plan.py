"""A study as a plan: its designs, its runs and their needs, how long they will take, and who computes them."""

import shutil
import sys
from math import isnan

import pandas as pd
import pytest
from helpers import refused

from rag_lib import study
from rag_lib.cli import main
from rag_lib.settings.config import LABELLED, ClassifierConfig, EngineConfig
from rag_lib.study import designs, plan
from rag_lib.study.arms import synthetic
from rag_lib.study.designs import ablation, low_data
from rag_lib.study.plan import ids_of, jobs
from rag_lib.study.resolve import resolve, settings_for

SMOKE = {"dataset": "mnist5k", "preset": "smoke"}
TWICE = resolve(preset="smoke", arms=["generated", "original"], replicates=2)


def test_low_data_varies_the_number_of_real_images_and_nothing_else():
    studies = low_data([50, 100], overrides={"gan.width": 4}, replicates=2, **SMOKE)
    assert [s.data.n_real for s in studies] == [50, 100]
    assert {(s.gan.width, s.replicates, s.arms) for s in studies} == {(4, 2, designs.LOW_DATA_ARMS)}


def test_every_level_of_the_ablation_is_another_generator_but_the_first():
    levels = ablation(list(designs.ABLATION), preset="short")
    first = {levels[factor, next(iter(names))].gan for factor, names in designs.ABLATION.items()}
    assert first == {settings_for(preset="short").gan}
    assert len({s.gan for s in levels.values()}) == 1 + sum(len(names) - 1 for names in designs.ABLATION.values())


def test_one_by_one_or_in_one_go_the_tables_are_the_same_bytes(results, monkeypatch):
    """The notebook's way, and arm by arm in another order; provenance apart."""

    def tables(name: str, *groups: list[str]) -> bytes:
        monkeypatch.setenv("RAG_RESULTS", str(results / name))
        for arms in groups:
            study.run([settings_for(arms=arms, replicates=2, **SMOKE)])
        quality = pd.read_csv(results / name / "tables" / "quality.csv").drop(columns="gan_seconds")
        return (results / name / "tables" / "classify.csv").read_bytes() + quality.to_csv().encode()

    together = tables("together", ["generated", "original", "mixed_add"])
    assert tables("one_by_one", ["mixed_add"], ["original"], ["generated"]) == together


def test_figures_of_other_sizes_factors_or_replicates_have_other_names():
    """Regression: 04 and 05 wrote the same files whatever was compared, committed ones among them."""
    sizes = [low_data(n, replicates=r, **SMOKE) for n, r in (([50, 100], 1), ([50, 60], 1), ([50, 100], 2))]
    factors = [list(ablation([factor], **SMOKE).values()) for factor in ("output", "attention")]
    assert len({designs.name_of(studies) for studies in (*sizes, *factors)}) == 5
    assert designs.name_of([settings_for(preset="smoke")]) == "mnist5k-smoke"


@pytest.mark.parametrize("labels", ["conditional", "per_class", "pseudo", "relabelled"])
def test_every_run_stands_once_in_the_plan_and_after_those_that_it_needs(labels):
    given = {"gan.labels": labels}
    studies = [resolve(preset="smoke", replicates=2, overrides=given | {"gan.width": width}) for width in (4, 8)]
    planned = jobs(studies)
    ids = [job.id for job in planned]
    assert len(set(ids)) == len(ids)
    assert all(need in ids[:i] for i, job in enumerate(planned) for need in job.needs)
    assert set(ids_of(studies)["classifier"] + ids_of(studies)["quality"]) <= set(ids)
    assert [len(job.needs) for job in planned if job.kind == "gan"] == [labels in LABELLED] * 4
    assert all(job.needs == () for job in planned if job.kind == "classifier" and job.config.gan is None)


def test_arms_of_real_images_need_no_generator_and_are_not_named_after_one():
    real = resolve(preset="smoke", arms=["original", "original_plain", "original_half", "oversampled"])
    assert {job.kind for job in jobs([real])} == {"classifier"}
    assert ids_of([real])["quality"] == []
    first, second = (ids_of([resolve(preset="smoke", seed=seed, arms=TWICE.arms)])["classifier"] for seed in (0, 1))
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, True]


def test_the_outlook_tells_the_time_by_finished_runs_of_the_same_kind():
    before = plan.outlook(jobs([TWICE]))
    assert before["runs"].to_dict() == {"gan": 2, "cnn": 4, "quality": 2}
    assert before["finished"].sum() == 0
    assert before["minutes"].isna().all()  # nobody has computed anything here
    study.run([resolve(preset="smoke", arms=TWICE.arms)])
    halfway = plan.outlook(jobs([TWICE]))
    assert halfway["finished"].to_dict() == {"gan": 1, "cnn": 2, "quality": 1}
    assert (halfway["minutes"] > 0).all()
    longer, wider = ({"gan.steps": 80}, {"gan.width": 16})
    minutes = [plan.outlook(jobs([resolve(preset="smoke", overrides=o)]))["minutes"]["gan"] for o in (longer, wider)]
    assert minutes[0] == pytest.approx(10 * halfway["minutes"]["gan"])
    assert isnan(minutes[1])
    study.run([TWICE])
    assert (plan.outlook(jobs([TWICE]))["minutes"] == 0).all()


@pytest.mark.parametrize("command", [["classify"], ["low-data", "--n-real", "50,100"], ["ablation"], ["notebooks"]])
def test_a_dry_run_prints_the_plan_and_computes_nothing(command, results, capsys):
    assert main([*command, "--preset", "smoke", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "of them to be computed" in said
    assert "unknown" in said
    assert not results.exists()


def test_images_of_an_earlier_training_are_not_taken_for_the_weights_own(digits):
    """Regression: a generator deleted and trained again within one kernel had its old images go on."""
    one, other = (study.run_gan(resolve(preset="smoke", seed=seed), digits).folder for seed in (0, 1))
    before = synthetic(one, 10, 0)
    assert synthetic(one, 10, 0) is before
    shutil.copy(other / "generator.safetensors", one)
    assert synthetic(one, 10, 0).x.equal(synthetic(other, 10, 0).x)
    assert not synthetic(one, 10, 0).x.equal(before.x)


def test_the_engine_is_no_part_of_what_is_computed():
    here, there = (resolve(preset="smoke", overrides={"engine.name": name}) for name in ("local", "ray"))
    assert there.name == here.name == resolve(preset="smoke").name
    assert [job.id for job in jobs([there])] == [job.id for job in jobs([here])]
    assert settings_for(preset="smoke", engine="ray").engine == EngineConfig(name="ray")


BALANCED = {"arms": ["balanced"], "overrides": {"gan.labels": "pseudo"}}
NO_ARMS = ["half", "mixed:2", "mixed:-0.1", "mixed:x", "mixed:nan", "original:2", "mixed_add:0", "generated:0.5", 3]


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (low_data, {"n_real": "600"}, "n_real = '600' must be a list"),
        (low_data, {"n_real": []}, "n_real = [] must be a list"),
        (low_data, {"n_real": [600.0]}, "n_real = 600.0 is float; it must be int"),
        (low_data, {"n_real": [50, 50]}, "names a size twice"),
        (low_data, {"n_real": [50], "overrides": "x"}, "overrides = 'x' is str; it must be a dictionary"),
        (low_data, {"n_real": [50], "overrides": {"data.n_real": 9}}, "'data.n_real' is what this plan varies"),
        (ablation, {"factors": "attention"}, "factors = 'attention' must be a list"),
        (ablation, {"factors": ["colour"]}, "factors = 'colour' is unknown"),
        (ablation, {"factors": ["output"], "arms": ["original", "mixed"]}, "must be one arm"),
        (ablation, {"factors": ["output"], "arms": ["original"]}, "must be one arm with generated images"),
        (ablation, {"factors": ["output"], "preset": "quick"}, "compares by one classifier"),
        (ablation, {"factors": ["recipe"], "overrides": {"gan.ema": 0.5}}, "'gan.ema' is what this plan varies"),
        *((resolve, {"arms": [arm]}, f"arm = {arm!r} is ") for arm in NO_ARMS),
        (settings_for, BALANCED, "wants a generator whose images have the class that is asked for"),
        (settings_for, {"engine": "dask"}, "engine.name = 'dask' is unknown; choose one of local, ray"),
        (settings_for, {"overrides": {"engine.gan_gpus": 0.5}}, "goes with engine = 'ray' only"),
        (settings_for, {"engine": "ray", "overrides": {"engine.workers": 2}}, "goes with engine = 'local' only"),
        (settings_for, {"engine": "ray", "overrides": {"engine.gan_cpus": 0.0}}, "engine.gan_cpus = 0.0 is out of"),
        (settings_for, {"engine": "ray", "overrides": {"engine.gan_gpu": 1}}, "did you mean engine.gan_gpus?"),
    ],
)
def test_a_study_that_cannot_be_is_refused_in_one_line(make, given, message):
    with refused(message):
        make(**SMOKE | given)


def test_a_classifier_refuses_a_generator_that_saw_other_images():
    with refused("classifier.gan was trained on other real images: data.dataset differ"):
        ClassifierConfig(arm="mixed", gan=resolve("mnist", "smoke").gan)


def test_without_ray_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with refused('engine = "ray" needs Ray: python -m pip install -e ".[ray]"'):
        study.run([settings_for(preset="smoke", engine="ray")])
