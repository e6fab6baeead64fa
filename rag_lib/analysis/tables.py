"""What the tables of classifiers and generators say, in small tables for people."""

from collections.abc import Sequence

import pandas as pd

from rag_lib.analysis.statistics import intervals, replicates
from rag_lib.data.images import Images
from rag_lib.runtime.store import Run, finished
from rag_lib.settings.arms import arm_order


def summary(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """Mean over replicates of the means over seeds: classifiers in rows, arms in columns; percent."""
    means = replicates(table, ["classifier", "arm"], value)
    means = means.pivot_table(index="classifier", columns="arm", values=value, sort=False)
    # as text rounds: DataFrame.round takes 81.595 up, which is a little less in binary, and the tables would differ
    means = means.map(lambda mean: float(f"{mean:.2f}"))
    return means.reindex(columns=arm_order(table["arm"])).rename_axis(columns=None)


def summary_with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """`summary` as text, each mean with its 95% interval over the replicates where there are enough of them."""
    found = intervals(table, ["classifier", "arm"])
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


def as_seen(looked: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """A caption an image (`quality.look`): the class that was asked for, and the one that is seen if it is another."""
    return [
        classes[asked] if asked == seen else f"{classes[asked]}\n→ {classes[seen]}"
        for asked, seen in zip(looked["asked"], looked["seen"], strict=True)
    ]


def distance_table(quality: Run) -> pd.DataFrame:
    """How far the generated images are from the train images, and as many val images, in the judge's features."""
    names = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
    m = quality.metrics
    table = pd.DataFrame(
        {"generated": [m[name] for name in names], "unseen real": [m[f"val_{name}"] for name in names]},
        index=[f"{n.replace('_', ' ')} ({'smaller' if 'distance' in n else 'larger'} is better)" for n in names],
    )
    table = table.round(3) + 0.0  # no -0.000
    return table.rename_axis(f"{m['images_compared']:,} images of each")


def quality_table(quality: pd.DataFrame) -> pd.DataFrame:
    """The quality of each study's generators, means over replicates, in brackets what unseen real images get."""
    by = ["dataset", "data.n_real", "gan.steps"]
    numbers = quality.groupby(by, sort=False).mean(numeric_only=True)
    decimals = {"frechet_distance": 1, "precision": 3, "recall": 3, "density": 2, "coverage": 3}

    def text(value: str, beside: str, digits: int) -> list[str]:
        return [f"{v:.{digits}f} ({b:.{digits}f})" for v, b in zip(numbers[value], numbers[beside], strict=True)]

    columns = {
        "generators": quality.groupby(by, sort=False).size(),
        "images compared": numbers["images_compared"].map("{:,.0f}".format),
        "GAN-test (%)": text("gan_test_accuracy", "judge_test_accuracy", 2),
        **{name.replace("_", " "): text(name, f"val_{name}", digits) for name, digits in decimals.items()},
        "duplicates (%)": [
            f"{100 * rate:.2f} ({100 * unseen:.2f})"
            for rate, unseen in zip(numbers["duplicate_rate"], numbers["duplicate_rate_unseen"], strict=True)
        ],
    }
    table = pd.DataFrame(columns, index=numbers.index).reset_index()
    table["data.n_real"] = table["data.n_real"].map(lambda n: f"{n:,}" if n else "all")
    table["gan.steps"] = table["gan.steps"].map("{:,}".format)
    return table.rename(columns={"data.n_real": "real images", "gan.steps": "iterations"}).set_index("dataset")
