"""Designs of a study: what they vary, and what they share."""

import pandas as pd
import pytest

from rag_lib import study
from rag_lib.base import UserError
from rag_lib.study import designs

SMOKE = {"dataset": "mnist5k", "preset": "smoke"}


def test_low_data_varies_the_number_of_real_images_and_keeps_the_callers_overrides():
    studies = designs.low_data([50, 100], overrides={"gan.width": 4}, replicates=2, **SMOKE)
    assert [s.data.n_real for s in studies] == [50, 100]
    assert {(s.gan.width, s.replicates, s.arms) for s in studies} == {(4, 2, designs.LOW_DATA_ARMS)}
    assert all(s.gan.data == s.data == s.quality.judge.data for s in studies)


def test_every_level_of_the_ablation_is_another_generator_and_the_first_ones_are_the_same():
    levels = designs.ablation(list(designs.ABLATION), **SMOKE | {"preset": "short"})
    settings_of_short = study.settings_for(preset="short")
    first = {factor: next(iter(names)) for factor, names in designs.ABLATION.items()}
    assert len({levels[item].gan for item in first.items()}) == 1
    assert levels["EMA", "on"].gan == settings_of_short.gan
    assert len({s.gan for s in levels.values()}) == 1 + sum(len(names) - 1 for names in designs.ABLATION.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: designs.low_data("600", **SMOKE), "n_real = '600' must be a list"),
        (lambda: designs.low_data([], **SMOKE), "must be a list"),
        (lambda: designs.low_data([600.0], **SMOKE), "n_real = 600.0 is float; it must be int"),
        (lambda: designs.low_data([600], overrides="x", **SMOKE), "overrides = 'x' is str; it must be a dictionary"),
        (lambda: designs.ablation("attention", **SMOKE), "must be a list"),
        (lambda: designs.ablation(["colour"], **SMOKE), "factors = 'colour' is unknown"),
        (lambda: designs.low_data([50, 50], **SMOKE), "names a size twice"),
        (lambda: designs.low_data([50], overrides={"data.n_real": 9}, **SMOKE), "is what this plan varies"),
        (lambda: designs.ablation(["output"], arms=["original", "mixed"], **SMOKE), "must be one arm"),
        (lambda: designs.ablation(["output"], arms=["original"], **SMOKE), "must be one arm with generated images"),
        (lambda: designs.ablation(["output"], preset="quick"), "compares by one classifier"),
        (
            lambda: designs.ablation(["EMA"], overrides={"gan.ema": 0.5}, **SMOKE),
            "override 'gan.ema' is what this plan varies",
        ),
    ],
)
def test_a_bad_plan_is_refused_in_one_line(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("factor", ["attention", "labels", "EMA", "DiffAugment"])
def test_every_level_of_the_ablation_trains_and_is_measured(factor, results):
    levels = designs.ablation([factor], **SMOKE)
    table, quality = study.run(list(dict.fromkeys(levels.values())))
    named = designs.by_level(table, levels, "classifier")
    assert list(named["level"]) == list(designs.ABLATION[factor])
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


def test_figures_of_other_sizes_factors_or_replicates_have_other_names():
    """Regression: 04 and 05 wrote the same files whatever was compared, committed ones among them."""
    sizes = [designs.low_data(n, replicates=r, **SMOKE) for n, r in (([50, 100], 1), ([50, 60], 1), ([50, 100], 2))]
    factors = [list(designs.ablation([factor], **SMOKE).values()) for factor in ("output", "EMA")]
    names = [designs.name_of(studies) for studies in (*sizes, *factors)]
    assert len(set(names)) == 5
    assert designs.name_of([study.settings_for(preset="smoke")]) == "mnist5k-smoke"
