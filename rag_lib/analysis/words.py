"""What there is to say of a GAN's training, of its images and of the classifiers that learned from them."""

from collections.abc import Sequence

import pandas as pd

from rag_lib.analysis.statistics import MIN_FOR_INTERVAL, MIN_REPLICATES, contrasts, replicates
from rag_lib.data.images import Images
from rag_lib.gan.watch import findings
from rag_lib.runtime.store import Run
from rag_lib.settings.arms import ARMS, arm_order
from rag_lib.settings.config import Settings
from rag_lib.study.designs import ABLATION


def gan_conclusion(settings: Settings, gan: Run) -> str:
    """Say how the GAN's training ended, in a few sentences: means over the last tenth of it, and what went wrong."""
    history = gan.history()
    steps = int(history["step"].max())
    last = history[history["step"] > 0.9 * steps].mean()
    beliefs = f"real images {last['d_real']:.2f} and generated ones {last['d_fake']:.2f} on average"
    if settings.gan.loss == "hinge":
        balance = (
            "as a sigmoid of its output; the hinge loss makes no probabilities of them, and has no balance at 0.5."
        )
    elif max(abs(last["d_real"] - 0.5), abs(last["d_fake"] - 0.5)) < 0.1:
        balance = "as probabilities of being real: both are near 0.5, the balance that Eq. 1 aims at."
    else:
        balance = "as probabilities of being real: at the balance that Eq. 1 aims at both would be 0.5."
    sentences = [f"Over the last tenth of {steps:,} iterations D gives {beliefs}, {balance}"]
    if last["diversity"] > 0:  # not where batches have no pairs
        lowest = last["diversity_lowest"]
        of_lowest = f", those of the least diverse {lowest:.2f} times" if lowest < last["diversity"] else ""
        sentences.append(
            f"Generated images of a class differ {last['diversity']:.2f} times as much as real ones do{of_lowest}."
        )
    sentences.append(
        "Looks are not proof: whether the images are worth anything to a classifier, notebook 03 measures."
    )
    wrong = [f"- **{name}**: {text}" for name, text in findings(history, settings.gan).items()]
    return "\n".join([" ".join(sentences), "", *wrong]).rstrip()


def gallery_conclusion(quality: Run) -> str:
    """Say what the judge thinks of the generated set, in two sentences."""
    counts = quality.confusion()
    hits = (counts.to_numpy().diagonal() / counts.sum(axis=1)).dropna()  # a labeller may find none of some class
    return (
        f"The judge, right about {100 * quality.metrics['judge_test_accuracy']:.2f}% of the real test images, sees the "
        f"requested class in {100 * quality.metrics['gan_test_accuracy']:.2f}% of {int(counts.to_numpy().sum()):,} "
        f"generated ones. Class by class this goes from {100 * hits.min():.1f}% ({hits.idxmin()}) to "
        f"{100 * hits.max():.1f}% ({hits.idxmax()})."
    )


def memorisation_conclusion(quality: Run) -> str:
    """Say whether the generator repeats its training images, in two sentences."""
    m = quality.metrics
    return (
        f"{100 * m['duplicate_rate']:.2f}% of the generated images are nearer to a train image than 99% of the val "
        f"images are; of further unseen real ones {100 * m['duplicate_rate_unseen']:.2f}% would be. The median "
        "distance to the nearest train image is "
        f"{m['nearest_generated']:.2f} for generated images, {m['nearest_val']:.2f} for val images."
    )


def class_sizes(images: Images) -> str:
    """Say how many images the classes have: `450 of each class`, or from the rarest to the most frequent one."""
    counts = images.y.bincount(minlength=len(images.classes))
    few, many = int(counts.argmin()), int(counts.argmax())
    if counts[few] == counts[many]:
        return f"{counts[few]:,} of each class"
    return f"from {counts[few]:,} of {images.classes[few]} to {counts[many]:,} of {images.classes[many]}"


def passes(settings: Settings, n_train: int) -> str:
    """Say how often each classifier sees an image of a group of `n_train`: what its number of steps means."""
    return "\n".join(
        f"{c.model}: {c.steps:,} steps of {c.batch_size} images, {c.steps * c.batch_size / n_train:.1f} passes "
        f"over {n_train:,}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
        for c, seeds in settings.classifiers
    )


def conclusion(table: pd.DataFrame) -> str:
    """Say what the table shows and what not, as Markdown; differences are points of accuracy, within replicates."""
    n = table["replicate"].nunique()
    over = "the classifier's seeds" + (f" and {n} replicates" if n > 1 else "")
    note = " (difference to the original images in points)" if "original" in set(table["arm"]) else ""
    lines = [f"- **{name}**: {_accuracies(rows)}" for name, rows in table.groupby("classifier", sort=False)]
    heading = f"Accuracy on the real test images, mean over {over}{note}:"
    return "\n".join([heading, "", *lines, "", *verdicts(table)])


def _accuracies(table: pd.DataFrame) -> str:
    """List one classifier's accuracies by arm: the original images first, then each with its difference to them."""
    of_arm = replicates(table, ["arm"]).pivot(index="replicate", columns="arm", values="test_accuracy")
    parts = []
    for arm in sorted(arm_order(table["arm"]), key=lambda arm: arm != "original"):
        difference = ""
        if arm != "original" and "original" in of_arm:
            paired = (of_arm[arm] - of_arm["original"]).dropna()
            over = f" over {len(paired)} of {len(of_arm)} replicates" if len(paired) < len(of_arm) else ""
            difference = f" ({paired.mean():+.2f}{over})" if len(paired) else ""
        parts.append(f"{of_arm[arm].mean():.2f}%{difference} from {ARMS[arm].words if arm in ARMS else arm}")
    return ", ".join(parts)


def verdicts(table: pd.DataFrame, by: Sequence[str] = ("classifier",)) -> list[str]:
    """Return the answers that the replicates allow, as lines of Markdown; with too few, one line that says so.

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
    groups = found[by].astype(str)
    if "data.n_real" in by:
        groups["data.n_real"] = [f"{n:,} real images" if n else "all real images" for n in found["data.n_real"]]
    found["group"] = groups.agg(", ".join, axis=1)
    judged, few = found[found["n"] >= MIN_REPLICATES], found[found["n"] < MIN_REPLICATES]
    lines = [f"- {row.group}: {row.question} **{row.verdict}**" for row in judged.itertuples()]
    if len(few):
        # by group, but by arm where others of the group are judged
        names = few["group"] + (", " + few["arm"]).where(few["group"].isin(judged["group"]), "")
        names = (names + few["n"].map(" ({})".format)).unique()
        lines += ["", f"Too few replicates for a verdict (at least {MIN_REPLICATES}): {'; '.join(names)}."]
    if (table["data.n_real"] == 0).any():
        lines += [
            "",
            "The draws of the real images come from one pool and share most of it, so the intervals speak of this "
            "pool; few real images (`n_real`) give draws that hardly overlap.",
        ]
    return lines


def ablation_conclusion(table: pd.DataFrame) -> str:
    """Compare each level of a factor with the first: the paired difference with its interval.

    With enough replicates also whether the two differ, corrected for the factor's levels.
    """
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
