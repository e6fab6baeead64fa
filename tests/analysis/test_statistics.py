"""Intervals and verdicts: by hand, and by simulation."""

import numpy as np
import pandas as pd
import pytest
from helpers import refused
from statsmodels.stats.multitest import multipletests

from rag_lib.analysis.statistics import contrasts, effect_size, holm, images_worth, intervals, replicates

QUESTIONS = {"one?": ("a", "b"), "two?": ("c", "b")}
ZERO = [0.0] * 5
T_4 = 2.776445  # Student's t of 4 degrees of freedom, at 97.5%


def tidy(values: dict[str, list[float]], **columns) -> pd.DataFrame:
    """A row for each arm and replicate, of all of MNIST."""
    rows = [{"arm": arm, "replicate": r, "test_accuracy": v} for arm, vs in values.items() for r, v in enumerate(vs)]
    whole = {"classifier": "cnn", "seed": 0, "dataset": "mnist", "data.n_real": 0, "test_images": 10_000}
    return pd.DataFrame(rows).assign(**whole | columns)


def asked(table: pd.DataFrame | dict[str, list[float]], by: tuple[str, ...] = ("classifier",)) -> pd.DataFrame:
    """What the questions find in a table, or in the one of these values."""
    return contrasts(tidy(table) if isinstance(table, dict) else table, list(by), named=QUESTIONS)


@pytest.mark.parametrize(
    ("values", "half"),
    [
        ([2.0, 4.0, 6.0, 8.0, 10.0], T_4 * 2**0.5),  # their deviation is sqrt(10)
        # regression: two gave accuracies beyond 100 or, where they agreed, an interval without width
        ([5.0], np.nan),
        ([4.0, 6.0], np.nan),
        ([5.0, 5.0], np.nan),
    ],
)
def test_intervals_are_students_t_and_want_three_replicates(values, half):
    expected = [np.mean(values), np.mean(values) - half, np.mean(values) + half, len(values)]
    for found in (intervals(tidy({"a": values}), ["arm"]), asked({"a": values, "b": [0.0] * len(values)})):
        (row,) = found[["mean", "low", "high", "n"]].to_numpy().tolist()
        assert row == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_classifier_seeds_are_averaged_within_a_replicate():
    table = pd.concat([tidy({"a": [1.0, 2.0]}), tidy({"a": [3.0, 6.0]})])
    assert list(replicates(table, ["arm"])["test_accuracy"]) == [2.0, 4.0]
    (row,) = intervals(table, ["arm"]).to_dict("records")
    assert (row["mean"], row["n"]) == (3.0, 2)  # more seeds are no more replicates


def test_a_paired_difference_computed_by_hand():
    """Differences 1, 1, 1, 1, 2: mean 1.2, deviation sqrt(0.2), error 0.2, t = 6, p = 0.003883 (t(4), two-sided).

    The second contrast's differences, -1 0 1 0 0, have mean 0 and p = 1; Holm doubles the smaller p.
    """
    values = {"a": [11, 21, 31, 41, 52], "b": [10, 20, 30, 40, 50], "c": [9, 20, 31, 40, 50]}
    one, two = asked(values).to_dict("records")
    assert one["mean"] == pytest.approx(1.2)
    assert one["high"] - one["mean"] == pytest.approx(T_4 * 0.2, rel=1e-6)
    assert one["p"] == pytest.approx(0.003883, abs=1e-6)
    assert one["p_holm"] == pytest.approx(2 * one["p"])
    assert one["verdict"] == "helps: +1.20 points (+0.64 to +1.76)"
    assert (two["mean"], two["p"], two["p_holm"]) == (0, 1, 1)
    undecided = "undecided: +0.00 points (-0.88 to +0.88); this design finds one of 1.45 in four cases of five"
    assert two["verdict"] == undecided


@pytest.mark.parametrize(
    ("a", "b", "n", "verdict"),
    [
        # pairing removes what replicates share
        ([-8.1, 3.0, 14.9, 0.0, 5.1], [-7.0, 4.0, 16.0, 1.0, 6.0], 5, "hurts: -1.02 points (-1.12 to -0.92)"),
        ([1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4], 5, "helps: +1.00 points (+1.00 to +1.00)"),  # one without a partner
        (ZERO, ZERO, 5, "no effect that matters: +0.00 points (+0.00 to +0.00); one of 0.10 would matter"),
        # too few give no verdict, however large the difference
        ([90.0], [10.0], 1, "too few replicates (1 of at least 5)"),
        ([90.0, 91.0, 92.0, 93.0], [10.0] * 4, 4, "too few replicates (4 of at least 5)"),
    ],
)
def test_a_verdict_rests_on_paired_replicates_of_which_there_are_enough(a, b, n, verdict):
    (row,) = asked({"a": a, "b": b}).to_dict("records")
    assert (row["n"], row["verdict"]) == (n, verdict)
    assert np.isnan(row["p_holm"]) == (n < 5)


def test_a_question_is_asked_of_every_variant_of_its_arm():
    """Ten times as many generated images are another question, and count in the correction."""
    table = tidy({"a": [1, 2, 3, 4, 6], "a:10": [2, 2, 3, 4, 7], "b": ZERO, "ab": [1.0] * 5})
    rows = asked(table)
    assert rows[["question", "arm"]].to_numpy().tolist() == [["one?", "a"], ["one? (a:10)", "a:10"]]
    assert rows["p_holm"].max() == pytest.approx(2 * rows["p"].min())
    by_name = contrasts(table, ["classifier"], named=QUESTIONS | {"ten?": ("a:10", "b")})
    assert by_name["question"].tolist() == ["one?", "ten?"]  # once each
    assert asked({"a": [1.0] * 5}).empty  # for want of an arm


ONE, TWO = {"a": [1, 1.1, 0.9, 1.0, 1.05], "b": ZERO}, {"a": [0.1, 1, 2, 3, 0.2], "b": ZERO}


@pytest.mark.parametrize(
    ("column", "by", "times"),
    [
        # regression: each classifier and each size was corrected by itself, as if the others had not been asked
        ("classifier", ("classifier",), (2, 1)),
        ("data.n_real", ("classifier", "data.n_real"), (2, 1)),
        ("data.n_real", ("data.n_real",), (2, 1)),
        ("dataset", ("dataset",), (1, 1)),
    ],
)
def test_the_classifiers_and_sizes_of_a_study_are_one_family(column, by, times):
    first, second = (tidy(values).assign(**{column: value}) for values, value in ((ONE, 50), (TWO, 100)))
    rows = asked(pd.concat([first, second]), by)
    assert (rows["p_holm"] / rows["p"]).tolist() == pytest.approx(times)
    assert asked(first, by)["p_holm"][0] == pytest.approx(rows["p"][0])


def test_a_difference_that_the_correction_takes_away_is_undecided():
    values = {"a": [1.0, 0.1, 0.6, 0.2, 0.9], "b": ZERO}  # p = 0.03
    assert asked(values)["answer"].tolist() == ["helps"]
    rows = asked(values | {"c": [0.5, -0.5, 0.1, 0.2, -0.3]})
    assert rows["answer"].tolist() == ["undecided", "undecided"]
    assert rows["p"][0] < 0.05 < rows["p_holm"][0]


SMALL = [0.05, 0.06, 0.04, 0.05, 0.06]


@pytest.mark.parametrize(
    ("n_real", "margin", "answer"),
    [
        (0, 0.1, "no effect that matters"),  # 0.1 points on all of MNIST, however certain
        # 5% of the errors; as small as the test images' own sampling error, and no second test
        (3_000, 0.02, "undecided"),
    ],
)
def test_an_effect_within_the_smallest_of_interest_is_none_that_matters(n_real, margin, answer):
    table = tidy({"a": [99.6 + v for v in SMALL], "b": [99.6] * 5}, **{"data.n_real": n_real})
    (row,) = asked(table).to_dict("records")
    assert (row["answer"], row["margin"]) == (answer, pytest.approx(margin))
    assert row["p"] < 0.001


@pytest.mark.parametrize(("test_images", "answer"), [(10_000, "helps"), (1_000, "undecided")])
def test_few_test_images_make_an_effect_uncertain(test_images, answer):
    """Regression: the 1,000 test images of a small set counted as the 10,000 of MNIST."""
    small = tidy({"a": [98.8 + v for v in SMALL], "b": [98.6] * 5}, test_images=test_images)
    assert asked(small)["answer"].tolist() == [answer]
    with refused("lack test_images; ask for their study again"):
        asked(pd.concat([small, small.drop(columns="test_images")]))


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
    (row,) = asked(table).to_dict("records")
    assert (row["answer"], row["val_mean"]) == (answer, pytest.approx(np.mean(on_val)))
    assert np.isnan(asked(table.assign(**{"data.n_real": 600}))["val_mean"][0])


def test_what_a_design_finds_it_finds_in_four_cases_of_five():
    """By simulation: a true effect of the detectable size, in units of the spread of the differences."""
    values = {"a": [1, 2, 3, 4, 5], "b": ZERO}
    detectable = asked(values)["detectable"][0]
    draws = np.random.default_rng(0).normal(detectable / np.std(values["a"], ddof=1), 1, (20_000, 5))
    t = draws.mean(1) / draws.std(1, ddof=1) * 5**0.5
    assert (np.abs(t) > T_4).mean() == pytest.approx(0.8, abs=0.01)
    of_two = asked(values | {"c": [9.0] * 5})["detectable"][0]
    assert of_two / detectable == pytest.approx(effect_size(5, 0.025) / effect_size(5, 0.05))


def test_a_gain_is_read_off_the_curve_of_real_images():
    """From 100 to 300 the curve rises by 7 points: 3.5 of them are half of the way in logarithms."""
    curve = pd.Series({50: 78.0, 100: 88.0, 300: 95.0})
    worth = [images_worth(curve, 100, gain) for gain in (3.5, 0, 8)]
    assert worth == pytest.approx([100 * 3**0.5 - 100, 0, np.nan], nan_ok=True)


@pytest.mark.parametrize(("effect", "claims"), [(0.0, (0, 0.06)), (0.3, (0, 1)), (1.0, (0.9, 1))])
def test_simulated_intervals_and_claims_err_as_often_as_they_say(effect, claims):
    groups, n, rng = 1_000, 5, np.random.default_rng(1)
    shared = rng.normal(98, 0.5, (groups, 1, n))
    accuracies = shared + rng.normal(0, 0.2, (groups, 3, n)) + np.array([effect, 0, effect])[:, None]
    index = pd.MultiIndex.from_product([range(groups), list("abc"), range(n)], names=["study", "arm", "replicate"])
    table = pd.Series(accuracies.ravel(), index=index, name="test_accuracy").reset_index()
    found = asked(table.assign(**{"dataset": "mnist", "data.n_real": 0, "test_images": 10_000}), ("study",))
    assert 0.93 < ((found["low"] < effect) & (effect < found["high"])).mean() < 0.97
    claimed = found["answer"].isin(["helps", "hurts"]).groupby(found["study"]).any().mean()
    assert claims[0] <= claimed <= claims[1]


def test_holms_correction_is_that_of_statsmodels():
    for p in np.random.default_rng(0).uniform(0, 0.2, (50, 7)).round(2):  # with ties
        assert holm(pd.Series(p)) == pytest.approx(multipletests(p, method="holm")[1])
