"""What there is to say of a GAN's training and of its images, in words and in small tables for people."""

from collections.abc import Sequence

import pandas as pd

from rag_lib.gan.watch import findings
from rag_lib.runtime.store import Run
from rag_lib.settings.config import Settings


def gan_conclusion(settings: Settings, gan: Run) -> str:
    """How the GAN's training ended, in a few sentences: means over the last tenth of it, and what went wrong."""
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
    if last.get("diversity", float("nan")) > 0:  # neither an older version's run, nor one whose batches have no pairs
        lowest = last.get("diversity_lowest", float("nan"))
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


def memorisation_conclusion(quality: Run) -> str:
    """Whether the generator repeats its training images, in two sentences."""
    m = quality.metrics
    return (
        f"{100 * m['duplicate_rate']:.2f}% of the generated images are nearer to a train image than 99% of the val "
        f"images are; of further unseen real ones {100 * m['duplicate_rate_unseen']:.2f}% would be. The median "
        "distance to the nearest train image is "
        f"{m['nearest_generated']:.2f} for generated images, {m['nearest_val']:.2f} for val images."
    )
