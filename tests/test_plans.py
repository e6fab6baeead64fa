"""Plans of several studies: what they vary, what they share, and what of them is published."""

import shlex

import pandas as pd
import pytest

from rag_lib import plans, published, study
from rag_lib.__main__ import parser
from rag_lib.errors import UserError
from rag_lib.options import parameters as given

SMOKE = {"dataset": "mnist5k", "preset": "smoke"}


def test_low_data_varies_the_number_of_real_images_and_keeps_the_callers_overrides():
    studies = plans.low_data([50, 100], overrides={"gan.width": 4}, replicates=2, **SMOKE)
    assert [s.data.n_real for s in studies] == [50, 100]
    assert {(s.gan.width, s.replicates, s.arms) for s in studies} == {(4, 2, plans.LOW_DATA_ARMS)}
    assert all(s.gan.data == s.data == s.quality.judge.data for s in studies)


def test_every_level_of_the_ablation_is_another_generator_and_the_first_ones_are_the_same():
    levels = plans.ablation(list(plans.ABLATION), **SMOKE | {"preset": "short"})
    settings_of_short = study.settings_for(preset="short")
    first = {factor: next(iter(names)) for factor, names in plans.ABLATION.items()}
    assert len({levels[item].gan for item in first.items()}) == 1
    assert levels["EMA", "on"].gan == settings_of_short.gan
    assert len({s.gan for s in levels.values()}) == 1 + sum(len(names) - 1 for names in plans.ABLATION.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plans.low_data("600", **SMOKE), "n_real = '600' must be a list"),
        (lambda: plans.low_data([], **SMOKE), "must be a list"),
        (lambda: plans.low_data([600.0], **SMOKE), "n_real = 600.0 is float; it must be int"),
        (lambda: plans.low_data([600], overrides="x", **SMOKE), "overrides = 'x' is str; it must be a dictionary"),
        (lambda: plans.ablation("attention", **SMOKE), "must be a list"),
        (lambda: plans.ablation(["colour"], **SMOKE), "factors = 'colour' is unknown"),
        (lambda: plans.low_data([50, 50], **SMOKE), "names a size twice"),
        (lambda: plans.low_data([50], overrides={"data.n_real": 9}, **SMOKE), "'data.n_real' is what this plan varies"),
        (lambda: plans.ablation(["output"], arms=["original", "mixed"], **SMOKE), "must be one arm"),
        (lambda: plans.ablation(["output"], arms=["original"], **SMOKE), "must be one arm with generated images"),
        (lambda: plans.ablation(["output"], preset="quick"), "compares by one classifier"),
        (
            lambda: plans.ablation(["EMA"], overrides={"gan.ema": 0.5}, **SMOKE),
            "override 'gan.ema' is what this plan varies",
        ),
    ],
)
def test_a_bad_plan_is_refused_in_one_line(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_published_is_what_the_tables_hold_of_a_plan_in_its_order(results):
    levels = plans.ablation(["output"], replicates=2, **SMOKE)
    table, quality, missing = published.rows(list(levels.values()))
    assert (len(table), len(quality), missing) == (0, 0, 8)
    computed, _ = study.run([levels["output", "S * X"]])
    table, quality, missing = published.rows(list(levels.values()))
    assert (len(table), len(quality), missing) == (2, 2, 4)
    assert list(table["run_id"]) == list(computed["run_id"])
    named = plans.by_level(table, levels, "classifier")
    assert list(named["level"]) == ["S * X", "S * X"]
    assert list(named["replicate"]) == [0, 1]


@pytest.mark.parametrize("factor", ["attention", "labels", "EMA", "DiffAugment"])
def test_every_level_of_the_ablation_trains_and_is_measured(factor, results):
    levels = plans.ablation([factor], **SMOKE)
    table, quality = study.run(list(dict.fromkeys(levels.values())))
    named = plans.by_level(table, levels, "classifier")
    assert list(named["level"]) == list(plans.ABLATION[factor])
    assert len(quality) == len(levels)
    assert named["test_accuracy"].between(0, 100).all()


def test_one_by_one_or_in_one_go_the_tables_are_the_same_bytes(results, monkeypatch):
    """The notebook's way, and arm by arm in another order; provenance apart."""

    def table(name: str, *groups: list[str]) -> bytes:
        monkeypatch.setenv("RAG_RESULTS", str(results / name))
        for arms in groups:
            study.run([study.settings_for(arms=arms, replicates=2, **SMOKE)])
        quality = pd.read_csv(results / name / "tables" / "quality.csv").drop(columns="gan_seconds")
        return (results / name / "tables" / "classify.csv").read_bytes() + quality.to_csv().encode()

    together = table("together", ["generated", "original", "mixed_add"])
    assert table("one_by_one", ["mixed_add"], ["original"], ["generated"]) == together


def test_a_plans_command_computes_its_very_runs():
    parameters = {"n_real": [50, 60], "replicates": 2, "arms": ["original"], "overrides": {"classifiers": {"cnn": 2}}}
    line = plans.command("low-data", **SMOKE, **parameters)
    assert line.startswith("python -m rag_lib low-data --dataset mnist5k --preset smoke --n-real 50,60 --replicates 2")
    options = parser().parse_args(shlex.split(line)[3:])
    assert plans.low_data([int(n) for n in options.n_real.split(",")], **given(options)) == plans.low_data(
        **SMOKE, **parameters
    )


def test_a_run_that_went_on_in_another_commit_counts_for_both_and_each_is_named_once(results):
    """Regression: the report listed the pair of a resumed run as a third commit."""
    settings = study.settings_for(preset="smoke", arms=["original", "original_plain"])
    table, _ = study.run([settings])
    path = results / "tables" / "classify_provenance.csv"
    rows = pd.read_csv(path)
    first, second = "a" * 40, "b" * 40
    rows["commit"] = [f"{first}, then {second}", second]
    rows.to_csv(path, index=False)
    assert published.completeness(table, 0, "").endswith("; commits aaaaaaa, bbbbbbb")
