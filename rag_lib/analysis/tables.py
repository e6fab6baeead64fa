"""What the tables of classifiers say, in words and in small tables for people."""

from collections.abc import Sequence

import pandas as pd

from rag_lib.analysis.statistics import MIN_FOR_INTERVAL, MIN_REPLICATES, contrasts, intervals, replicates
from rag_lib.data.images import Images
from rag_lib.runtime.store import finished
from rag_lib.settings.arms import ARM_NAMES, arm_order
from rag_lib.settings.config import Settings
from rag_lib.study.designs import ABLATION


def summary(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """Mean over replicates of the means over seeds: classifiers in rows, arms in columns; percent."""
    means = replicates(table, ["classifier", "arm"], value)
    means = means.pivot_table(index="classifier", columns="arm", values=value, sort=False)
    # as text rounds: DataFrame.round takes 81.595 up, which is a little less in binary, and the tables would differ
    means = means.map(lambda mean: float(f"{mean:.2f}"))
    return means.reindex(columns=arm_order(table["arm"])).rename_axis(columns=None)


def summary_with_intervals(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """`summary` as text, each mean with its 95% interval over the replicates where there are enough of them."""
    found = intervals(table, ["classifier", "arm"], value)
    found["text"] = [
        f"{mean:.2f} ({interval})" if interval else f"{mean:.2f}"
        for mean, interval in zip(found["mean"], interval_texts(found), strict=True)
    ]
    wide = found.pivot(index="classifier", columns="arm", values="text").fillna("")
    wide = wide.reindex(index=table["classifier"].unique(), columns=arm_order(table["arm"]))
    return wide.rename_axis(columns="trained on")


def interval_texts(found: pd.DataFrame) -> list[str]:
    """`low` and `high` of each row in words; nothing where there are too few replicates for them."""
    rows = found[["low", "high"]].itertuples(index=False)
    return [f"{low:.2f} to {high:.2f}" if pd.notna(low) else "" for low, high in rows]


def interval_table(table: pd.DataFrame, by: Sequence[str] = ("classifier", "data.n_real", "arm")) -> pd.DataFrame:
    """Mean accuracy in percent with its 95% interval over the replicates, a row a group of `by`, for people."""
    found = intervals(table, list(by))
    shown = {
        "accuracy (%)": found["mean"].map("{:.2f}".format),
        "95% interval": interval_texts(found),
        "replicates": found["n"],
    }
    return _in_words(found[list(by)].assign(**shown)).set_index([_WORDS.get(name, name) for name in by])


_WORDS = {"data.n_real": "real images", "arm": "trained on"}


def _in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The columns' names for people, and `all` where no number of real images was asked for."""
    if "data.n_real" in table:
        table = table.assign(**{"data.n_real": [f"{n:,}" if n else "all" for n in table["data.n_real"]]})
    return table.rename(columns=_WORDS)


def contrast_table(found: pd.DataFrame, answers: bool = False) -> pd.DataFrame:
    """`statistics.contrasts` for people, a row a comparison; with `answers`, what each allows to say.

    Beside them the smallest effect of interest, the one that the design finds in four cases of five, and the same
    difference on the validation images where these are a second test.
    """
    points = ["{:+.2f} ({:+.2f} to {:+.2f})".format(*row) if row[1] == row[1] else f"{row[0]:+.2f}"
              for row in found[["mean", "low", "high"]].itertuples(index=False)]  # fmt: skip
    shown = {"comparison": found["question"], "change in points (95% interval)": points, "replicates": found["n"]}
    if answers:
        on_val = found[["val_mean", "val_low", "val_high"]].itertuples(index=False)
        shown |= {
            "comparison": found["arm"] + " against " + found["baseline"],
            "would matter": found["margin"].map("{:.2f}".format),
            "would be found": found["detectable"].map("{:.2f}".format),
            "on val images": ["{:+.2f} ({:+.2f} to {:+.2f})".format(*v) if v[1] == v[1] else "" for v in on_val],
            "answer": found["answer"],
        }
    index = [name for name in ("study", "classifier", "data.n_real") if name in found]
    return _in_words(found[index].assign(**shown)).set_index([_WORDS.get(name, name) for name in index])


def class_sizes(images: Images) -> str:
    """How many images the classes have: `450 of each class`, or from the rarest to the most frequent one."""
    counts = images.y.bincount(minlength=len(images.classes))
    few, many = int(counts.argmin()), int(counts.argmax())
    if counts[few] == counts[many]:
        return f"{counts[few]:,} of each class"
    return f"from {counts[few]:,} of {images.classes[few]} to {counts[many]:,} of {images.classes[many]}"


def by_class(table: pd.DataFrame, train: Images) -> pd.DataFrame:
    """Of the table's first classifier, how many test images of each class (rows) each arm (columns) gets right.

    Percent, means over all runs; first the number of real training images, last the mean of the classes, in which a
    rare class weighs as much as a frequent one.
    """
    rows = table[table["classifier"] == table["classifier"].iloc[0]]
    columns = {}
    for arm in arm_order(rows["arm"]):
        confusions = [finished(id).confusion() for id in rows["run_id"][rows["arm"] == arm]]
        recalls = [100 * counts.to_numpy().diagonal() / counts.sum(axis=1) for counts in confusions]
        columns[arm] = pd.concat(recalls, axis=1).mean(axis=1)
    found = pd.DataFrame(columns)
    found.loc["mean of the classes"] = found.mean()
    counts = [f"{n:,}" for n in train.y.bincount(minlength=len(train.classes)).tolist()]
    found.insert(0, "real images", [*counts, f"{len(train):,} in all"])
    return found.round(2).rename_axis("class")


def passes(settings: Settings, n_train: int) -> str:
    """How often each classifier sees an image of a group of `n_train`: what its number of steps means."""
    return "\n".join(
        f"{c.model}: {c.steps:,} steps of {c.batch_size} images, {c.steps * c.batch_size / n_train:.1f} passes "
        f"over {n_train:,}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
        for c, seeds in settings.classifiers
    )


def conclusion(table: pd.DataFrame) -> str:
    """What the table shows and what it does not, as Markdown; differences are points of accuracy, within replicates."""
    n = table["replicate"].nunique()
    over = "the classifier's seeds" + (f" and {n} replicates" if n > 1 else "")
    note = " (difference to the original images in points)" if "original" in set(table["arm"]) else ""
    lines = [f"- **{name}**: {_accuracies(rows)}" for name, rows in table.groupby("classifier", sort=False)]
    heading = f"Accuracy on the real test images, mean over {over}{note}:"
    return "\n".join([heading, "", *lines, "", *verdicts(table)])


def _accuracies(table: pd.DataFrame) -> str:
    """One classifier's accuracies by arm, the original images first, then each with its difference to them."""
    of_arm = replicates(table, ["arm"]).pivot(index="replicate", columns="arm", values="test_accuracy")
    parts = []
    for arm in sorted(arm_order(table["arm"]), key=lambda arm: arm != "original"):
        difference = ""
        if arm != "original" and "original" in of_arm:
            paired = (of_arm[arm] - of_arm["original"]).dropna()
            over = f" over {len(paired)} of {len(of_arm)} replicates" if len(paired) < len(of_arm) else ""
            difference = f" ({paired.mean():+.2f}{over})" if len(paired) else ""
        parts.append(f"{of_arm[arm].mean():.2f}%{difference} from {ARM_NAMES.get(arm, arm)}")
    return ", ".join(parts)


def verdicts(table: pd.DataFrame, by: Sequence[str] = ("classifier",)) -> list[str]:
    """The answers that the replicates allow, as lines of Markdown; with too few, one line that says so.

    `by`: the columns whose groups the questions are asked of (`statistics.contrasts`).
    """
    by = list(by)
    counts = table.groupby(by)["replicate"].nunique()
    n = counts.max()
    if n < MIN_REPLICATES:
        rests_on = "one generator and one draw" if n == 1 else f"{n} generators and {n} draws"
        rests_on = rests_on if counts.min() == n else f"at most {rests_on}"
        return [
            f"All of this rests on {rests_on} of the real images, so it describes these runs. Whether generated images "
            f"help in general it cannot show: a verdict wants at least {MIN_REPLICATES} replicates."
        ]
    found = contrasts(table, by)
    if found.empty:
        return ["None of the questions can be asked of these arms: each wants two, such as `mixed_add` and `original`."]
    judged = found["n"] >= MIN_REPLICATES
    lines = [f"- {_named(row, by)}: {row['question']} **{row['verdict']}**" for row in found[judged].to_dict("records")]
    in_part = {_named(row, by) for row in found[judged].to_dict("records")}
    few = {}  # by group, but by question where others of the group are judged
    for row in found[~judged].to_dict("records"):
        group = _named(row, by)
        few[f"{group}, {row['arm']} ({row['n']})" if group in in_part else f"{group} ({row['n']})"] = None
    if few:
        lines += ["", f"Too few replicates for a verdict (at least {MIN_REPLICATES}): {'; '.join(few)}."]
    if (table["data.n_real"] == 0).any():
        lines += [
            "",
            "The draws of the real images come from one pool and share most of it, so the intervals speak of this "
            "pool; few real images (`n_real`) give draws that hardly overlap.",
        ]
    return lines


def _named(row: dict, by: Sequence[str]) -> str:
    real = f"{row['data.n_real']:,} real images" if row.get("data.n_real") else "all real images"
    return ", ".join(real if column == "data.n_real" else str(row[column]) for column in by)


def level_table(table: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """The ablation in numbers, a row a level: accuracy with its interval, the generator's quality and size.

    Both tables have the columns `factor` and `level`; means over replicates, accuracies in percent.
    """
    by = ["factor", "level"]
    found = intervals(table, by).set_index(by)
    of_quality = quality.groupby(by, sort=False)[["gan_test_accuracy", "frechet_distance", "parameters_g"]].mean()
    return pd.DataFrame(
        {
            "accuracy (%)": found["mean"].map("{:.2f}".format),
            "95% interval": interval_texts(found),
            "replicates": found["n"],
            "GAN-test (%)": of_quality["gan_test_accuracy"].map("{:.2f}".format),
            "Frechet distance": of_quality["frechet_distance"].map("{:.1f}".format),
            "parameters of G": of_quality["parameters_g"].map("{:,.0f}".format),
        }
    ).reindex(found.index.rename(["what differs", "variant"]))


def ablation_conclusion(table: pd.DataFrame) -> str:
    """For each factor, each level against the first: the paired difference with its interval, and with enough
    replicates whether the two differ, corrected for the factor's levels."""
    lines = []
    n = table["replicate"].nunique()
    for factor, rows in table.groupby("factor", sort=False):
        baseline, *others = ABLATION[factor]
        named = {level: (level, baseline) for level in others}
        for row in contrasts(rows.assign(arm=rows["level"]), ["factor"], named=named).to_dict("records"):
            line = f"- {factor}, **{row['arm']}** against {baseline}: {row['mean']:+.2f} points"
            if pd.notna(row["low"]):
                line += f" (95% interval {row['low']:+.2f} to {row['high']:+.2f})"
            if row["n"] >= MIN_REPLICATES:
                line += ": " + {"helps": "they differ", "hurts": "they differ"}.get(row["answer"], row["answer"])
            lines.append(line)
    what = f"Paired differences over {n} {'replicate' if n == 1 else 'replicates'}"
    if n >= MIN_REPLICATES:
        what += ", each interval for itself; what is said to differ is corrected for a factor's comparisons (Holm)."
    else:
        if n >= MIN_FOR_INTERVAL:
            what += ", each interval for itself, without correction for their number"
        what += f". They describe these runs; a verdict wants at least {MIN_REPLICATES} replicates."
    return "\n".join([what, "", *lines])
