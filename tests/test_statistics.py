"""Intervals and verdicts: by hand, and by simulation."""

import gc

import numpy as np
import pandas as pd
import pytest

from rag_lib.statistics import MIN_REPLICATES, contrasts, intervals, replicates

QUESTIONS = {"one?": ("a", "b"), "two?": ("c", "b")}


def tidy(values: dict[str, list[float]], **columns) -> pd.DataFrame:
    """A row for each arm and replicate."""
    rows = [{"arm": arm, "replicate": r, "test_accuracy": v} for arm, vs in values.items() for r, v in enumerate(vs)]
    return pd.DataFrame(rows).assign(classifier="cnn", seed=0, **columns)


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
    assert two["verdict"].startswith("not shown: any effect from -0.88 to +0.88 points")


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
    assert contrasts(none, ["classifier"], named=QUESTIONS)["verdict"][0].startswith("not shown")


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


def test_a_difference_that_the_correction_takes_away_is_not_called_compatible_with_none():
    """Regression: "not shown: any effect from -1.16 to -0.16 points is compatible", an interval without 0."""
    a = [1.0, 0.1, 0.6, 0.2, 0.9]  # p = 0.03
    rows = contrasts(tidy({"a": a, "b": [0.0] * 5, "c": [0.5, -0.5, 0.1, 0.2, -0.3]}), ["classifier"], named=QUESTIONS)
    one, two = rows["verdict"]
    assert one == (
        "not shown, significant alone but not after correction for all questions asked: +0.56 points "
        "(+0.06 to +1.06) taken alone"
    )
    assert two.startswith("not shown: any effect from -")


def test_the_classifiers_of_one_study_are_one_family():
    """Regression: each classifier's questions were corrected by themselves, as if the others had not been asked."""
    values = {"a": [1, 1.1, 0.9, 1.0, 1.05], "b": [0.0] * 5}
    table = pd.concat([tidy(values), tidy(values).assign(classifier="resnet18")])
    rows = contrasts(table, ["classifier"], named=QUESTIONS)
    assert rows["p_holm"].tolist() == pytest.approx((2 * rows["p"]).tolist())


@pytest.fixture
def uncollected(monkeypatch):
    """statsmodels collects garbage at every call, which takes longer than all else in two thousand studies."""
    monkeypatch.setattr(gc, "collect", lambda *args: 0)


def simulated(effect: float, groups: int = 2_000, n: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    shared = rng.normal(98, 0.5, (groups, 1, n))
    accuracies = shared + rng.normal(0, 0.2, (groups, 3, n)) + np.array([effect, 0, effect])[:, None]
    index = pd.MultiIndex.from_product([range(groups), ["a", "b", "c"], range(n)], names=["study", "arm", "replicate"])
    return pd.Series(accuracies.ravel(), index=index, name="test_accuracy").reset_index()


def test_simulated_intervals_cover_the_truth_as_often_as_they_say(uncollected):
    found = contrasts(simulated(effect=0.3), ["study"], named=QUESTIONS)
    covered = (found["low"] < 0.3) & (found["high"] > 0.3)
    assert 0.93 < covered.mean() < 0.97


def test_without_an_effect_hardly_any_study_claims_one_and_with_a_large_one_most_do(uncollected):
    def share(effect: float) -> float:
        found = contrasts(simulated(effect), ["study"], named=QUESTIONS)
        return float(found["verdict"].str.match("helps|hurts").groupby(found["study"]).any().mean())

    assert share(0.0) < 0.06
    assert share(1.0) > 0.9
