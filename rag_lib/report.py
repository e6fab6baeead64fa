"""What the tables say, in words and in small tables for people."""

from collections.abc import Sequence

import pandas as pd

from rag_lib.config import ARMS, Settings
from rag_lib.plans import ABLATION
from rag_lib.runs import Run
from rag_lib.statistics import MIN_REPLICATES, contrasts, intervals, replicates

ARM_NAMES = {
    "generated": "generated images alone",
    "original": "the original images",
    "mixed": "half and half",
    "mixed_add": "all of both",
    "original_plain": "the original images without random rotation, shift and mirroring",
    "original_half": "half of the original images",
    "generated_shuffled": "generated images with shuffled labels",
}


def arm_order(arms: pd.Series) -> list[str]:
    """The arms that occur, the paper's groups first."""
    return sorted(arms.unique(), key=lambda arm: (ARMS.index(arm.partition(":")[0]), arm))


def summary(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """Mean over replicates of the means over seeds: classifiers in rows, arms in columns; percent."""
    means = replicates(table, ["classifier", "arm"], value)
    means = means.pivot_table(index="classifier", columns="arm", values=value, sort=False)
    return means.reindex(columns=arm_order(table["arm"])).round(2).rename_axis(columns=None)


def summary_with_intervals(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """`summary` as text, each mean with its 95% interval over the replicates where there are at least two."""
    found = intervals(table, ["classifier", "arm"], value)
    found["text"] = [
        f"{row['mean']:.2f}" + (f" ({row['low']:.2f} to {row['high']:.2f})" if row["n"] > 1 else "")
        for row in found.to_dict("records")
    ]
    wide = found.pivot(index="classifier", columns="arm", values="text").fillna("")
    wide = wide.reindex(index=table["classifier"].unique(), columns=arm_order(table["arm"]))
    return wide.rename_axis(columns=None)


def gan_conclusion(settings: Settings, gan: Run) -> str:
    """How the GAN's training ended, in a few sentences: probabilities over the last tenth of it."""
    history = gan.history()
    steps = int(history["step"].max())
    real, fake = history.loc[history["step"] > 0.9 * steps, ["d_real", "d_fake"]].mean()
    if settings.gan.loss == "hinge":
        return (
            f"Over the last tenth of {steps:,} iterations D gives real images {real:.2f} and generated ones {fake:.2f} "
            "on average, as a sigmoid of its output; the hinge loss makes no probabilities of them, and has no balance "
            "at 0.5. Looks are not proof: whether the images are worth anything to a classifier, notebook 03 measures."
        )
    balance = (
        "Both are near 0.5, the balance that Eq. 1 aims at."
        if max(abs(real - 0.5), abs(fake - 0.5)) < 0.1
        else "D has won: G learns little from it any more, and a smaller gan.lr may help."
        if real - fake > 0.8
        else "At the balance that Eq. 1 aims at both would be 0.5."
    )
    return (
        f"Over the last tenth of {steps:,} iterations D takes real images for real with a mean "
        f"probability of {real:.2f}, generated ones with {fake:.2f}. {balance} Looks are not proof: whether the "
        "images are worth anything to a classifier, notebook 03 measures."
    )


def gallery_conclusion(quality: Run) -> str:
    """What the judge thinks of the generated set, in two sentences."""
    counts = quality.confusion()
    asked = counts.index[counts.sum(axis=1) > 0]  # a labeller may find none of some class
    hits = pd.Series({name: counts.loc[name, name] / counts.loc[name].sum() for name in asked})
    return (
        f"The judge, right about {100 * quality.metrics['judge_test_accuracy']:.2f}% of the real test images, sees the "
        f"requested class in {100 * quality.metrics['gan_test_accuracy']:.2f}% of {int(counts.to_numpy().sum()):,} "
        f"generated ones. Class by class this goes from {100 * hits.min():.1f}% ({hits.idxmin()}) to "
        f"{100 * hits.max():.1f}% ({hits.idxmax()})."
    )


def completeness(table: pd.DataFrame, missing: int, command: str) -> str:
    """How many runs of classifiers a published table has of a study, and how to compute those it lacks."""
    lacks = f"; {missing} more runs are not published: {command} computes them" if missing else ""
    return f"{len(table)} runs of classifiers{lacks}"


def distance_table(quality: Run) -> pd.DataFrame:
    """How far the generated images are from the train images, and as many val images, in the judge's features."""
    names = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
    m = quality.metrics
    table = pd.DataFrame(
        {"generated": [m[name] for name in names], "unseen real": [m[f"val_{name}"] for name in names]},
        index=[name.replace("_", " ") for name in names],
    )
    return table.round(3).rename_axis(f"{m['images_compared']:,} of each")


def quality_table(quality: pd.DataFrame) -> pd.DataFrame:
    """The quality of each study's generators, means over replicates, in brackets what unseen real images get."""
    by = ["dataset", "data.n_real"]
    numbers = quality.groupby(by, sort=False).mean(numeric_only=True)
    decimals = {"frechet_distance": 1, "precision": 3, "recall": 3, "density": 2, "coverage": 3}

    def text(value: str, beside: str, digits: int) -> list[str]:
        return [f"{v:.{digits}f} ({b:.{digits}f})" for v, b in zip(numbers[value], numbers[beside], strict=True)]

    columns = {
        "generators": quality.groupby(by, sort=False).size(),
        "compared": numbers["images_compared"].astype(int),
        "GAN-test": text("gan_test_accuracy", "judge_test_accuracy", 2),
        **{name.replace("_", " "): text(name, f"val_{name}", digits) for name, digits in decimals.items()},
        "duplicates (%)": [
            f"{100 * rate:.2f} ({100 * unseen:.2f})"
            for rate, unseen in zip(numbers["duplicate_rate"], numbers["duplicate_rate_unseen"], strict=True)
        ],
    }
    table = pd.DataFrame(columns, index=numbers.index).reset_index()
    return table.rename(columns={"data.n_real": "real images"}).replace({"real images": {0: "all"}})


def memorisation_conclusion(quality: Run) -> str:
    """Whether the generator repeats its training images, in two sentences."""
    m = quality.metrics
    return (
        f"{100 * m['duplicate_rate']:.2f}% of the generated images are nearer to a train image than 99% of the val "
        f"images are; {100 * m['duplicate_rate_unseen']:.2f}% would be what copying nothing gives. The median distance "
        "to the nearest train image is "
        f"{m['nearest_generated']:.2f} for generated images, {m['nearest_val']:.2f} for val images."
    )


def passes(settings: Settings, n_train: int) -> str:
    """How often each classifier sees an image of a group of `n_train`: what its number of steps means."""
    return "\n".join(
        f"{c.model}: {c.steps:,} steps of {c.batch_size} images, {c.steps * c.batch_size / n_train:.1f} passes "
        f"over {n_train:,}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
        for c, seeds in settings.classifiers
    )


def conclusion(table: pd.DataFrame) -> str:
    """What the table shows and what it does not, as Markdown; differences are points of accuracy."""
    means = summary(table)
    n = table["replicate"].nunique()
    over = "the classifier's seeds" + (f" and {n} replicates" if n > 1 else "")
    note = " (difference to the original images in points)" if "original" in means else ""
    lines = [f"- **{name}**: {_accuracies(means.loc[name])}" for name in means.index]
    heading = f"Accuracy on the real test images, mean over {over}{note}:"
    return "\n".join([heading, "", *lines, "", *verdicts(table)])


def _accuracies(means: pd.Series) -> str:
    """One classifier's accuracies by arm, the original images first, then each with its difference to them."""
    parts = []
    for arm in sorted(means.index, key=lambda arm: arm != "original"):
        compared = arm != "original" and "original" in means
        difference = f" ({means[arm] - means['original']:+.2f})" if compared else ""
        parts.append(f"{means[arm]:.2f}%{difference} from {ARM_NAMES.get(arm, arm)}")
    return ", ".join(parts)


def verdicts(table: pd.DataFrame, by: Sequence[str] = ("classifier",)) -> list[str]:
    """The answers that the replicates allow, as lines of Markdown; with too few, one line that says so.

    `by`: the columns whose groups are families of questions of their own.
    """
    by = list(by)
    n = table.groupby(by)["replicate"].nunique().max()
    if n < MIN_REPLICATES:
        rests_on = "one generator and one draw" if n == 1 else f"{n} generators and {n} draws"
        return [
            f"All of this rests on {rests_on} of the real images, so it describes these runs. Whether generated images "
            f"help in general it cannot show: a verdict wants at least {MIN_REPLICATES} replicates."
        ]
    found = contrasts(table, by)
    if found.empty:
        return ["None of the questions can be asked of these arms: they want `original` and one to compare it with."]
    lines = [
        f"- {', '.join(_named(column, row[column]) for column in by)}: {row['question']} **{row['verdict']}**"
        for row in found.to_dict("records")
    ]
    if (table["data.n_real"] == 0).any():
        lines += [
            "",
            "The draws of the real images come from one pool and share most of it, so the intervals speak of this "
            "pool; few real images (`n_real`) give draws that hardly overlap.",
        ]
    return lines


def _named(column: str, value: object) -> str:
    return f"{value:,} real images" if column == "data.n_real" else str(value)


def level_table(table: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """The ablation in numbers, a row a level: accuracy with its interval, the generator's quality and size.

    Both tables have the columns `factor` and `level`; means over replicates, accuracies in percent.
    """
    by = ["factor", "level"]
    found = intervals(table, by).set_index(by)
    of_quality = quality.groupby(by, sort=False)[["gan_test_accuracy", "frechet_distance", "parameters_g"]].mean()
    return pd.DataFrame(
        {
            "accuracy": found["mean"].map("{:.2f}".format),
            "95% interval": [f"{low:.2f} to {high:.2f}" for low, high in zip(found["low"], found["high"], strict=True)],
            "replicates": found["n"],
            "GAN-test": of_quality["gan_test_accuracy"].map("{:.2f}".format),
            "Frechet distance": of_quality["frechet_distance"].map("{:.1f}".format),
            "parameters of G": of_quality["parameters_g"].map("{:,.0f}".format),
        }
    ).reindex(found.index)


def ablation_conclusion(table: pd.DataFrame) -> str:
    """For each factor, each level against the first: the paired difference with its interval."""
    lines = []
    for factor, rows in table.groupby("factor", sort=False):
        baseline, *others = ABLATION[factor]
        named = {level: (level, baseline) for level in others}
        found = contrasts(rows.assign(arm=rows["level"]), ["factor"], named=named)
        for row in found.to_dict("records"):
            interval = f" (95% interval {row['low']:+.2f} to {row['high']:+.2f})" if row["n"] > 1 else ""
            lines.append(f"- {factor}, **{row['arm']}** against {baseline}: {row['mean']:+.2f} points{interval}")
    n = table["replicate"].nunique()
    return "\n".join(
        [
            f"Paired differences over {n} {'replicate' if n == 1 else 'replicates'}, each interval for itself, without "
            "correction for their number. They describe these runs; a verdict wants at least "
            f"{MIN_REPLICATES} replicates.",
            "",
            *lines,
        ]
    )
