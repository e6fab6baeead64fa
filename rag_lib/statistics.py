"""From accuracies to an answer: replicates to intervals, paired differences and a verdict in words.

Every function takes a tidy table, one row a run, and gives a tidy table. The unit is a replicate: one draw of
the real images with one GAN seed and classifier seeds of its own; what several of these give within it is averaged
first. Intervals are Student's t over replicates, since a bootstrap over so few is too narrow.
"""

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.95
MIN_REPLICATES = 5  # for a verdict
MIN_FOR_INTERVAL = 3  # that of two reaches 13 standard errors to either side, and none where they agree

# question: (arm, the arm it is compared with)
CONTRASTS = {
    "Do generated images help when they are added?": ("mixed_add", "original"),
    "Do they help in place of real ones (the paper's claim: of half)?": ("mixed", "original"),
    "Yardstick: does classical augmentation help?": ("original", "original_plain"),
    "Do generated images of rare classes help beyond repeated real ones?": ("balanced", "oversampled"),
}


def replicates(table: pd.DataFrame, by: list[str], value: str = "test_accuracy") -> pd.DataFrame:
    """The mean of `value` over the classifier's seeds: one row a replicate of each group `by`."""
    return table.groupby([*by, "replicate"], sort=False, observed=True, dropna=False)[value].mean().reset_index()


def intervals(table: pd.DataFrame, by: list[str], value: str = "test_accuracy") -> pd.DataFrame:
    """Mean, and t interval (`low`, `high`; NaN below `MIN_FOR_INTERVAL`) over the `n` replicates of each group `by`."""
    groups = replicates(table, by, value).groupby(by, sort=False, observed=True, dropna=False)[value]
    return with_interval(groups.agg(["mean", "std", "count"])).reset_index()


def with_interval(moments: pd.DataFrame) -> pd.DataFrame:
    """`mean`, `std` and `count` as mean, low, high (NaN below `MIN_FOR_INTERVAL`) and n."""
    n = moments["count"]
    error = (moments["std"] / n**0.5).where(n >= MIN_FOR_INTERVAL)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * error
    return pd.DataFrame(
        {"mean": moments["mean"], "low": moments["mean"] - half, "high": moments["mean"] + half, "n": n}
    )


def contrasts(
    table: pd.DataFrame,
    by: list[str],
    value: str = "test_accuracy",
    named: dict[str, tuple[str, str]] = CONTRASTS,
) -> pd.DataFrame:
    """The paired differences that the questions in `named` ask for, in each group `by`: one row a question.

    Columns: question, arm, baseline, mean, low, high (t interval of the difference, in the unit of `value`; NaN below
    `MIN_FOR_INTERVAL`), n (replicates that have both arms), p (two-sided t test), p_holm (Holm's correction over the
    questions of all classifiers and of all numbers of real images; groups that differ otherwise are families of their
    own), answer (`helps`, `hurts`, `not shown`, `too few replicates`) and verdict, the answer with its numbers in
    words. A question that an arm is missing for has no row; where the arm has variants (`mixed:0.25`,
    `mixed_add:10`), it is asked of each.
    """
    wide = replicates(table, [*by, "arm"], value).pivot(index=[*by, "replicate"], columns="arm", values=value)
    parts, asked_by_name = [], set(named.values())
    for question, (arm, baseline) in named.items():
        others = [c for c in wide if c.startswith(f"{arm}:") and (c, baseline) not in asked_by_name]
        for variant in [*([arm] if arm in wide else []), *others] if baseline in wide else ():
            difference = (wide[variant] - wide[baseline]).dropna()
            moments = difference.groupby(by, sort=False, dropna=False).agg(["mean", "std", "count"])
            of_variant = question if variant == arm else f"{question} ({variant})"
            asked = {"question": of_variant, "arm": variant, "baseline": baseline}
            parts.append(with_interval(moments).assign(p=p_value(moments), **asked).reset_index())
    if not parts:
        return pd.DataFrame(columns=[*by, *_COLUMNS])
    result = pd.concat(parts, ignore_index=True)
    judged = result[result["n"] >= MIN_REPLICATES]  # fewer get no verdict, so they are not in the family either
    result["p_holm"] = float("nan")
    apart = [column for column in by if column not in ("classifier", "data.n_real")]
    families = judged.groupby(apart, sort=False, dropna=False) if apart else [((), judged)]
    for _, family in families:
        result.loc[family.index, "p_holm"] = holm(family["p"])
    result["answer"] = [answer(row) for row in result.to_dict("records")]
    result["verdict"] = [verdict(row) for row in result.to_dict("records")]
    return result[[*by, *_COLUMNS]]


_COLUMNS = ["question", "arm", "baseline", "mean", "low", "high", "n", "p", "p_holm", "answer", "verdict"]


def p_value(moments: pd.DataFrame) -> pd.Series:
    """Two-sided p of the t test of mean 0; differences that are all the same and not 0 have p = 0."""
    error = moments["std"] / moments["count"] ** 0.5
    t = (moments["mean"] / error).where(moments["mean"] != 0, 0.0)
    return pd.Series(2 * stats.t.sf(t.abs(), moments["count"] - 1), index=moments.index)


def holm(p: pd.Series) -> np.ndarray:
    """These p, corrected for their number (Holm 1979)."""
    return multipletests(p, method="holm")[1]


def answer(row: dict) -> str:
    """What a row of `contrasts` allows to say after the correction."""
    if row["n"] < MIN_REPLICATES:
        return "too few replicates"
    if row["p_holm"] < 1 - LEVEL:
        return "helps" if row["mean"] > 0 else "hurts"
    return "not shown"


def verdict(row: dict) -> str:
    """The answer in words: with its interval, with what this leaves possible, or with the number of replicates."""
    n, low, high = row["n"], row["low"], row["high"]
    if row["answer"] == "too few replicates":
        return f"{row['answer']} ({n} of at least {MIN_REPLICATES})"
    if row["answer"] != "not shown":
        return f"{row['answer']}: {row['mean']:+.2f} points ({low:+.2f} to {high:+.2f})"
    if low > 0 or high < 0:
        alone = f"{row['mean']:+.2f} points ({low:+.2f} to {high:+.2f}) taken alone"
        return f"not shown, significant alone but not after correction for all questions asked: {alone}"
    return f"not shown: any effect from {low:+.2f} to {high:+.2f} points is compatible with these {n} replicates"
