"""Intervals and verdicts: by hand, and by simulation."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from rag_lib.analysis.statistics import (
    MIN_REPLICATES,
    contrasts,
    effect_size,
    holm,
    images_worth,
    intervals,
    replicates,
)

QUESTIONS = {"one?": ("a", "b"), "two?": ("c", "b")}


def tidy(values: dict[str, list[float]], **columns) -> pd.DataFrame:
    """A row for each arm and replicate, of all of MNIST."""
    rows = [{"arm": arm, "replicate": r, "test_accuracy": v} for arm, vs in values.items() for r, v in enumerate(vs)]
    whole = {"classifier": "cnn", "seed": 0, "dataset": "mnist", "data.n_real": 0}
    return pd.DataFrame(rows).assign(**whole | columns)


def test_an_interval_computed_by_hand():
    """2, 4, 6, 8, 10: mean 6, deviation sqrt(10), t(4) = 2.776445, so half = 2.776445 * sqrt(2)."""
    (row,) = intervals(tidy({"a": [2, 4, 6, 8, 10]}), ["arm"]).to_dict("records")
    assert row["mean"] == 6
    assert row["n"] == 5
    assert [row["low"], row["high"]] == pytest.approx([6 - 2.776445 * 2**0.5, 6 + 2.776445 * 2**0.5], rel=1e-6)


def test_classifier_seeds_are_averaged_within_a_replicate_and_do_not_count_as_more_of_them():
    table = pd.concat([tidy({"a": [1.0, 2.0]}), tidy({"a": [3.0, 6.0]})])
    assert list(replicates(table, ["arm"])["test_accuracy"]) == [2.0, 4.0]
    (row,) = intervals(table, ["arm"]).to_dict("records")
    assert (row["mean"], row["n"]) == (3.0, 2)


@pytest.mark.parametrize("values", [[5.0], [4.0, 6.0], [5.0, 5.0]])
def test_fewer_than_three_replicates_have_a_mean_and_no_interval(values):
    """Regression: two gave accuracies beyond 100 or, where they happened to agree, an interval without width."""
    (row,) = intervals(tidy({"a": values}), ["arm"]).to_dict("records")
    assert row["mean"] == 5
    assert np.isnan([row["low"], row["high"]]).all()
    (row,) = contrasts(tidy({"a": values, "b": [0.0] * len(values)}), ["classifier"], named={"?": ("a", "b")}).to_dict(
        "records"
    )
    assert row["mean"] == 5
    assert np.isnan([row["low"], row["high"]]).all()


def test_a_paired_difference_computed_by_hand():
    """Differences 1, 1, 1, 1, 2: mean 1.2, deviation sqrt(0.2), error 0.2, t = 6, p = 0.003883 (t(4), two-sided).

    The second contrast's differences, -1 0 1 0 0, have mean 0 and p = 1; Holm doubles the smaller p.
    """
    table = tidy({"a": [11, 21, 31, 41, 52], "b": [10, 20, 30, 40, 50], "c": [9, 20, 31, 40, 50]})
    one, two = contrasts(table, ["classifier"], named=QUESTIONS).to_dict("records")
    assert one["mean"] == pytest.approx(1.2)
    assert one["high"] - one["mean"] == pytest.approx(2.776445 * 0.2, rel=1e-6)
    assert one["p"] == pytest.approx(0.003883, abs=1e-6)
    assert one["p_holm"] == pytest.approx(2 * one["p"])
    assert one["verdict"] == "helps: +1.20 points (+0.64 to +1.76)"
    assert (two["mean"], two["p"], two["p_holm"]) == (0, 1, 1)
    assert (
        two["verdict"]
        == "undecided: +0.00 points (-0.88 to +0.88); this design finds one of 1.45 in four cases of five"
    )


def test_pairing_removes_what_replicates_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, 6)
    table = tidy({"b": list(shared), "a": list(shared - 1 + rng.normal(0, 0.1, 6))})
    (row,) = contrasts(table, ["classifier"], named=QUESTIONS).to_dict("records")
    assert row["verdict"].startswith("hurts: -1.0")


@pytest.mark.parametrize("n", [1, 2, MIN_REPLICATES - 1])
def test_too_few_replicates_give_no_verdict_however_large_the_difference(n):
    (row,) = contrasts(
        tidy({"a": [90.0 + r for r in range(n)], "b": [10.0] * n}), ["classifier"], named=QUESTIONS
    ).to_dict("records")
    assert row["verdict"] == f"too few replicates ({n} of at least 5)"
    assert np.isnan(row["p_holm"])


def test_replicates_without_a_partner_are_left_out():
    table = tidy({"a": [1, 2, 3, 4, 5, 6], "b": [0, 1, 2, 3, 4]})
    (row,) = contrasts(table, ["classifier"], named=QUESTIONS).to_dict("records")
    assert row["n"] == 5


def test_differences_that_are_all_alike_are_certain_and_zero_is_no_effect():
    up, none = (tidy({"a": [b + d for b in range(5)], "b": list(range(5))}) for d in (1, 0))
    assert contrasts(up, ["classifier"], named=QUESTIONS)["verdict"][0] == "helps: +1.00 points (+1.00 to +1.00)"
    assert contrasts(none, ["classifier"], named=QUESTIONS)["answer"][0] == "no effect that matters"


def test_questions_whose_arms_are_missing_have_no_row_and_groups_are_families_of_their_own():
    assert contrasts(tidy({"a": [1.0] * 5}), ["classifier"], named=QUESTIONS).empty
    values = {"a": [1, 2, 3, 4, 6], "b": [0.0] * 5}
    table = pd.concat([tidy(values, dataset="x"), tidy(values | {"c": [0.0] * 5}, dataset="y")])
    result = contrasts(table, ["dataset"], named=QUESTIONS).set_index(["dataset", "question"])
    assert result.loc[("x", "one?"), "p_holm"] == result.loc[("x", "one?"), "p"]
    assert result.loc[("y", "one?"), "p_holm"] == pytest.approx(2 * result.loc[("y", "one?"), "p"])


def test_a_question_is_asked_of_every_variant_of_its_arm():
    """Ten times as many generated images are another question, and count in the correction."""
    table = tidy({"a": [1, 2, 3, 4, 6], "a:10": [2, 2, 3, 4, 7], "b": [0.0] * 5, "ab": [1.0] * 5})
    rows = contrasts(table, ["classifier"], named=QUESTIONS)
    assert rows[["question", "arm"]].to_numpy().tolist() == [["one?", "a"], ["one? (a:10)", "a:10"]]
    assert rows["p_holm"].max() == pytest.approx(2 * rows["p"].min())
    by_name = contrasts(table, ["classifier"], named=QUESTIONS | {"ten?": ("a:10", "b")})
    assert by_name["question"].tolist() == ["one?", "ten?"]  # once each


@pytest.mark.parametrize("by", [["classifier", "data.n_real"], ["data.n_real"]], ids=len)
def test_the_sizes_of_one_study_are_one_family(by):
    """Regression: each size was corrected by itself, as if the other sizes had not been asked."""
    strong, weak = {"a": [1, 1.1, 0.9, 1.0, 1.05], "b": [0.0] * 5}, {"a": [0.1, 1, 2, 3, 0.2], "b": [0.0] * 5}
    table = pd.concat([tidy(values).assign(**{"data.n_real": n}) for n, values in ((50, strong), (100, weak))])
    rows = contrasts(table, by, named=QUESTIONS).set_index("data.n_real")
    assert rows.loc[50, "p_holm"] == pytest.approx(2 * rows.loc[50, "p"])
    assert rows.loc[100, "p_holm"] == pytest.approx(rows.loc[100, "p"])
    alone = contrasts(table[table["data.n_real"] == 50], by, named=QUESTIONS)
    assert alone["p_holm"][0] == pytest.approx(alone["p"][0])


def test_a_difference_that_the_correction_takes_away_is_undecided():
    a = [1.0, 0.1, 0.6, 0.2, 0.9]  # p = 0.03
    rows = contrasts(tidy({"a": a, "b": [0.0] * 5, "c": [0.5, -0.5, 0.1, 0.2, -0.3]}), ["classifier"], named=QUESTIONS)
    assert list(rows["answer"]) == ["undecided", "undecided"]
    assert rows["p"][0] < 0.05 < rows["p_holm"][0]
    assert contrasts(tidy({"a": a, "b": [0.0] * 5}), ["classifier"], named=QUESTIONS)["answer"][0] == "helps"


SMALL = [0.05, 0.06, 0.04, 0.05, 0.06]


def test_an_effect_within_the_smallest_of_interest_is_none_that_matters_however_certain():
    """0.1 points on all of MNIST; elsewhere 5% of the baseline's errors: of 99.6%, 0.02 points."""
    values = {"a": [99.6 + v for v in SMALL], "b": [99.6] * 5}
    (whole,) = contrasts(tidy(values), ["classifier"], named=QUESTIONS).to_dict("records")
    assert (whole["answer"], whole["margin"]) == ("no effect that matters", 0.1)
    assert whole["p"] < 0.001
    (part,) = contrasts(tidy(values, **{"data.n_real": 3_000}), ["classifier"], named=QUESTIONS).to_dict("records")
    assert part["margin"] == pytest.approx(0.02)
    assert part["answer"] == "undecided"  # as small as the test images' own sampling error, and no second test


@pytest.mark.parametrize(
    ("effect", "on_val", "answer"),
    [
        (0.3, [0.3, 0.2, 0.4, 0.3, 0.2], "helps"),
        (0.3, [-0.1, 0.0, -0.2, 0.1, -0.1], "undecided"),  # contradicted
        (0.3, [-0.4, 0.4, -0.1, 0.2, -0.2], "helps"),  # too coarse to contradict
        (0.0, [0.5, 0.6, 0.5, 0.4, 0.5], "undecided"),  # an effect that matters, on the second test
        (-0.3, [-0.3, -0.2, -0.4, -0.3, -0.2], "hurts"),
    ],
)
def test_validation_images_are_a_second_test_on_all_of_mnist(effect, on_val, answer):
    table = tidy({"a": [99 + effect + v / 10 for v in SMALL], "b": [99.0] * 5})
    table["val_accuracy"] = [99 + v for v in on_val] + [99.0] * 5
    (row,) = contrasts(table, ["classifier"], named=QUESTIONS).to_dict("records")
    assert (row["answer"], row["val_mean"]) == (answer, pytest.approx(np.mean(on_val)))
    few = contrasts(table.assign(**{"data.n_real": 600}), ["classifier"], named=QUESTIONS)
    assert np.isnan(few["val_mean"][0])


def test_what_a_design_finds_it_finds_in_four_cases_of_five():
    """By simulation: a true effect of the detectable size, in units of the spread of the differences."""
    (row,) = contrasts(tidy({"a": [1, 2, 3, 4, 5], "b": [0.0] * 5}), ["classifier"], named=QUESTIONS).to_dict("records")
    size = row["detectable"] / np.std([1, 2, 3, 4, 5], ddof=1)
    draws = np.random.default_rng(0).normal(size, 1, (20_000, 5))
    t = draws.mean(1) / draws.std(1, ddof=1) * 5**0.5
    assert (np.abs(t) > 2.776445).mean() == pytest.approx(0.8, abs=0.01)
    two = contrasts(tidy({"a": [1, 2, 3, 4, 5], "b": [0.0] * 5, "c": [9.0] * 5}), ["classifier"], named=QUESTIONS)
    assert two["detectable"][0] / row["detectable"] == pytest.approx(effect_size(5, 0.025) / effect_size(5, 0.05))


def test_a_gain_is_read_off_the_curve_of_real_images():
    """From 100 to 300 the curve rises by 7 points: 3.5 of them are half of the way in logarithms."""
    curve = pd.Series({50: 78.0, 100: 88.0, 300: 95.0})
    assert images_worth(curve, 100, 3.5) == pytest.approx(100 * 3**0.5 - 100)
    assert images_worth(curve, 100, 0) == pytest.approx(0)
    assert np.isnan(images_worth(curve, 100, 8))


def test_the_classifiers_of_one_study_are_one_family():
    """Regression: each classifier's questions were corrected by themselves, as if the others had not been asked."""
    values = {"a": [1, 1.1, 0.9, 1.0, 1.05], "b": [0.0] * 5}
    table = pd.concat([tidy(values), tidy(values).assign(classifier="resnet18")])
    rows = contrasts(table, ["classifier"], named=QUESTIONS)
    assert rows["p_holm"].tolist() == pytest.approx((2 * rows["p"]).tolist())


def simulated(effect: float, groups: int = 2_000, n: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    shared = rng.normal(98, 0.5, (groups, 1, n))
    accuracies = shared + rng.normal(0, 0.2, (groups, 3, n)) + np.array([effect, 0, effect])[:, None]
    index = pd.MultiIndex.from_product([range(groups), ["a", "b", "c"], range(n)], names=["study", "arm", "replicate"])
    table = pd.Series(accuracies.ravel(), index=index, name="test_accuracy").reset_index()
    return table.assign(**{"dataset": "mnist", "data.n_real": 0})


def test_simulated_intervals_cover_the_truth_as_often_as_they_say():
    found = contrasts(simulated(effect=0.3), ["study"], named=QUESTIONS)
    covered = (found["low"] < 0.3) & (found["high"] > 0.3)
    assert 0.93 < covered.mean() < 0.97


def test_without_an_effect_hardly_any_study_claims_one_and_with_a_large_one_most_do():
    def share(effect: float) -> float:
        found = contrasts(simulated(effect), ["study"], named=QUESTIONS)
        return float(found["verdict"].str.match("helps|hurts").groupby(found["study"]).any().mean())

    assert share(0.0) < 0.06
    assert share(1.0) > 0.9


def test_holms_correction_is_that_of_statsmodels():
    for p in np.random.default_rng(0).uniform(0, 0.2, (50, 7)).round(2):  # with ties
        assert holm(pd.Series(p)) == pytest.approx(multipletests(p, method="holm")[1])
