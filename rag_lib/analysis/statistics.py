"""From accuracies to an answer: replicates to intervals, paired differences and a verdict in words.

Every function takes a tidy table, one row a run, and gives a tidy table. The unit is a replicate: one draw of
the real images with one GAN seed and classifier seeds of its own; what several of these give within it is averaged
first. Intervals are Student's t over replicates, since a bootstrap over so few is too narrow.
"""

from collections.abc import Collection, Iterator
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import TTestPower

from rag_lib.base import UserError

LEVEL = 0.95
POWER = 0.8
MIN_REPLICATES = 5  # for a verdict
MIN_FOR_INTERVAL = 3  # that of two reaches 13 standard errors to either side, and none where they agree
MIN_SECOND_TEST = 3_000  # real images of MNIST from which on its validation images are a second test

# The primary questions, which get verdicts: the arm, and what it is compared with. Everything else is exploratory.
PRIMARY = {
    "Do generated images help when they are added?": ("mixed_add", "original"),
    "Do they help in place of real ones (the paper's claim: of half)?": ("mixed", "original"),
    "Yardstick: does classical augmentation help?": ("original", "original_plain"),
    "Do generated images of rare classes help beyond repeated real ones?": ("balanced", "oversampled"),
}


def replicates(table: pd.DataFrame, by: list[str], value: str = "test_accuracy") -> pd.DataFrame:
    """Average `value` over the classifier's seeds: one row a replicate of each group `by`."""
    return table.groupby([*by, "replicate"], sort=False, observed=True, dropna=False)[value].mean().reset_index()


def intervals(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return each group's mean test accuracy with its t interval, NaN below `MIN_FOR_INTERVAL`, over `n` replicates."""
    groups = replicates(table, by).groupby(by, sort=False, observed=True, dropna=False)["test_accuracy"]
    return with_interval(groups.agg(["mean", "std", "count"])).reset_index()


def with_interval(moments: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """`mean`, `std` and `count` as mean, low, high (NaN below `MIN_FOR_INTERVAL`) and n."""
    n = moments["count"]
    error = (moments["std"] / n**0.5).where(n >= MIN_FOR_INTERVAL)
    half = stats.t.ppf((1 + level) / 2, n - 1) * error
    mean = moments["mean"]
    return pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half, "n": n})


def contrasts(table: pd.DataFrame, by: list[str], named: dict[str, tuple[str, str]] = PRIMARY) -> pd.DataFrame:
    """Return the paired differences that the questions in `named` ask for, in each group `by`: one row a question.

    Columns: question, arm, baseline; mean, low, high (t interval of the difference, in the table's unit; NaN below
    `MIN_FOR_INTERVAL`), n (replicates that have both arms); p (two-sided t test), p_holm (Holm's correction over the
    questions of all classifiers and of all numbers of real images; groups that differ otherwise are families of their
    own); low_90, high_90; margin (the smallest effect of interest, chosen after the first studies had been seen: 0.1 on
    all of MNIST, elsewhere 5% of the baseline's errors); sampling (the standard error that the number of test images
    gives the baseline's accuracy); detectable (what so many replicates of this spread find with `POWER`, corrected for
    all of the family's questions); val_mean, val_low, val_high (the same difference on a second test, see
    `second_test`; NaN where there is none); answer and verdict, the answer with its numbers in words.
    A question that an arm is missing for has no row; where the arm has variants (`mixed:0.25`, `mixed_add:10`), it is
    asked of each. Raises `UserError` for rows without `test_images`.
    """
    if "test_images" not in table or table["test_images"].isna().any():
        raise UserError(
            "rows of classify.csv that an older version entered lack test_images; ask for their study again"
        )
    wide = _wide(table, by, "test_accuracy")
    second = _wide(second_test(table), by, "val_accuracy") if "val_accuracy" in table else wide[:0]
    second = second.reindex(columns=wide.columns)
    is_whole = (table["dataset"] == "mnist") & (table["data.n_real"] == 0)
    whole = table.assign(whole=is_whole).groupby(by, sort=False, dropna=False)["whole"].all()
    tested = table.groupby(by, sort=False, dropna=False)["test_images"].min()
    parts = []
    for question, arm, baseline in _asked(named, wide.columns):
        moments = _moments(wide, arm, baseline, by)
        part = with_interval(moments)
        level = wide[baseline].groupby(by, sort=False, dropna=False).mean().reindex(part.index)
        on_val = with_interval(_moments(second, arm, baseline, by)).reindex(part.index)
        part[["low_90", "high_90"]] = with_interval(moments, 0.9)[["low", "high"]]
        part[["val_mean", "val_low", "val_high"]] = on_val[["mean", "low", "high"]]
        part["margin"] = (0.05 * (100 - level)).mask(whole.reindex(part.index), 0.1)
        part["sampling"] = (level * (100 - level) / tested.reindex(part.index)) ** 0.5
        part["spread"] = moments["std"]
        t = (moments["mean"] / (moments["std"] / moments["count"] ** 0.5)).where(moments["mean"] != 0, 0.0)
        part["p"] = 2 * stats.t.sf(t.abs(), moments["count"] - 1)  # 0 for differences that are all the same and not 0
        parts.append(part.assign(question=question, arm=arm, baseline=baseline).reset_index())
    if not parts:
        return pd.DataFrame(columns=[*by, *_COLUMNS])
    result = pd.concat(parts, ignore_index=True)
    judged = result[result["n"] >= MIN_REPLICATES]  # fewer get no verdict, so they are not in the family either
    result[["p_holm", "detectable"]] = float("nan")
    apart = [column for column in by if column not in ("classifier", "data.n_real")]
    families = judged.groupby(apart, sort=False, dropna=False) if apart else [((), judged)]
    for _, family in families:
        result.loc[family.index, "p_holm"] = holm(family["p"])
        sizes = [effect_size(n, (1 - LEVEL) / len(family)) for n in family["n"]]
        result.loc[family.index, "detectable"] = sizes * family["spread"]
    result["answer"] = [answer(row) for row in result.to_dict("records")]
    result["verdict"] = [verdict(row) for row in result.to_dict("records")]
    return result[[*by, *_COLUMNS]]


_COLUMNS = ["question", "arm", "baseline", "mean", "low", "high", "n", "p", "p_holm", "low_90", "high_90", "margin"]
_COLUMNS += ["sampling", "detectable", "val_mean", "val_low", "val_high", "answer", "verdict"]


def second_test(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose validation images are a second test: on MNIST with all or many real images.

    There these are never trained on, and of equal size in each draw; rates and schedules were chosen on some of them.
    """
    n = table["data.n_real"]
    return table[(table["dataset"] == "mnist") & ((n == 0) | (n >= MIN_SECOND_TEST))]


def holm(p: pd.Series) -> np.ndarray:
    """Return these p, corrected for their number (Holm 1979).

    As statsmodels' multipletests, which collects all of Python's garbage at every call: a quarter of a second each.
    """
    order = np.argsort(p.to_numpy(), kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p.to_numpy()[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def answer(row: dict) -> str:
    """Return what a row of `contrasts` allows to say, the first of these that its numbers bear.

    Too few replicates. No effect that matters: the 90% interval lies within the smallest effect of interest (two
    one-sided tests at 5%). Helps or hurts: significant after Holm's correction. Undecided.
    A second test that contradicts makes it undecided: an effect that matters in place of none, or an interval that lies
    wholly on the far side of the first one's. An effect within the sampling error of the test images needs both tests.
    """
    mean, margin = row["mean"], row["margin"]
    if row["n"] < MIN_REPLICATES:
        return "too few replicates"
    if -margin < row["low_90"] and row["high_90"] < margin:
        contradicted = row["val_low"] > margin or row["val_high"] < -margin
        return "undecided" if contradicted else "no effect that matters"
    if row["p_holm"] < 1 - LEVEL:
        contradicted = row["val_high"] < row["low"] if mean > 0 else row["val_low"] > row["high"]
        confirmed = row["val_low"] > 0 if mean > 0 else row["val_high"] < 0
        if not contradicted and (confirmed or abs(mean) > row["sampling"]):
            return "helps" if mean > 0 else "hurts"
    return "undecided"


def estimate(mean: float, low: float, high: float, form: str = "+.2f", unit: str = "") -> str:
    """Return a mean with its interval, as in `+1.64 points (+1.29 to +1.99)`; the mean alone where there is none."""
    interval = "" if np.isnan(low) else f" ({low:{form}} to {high:{form}})"
    return f"{mean:{form}}{unit}{interval}"


def verdict(row: dict) -> str:
    """Return the answer in words, with the numbers that it rests on; differences in points."""
    points = estimate(row["mean"], row["low"], row["high"], unit=" points")
    match row["answer"]:
        case "too few replicates":
            return f"{row['answer']} ({row['n']} of at least {MIN_REPLICATES})"
        case "no effect that matters":
            return f"{row['answer']}: {points}; one of {row['margin']:.2f} would matter"
        case "undecided":
            return f"undecided: {points}; this design finds one of {row['detectable']:.2f} in four cases of five"
    return f"{row['answer']}: {points}"


def images_worth(curve: pd.Series, n: int, gain: float) -> float:
    """How many further real images than `n` bring the same gain, in points, as read off a curve of accuracies.

    `curve`: mean accuracy by number of real images, with `n` among them; read linearly against the logarithm of their
    number. NaN where the gain leads beyond the curve.
    """
    curve = curve.sort_index()
    log_n = np.interp(curve[n] + gain, curve, np.log(curve.index), left=np.nan, right=np.nan)
    return float(np.exp(log_n)) - n


def _asked(named: dict[str, tuple[str, str]], arms: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the questions that these arms allow: each with its arm, or a variant of it, and its baseline."""
    for question, (arm, baseline) in named.items():
        if baseline not in arms:
            continue
        for other in arms:
            if other == arm:
                yield question, arm, baseline
            elif other.startswith(f"{arm}:") and (other, baseline) not in named.values():
                yield f"{question} ({other})", other, baseline


def _wide(table: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    return replicates(table, [*by, "arm"], value).pivot(index=[*by, "replicate"], columns="arm", values=value)


def _moments(wide: pd.DataFrame, arm: str, baseline: str, by: list[str]) -> pd.DataFrame:
    """Mean, deviation and number of the paired differences in each group."""
    return (wide[arm] - wide[baseline]).dropna().groupby(by, sort=False, dropna=False).agg(["mean", "std", "count"])


@cache
def effect_size(n: int, alpha: float) -> float:
    """In standard deviations: what a two-sided paired t test of `n` replicates at `alpha` finds with `POWER`."""
    return float(TTestPower().solve_power(nobs=n, alpha=alpha, power=POWER, alternative="two-sided"))
