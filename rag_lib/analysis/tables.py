"""What the tables of classifiers and generators say, in small tables for people."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rag_lib.analysis.statistics import estimate, intervals, replicates
from rag_lib.data.images import Images
from rag_lib.runtime.store import Run, finished
from rag_lib.settings.arms import arm_order


def summary(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """Return the mean over replicates of the means over seeds: classifiers in rows, arms in columns; percent."""
    means = replicates(table, ["classifier", "arm"], value)
    means = means.pivot_table(index="classifier", columns="arm", values=value, sort=False)
    # as text rounds: DataFrame.round takes 81.595 up, which is a little less in binary, and the tables would differ
    means = means.map(lambda mean: float(f"{mean:.2f}"))
    return means.reindex(columns=arm_order(table["arm"])).rename_axis(columns=None)


def summary_with_intervals(table: pd.DataFrame, by: str = "classifier") -> pd.DataFrame:
    """Return `summary` as text, a row a `by`, each mean with its 95% interval over the replicates if there is one."""
    found = intervals(table, [by, "arm"])
    found["text"] = [estimate(*row, form=".2f") for row in found[["mean", "low", "high"]].to_numpy()]
    wide = found.pivot(index=by, columns="arm", values="text").fillna("")
    wide = wide.reindex(index=table[by].unique(), columns=arm_order(table["arm"]))
    return wide.rename_axis(columns="trained on")


def interval_table(table: pd.DataFrame, by: Sequence[str] = ("classifier", "data.n_real", "arm")) -> pd.DataFrame:
    """Return mean accuracy in percent with its 95% interval over the replicates, a row a group of `by`, for people."""
    found = intervals(table, list(by))
    rows = found[["low", "high"]].to_numpy()
    columns = {
        "accuracy (%)": found["mean"].map("{:.2f}".format),
        "95% interval": ["" if np.isnan(low) else f"{low:.2f} to {high:.2f}" for low, high in rows],
        "replicates": found["n"],
    }
    return _for_people(found[list(by)], columns)


def _for_people(groups: pd.DataFrame, columns: dict[str, Sequence]) -> pd.DataFrame:
    """Return these columns by their groups, in words: no number of real images is all of them."""
    names = {"data.n_real": "real images", "arm": "trained on", "gan.steps": "iterations"}
    names |= {"factor": "what differs", "level": "variant"}
    table = groups.assign(**columns)
    for name in groups.columns.intersection(["data.n_real", "gan.steps"]):
        table[name] = [f"{n:,}" if n else "all" for n in table[name]]
    return table.set_index(list(groups)).rename_axis(index=names)


def contrast_table(found: pd.DataFrame, answers: bool = False) -> pd.DataFrame:
    """Return `statistics.contrasts` for people, a row a comparison; with `answers`, what each allows to say.

    Beside them the smallest effect of interest, the one that the design finds in four cases of five, and the same
    difference on the validation images where these are a second test.
    """
    points = [estimate(*row) for row in found[["mean", "low", "high"]].to_numpy()]
    shown = {"comparison": found["question"], "change in points (95% interval)": points, "replicates": found["n"]}
    if answers:
        on_val = found[["val_mean", "val_low", "val_high"]].to_numpy()
        shown |= {
            "comparison": found["arm"] + " against " + found["baseline"],
            "would matter": found["margin"].map("{:.2f}".format),
            "would be found": found["detectable"].map("{:.2f}".format),
            "on val images": ["" if np.isnan(row[1]) else estimate(*row) for row in on_val],
            "answer": found["answer"],
        }
    return _for_people(found[[name for name in ("study", "classifier", "data.n_real") if name in found]], shown)


def by_class(table: pd.DataFrame, train: Images) -> pd.DataFrame:
    """Return how many test images of each class (rows) the table's first classifier gets right from each arm.

    Percent, means over all runs; first the number of real training images, last the mean of the classes, in which a
    rare class weighs as much as a frequent one.
    """
    rows = table[table["classifier"] == table["classifier"].iloc[0]]
    columns = {}
    for arm in arm_order(rows["arm"]):
        confusions = [finished(name).confusion() for name in rows["run_id"][rows["arm"] == arm]]
        recalls = [100 * counts.to_numpy().diagonal() / counts.sum(axis=1) for counts in confusions]
        columns[arm] = pd.concat(recalls, axis=1).mean(axis=1)
    found = pd.DataFrame(columns)
    found.loc["mean of the classes"] = found.mean()
    counts = [f"{n:,}" for n in train.y.bincount(minlength=len(train.classes)).tolist()]
    found.insert(0, "real images", [*counts, f"{len(train):,} in all"])
    return found.round(2).rename_axis("class")


def level_table(table: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """Return the ablation in numbers, a row a level: accuracy with its interval, the generator's quality and size.

    Both tables have the columns `factor` and `level`; means over replicates, accuracies in percent.
    """
    by = ["factor", "level"]
    of_quality = quality.groupby(by)[["gan_test_accuracy", "frechet_distance", "parameters_g"]].mean()
    columns = {
        "GAN-test (%)": of_quality["gan_test_accuracy"].map("{:.2f}".format),
        "Frechet distance": of_quality["frechet_distance"].map("{:.1f}".format),
        "parameters of G": of_quality["parameters_g"].map("{:,.0f}".format),
    }
    return interval_table(table, by).assign(**columns)


def as_seen(looked: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """Return a caption for each image of `quality.look`: the class asked for, and the one seen if it is another."""
    return [
        classes[asked] if asked == seen else f"{classes[asked]}\n→ {classes[seen]}"
        for asked, seen in zip(looked["asked"], looked["seen"], strict=True)
    ]


def distance_table(quality: Run) -> pd.DataFrame:
    """Return how far generated images, and as many val images, are from the train images, in the judge's features."""
    names = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
    m = quality.metrics
    table = pd.DataFrame(
        {"generated": [m[name] for name in names], "unseen real": [m[f"val_{name}"] for name in names]},
        index=[f"{n.replace('_', ' ')} ({'smaller' if 'distance' in n else 'larger'} is better)" for n in names],
    )
    table = table.round(3) + 0.0  # no -0.000
    return table.rename_axis(f"{m['images_compared']:,} images of each")


def quality_table(quality: pd.DataFrame) -> pd.DataFrame:
    """Return the quality of each study's generators: means over replicates, in brackets what unseen real images get."""
    by = ["dataset", "data.n_real", "gan.steps"]
    groups = quality.groupby(by, sort=False)
    found = groups.mean(numeric_only=True).assign(generators=groups.size()).reset_index()
    found[["duplicate_rate", "duplicate_rate_unseen"]] *= 100

    def text(value: str, beside: str, digits: int) -> list[str]:
        return [f"{v:.{digits}f} ({b:.{digits}f})" for v, b in found[[value, beside]].to_numpy()]

    decimals = {"frechet_distance": 1, "precision": 3, "recall": 3, "density": 2, "coverage": 3}
    columns = {
        "generators": found["generators"],
        "images compared": found["images_compared"].map("{:,.0f}".format),
        "GAN-test (%)": text("gan_test_accuracy", "judge_test_accuracy", 2),
        **{name.replace("_", " "): text(name, f"val_{name}", digits) for name, digits in decimals.items()},
        "duplicates (%)": text("duplicate_rate", "duplicate_rate_unseen", 2),
    }
    return _for_people(found[by], columns).reset_index(["real images", "iterations"])
