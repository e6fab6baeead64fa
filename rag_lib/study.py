"""The study: settings to runs to a tidy table."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from rag_lib.config import ARMS, ClassifierConfig, Settings
from rag_lib.data import Splits, content_of
from rag_lib.generate import generate, load_generator
from rag_lib.images import Images, concat, stratified_split
from rag_lib.presets import resolve
from rag_lib.quality import HELD_OUT_SEED, QualityConfig, gan_test
from rag_lib.runs import Run, collect
from rag_lib.train_classifier import build, train_classifier
from rag_lib.train_gan import train_gan

TRAIN_SEED = 0  # of the generated images that classifiers are trained on


def settings_for(
    dataset: str = "mnist5k",
    preset: str = "quick",
    seed: int = 0,
    gan_steps: int | None = None,
    classifier_steps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """`config.resolve`, with an own folder's content looked at.

    `gan_steps` and `classifier_steps` stand for the overrides `gan.steps` and `classifier.steps`; None
    keeps the preset's. Raises `UserError`.
    """
    steps = {"gan.steps": gan_steps, "classifier.steps": classifier_steps}
    steps = {name: value for name, value in steps.items() if value is not None}
    deltas = {**overrides, **steps} if isinstance(overrides, Mapping) else overrides or steps
    settings = resolve(dataset, preset, seed, deltas)  # names and types first: they cost nothing
    for classifier, _ in settings.classifiers:
        if classifier.model.startswith("timm:"):  # whether timm has it, and for such images, only building it tells
            build(classifier, n_classes=2)
    return resolve(dataset, preset, seed, deltas, content=content_of(dataset))


def arm(name: str, real: Images, synthetic: Images, seed: int) -> Images:
    """The paper's three groups (section 2.3), each of as many images as `real` has.

    `generated`: synthetic images only; `original`: real ones only; `mixed`: half of each, the real half
    stratified by `seed`. Synthetic images that were generated at the crop's size are continued by
    reflection to the stored size: from there on real and synthetic images take the same way.
    """
    if name == "original":
        return real
    n, size = len(real), real.x.shape[-1]
    if name == "generated":
        return synthetic[:n].padded_to(size)
    half, _ = stratified_split(real.y, (n // 2,), seed)
    return concat(real[half], synthetic[: n - len(half)].padded_to(size))


def run_gan(settings: Settings, splits: Splits) -> Run:
    """The study's GAN; it sees the train split only."""
    return train_gan(settings.gan, splits.train)


def run_gan_test(settings: Settings, splits: Splits, gan: Run) -> Run:
    """Label fidelity of the study's GAN, judged by the small CNN trained on the same train split."""
    images = {"train": splits.train, "val": splits.val, "test": splits.test}
    judge = train_classifier(settings.judge, lambda: images, "judge")
    return gan_test(QualityConfig(settings.gan, settings.judge), gan, judge)


def run_classifiers(settings: Settings, splits: Splits, gan: Run) -> tuple[pd.DataFrame, list[Run]]:
    """Every classifier x arm x seed of the study: a tidy table, one row a run, and the runs in its order."""
    configs = [
        replace(classifier, arm=arm_name, seed=seed, gan=None if arm_name == "original" else settings.gan)
        for classifier, seeds in settings.classifiers
        for seed in range(seeds)
        for arm_name in ARMS
    ]

    @cache  # made once, and only if some run is missing
    def synthetic(seed: int) -> Images:
        n = len(splits.train) if seed == TRAIN_SEED else len(splits.test)
        return generate(load_generator(gan.folder), n, seed)

    def images(config: ClassifierConfig) -> dict[str, Images]:
        measured = {"val": splits.val, "test": splits.test}
        if config.gan is None:
            return {"train": splits.train, **measured}
        train = arm(config.arm, splits.train, synthetic(TRAIN_SEED), config.seed)
        held_out = synthetic(HELD_OUT_SEED).padded_to(train.x.shape[-1])
        return {"train": train, **measured, "generated": held_out}

    runs = []
    for number, config in enumerate(configs, 1):
        title = f"[{number}/{len(configs)}] {config.model}, {config.arm}, seed {config.seed}"
        runs.append(train_classifier(config, lambda c=config: images(c), title))
    return pd.DataFrame([row(c, r) for c, r in zip(configs, runs, strict=True)]), runs


def row(config: ClassifierConfig, run: Run) -> dict[str, Any]:
    """One line of the tidy table. Accuracies are in percent.

    `test_accuracy`: on the real test images. `own_test_accuracy`: on held-out images of the arm's own
    composition, so half real and half generated for `mixed`.
    """
    real, generated = run.metrics["test_accuracy"], run.metrics.get("generated_accuracy")
    share = {"original": 0.0, "mixed": 0.5, "generated": 1.0}[config.arm]
    own = real if generated is None else (1 - share) * real + share * generated
    return {
        "run_id": run.id,
        "dataset": config.data.dataset,
        "classifier": config.model,
        "arm": config.arm,
        "seed": config.seed,
        "stem": config.stem,
        "steps": config.steps,
        "lr": config.lr,
        "schedule": config.schedule,
        "gan_steps": config.gan.steps if config.gan else None,
        "gan_seed": config.gan.seed if config.gan else None,
        "val_accuracy": round(100 * run.metrics["val_accuracy"], 4),
        "test_accuracy": round(100 * real, 4),
        "own_test_accuracy": round(100 * own, 4),
    }


def classify(settings: Settings, splits: Splits) -> pd.DataFrame:
    """The whole comparison: the GAN, its label fidelity, every classifier; merged into results/tables."""
    gan = run_gan(settings, splits)
    run_gan_test(settings, splits, gan)
    table, runs = run_classifiers(settings, splits, gan)
    collect("classify", table, runs)
    return table


def summary(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """Mean over seeds, classifiers in rows, the paper's three groups in columns; percent."""
    means = table.pivot_table(index="classifier", columns="arm", values=value, sort=False)
    return means.reindex(columns=[a for a in ARMS if a in means]).round(2)


def gan_conclusion(settings: Settings, gan: Run) -> str:
    """How the GAN's training ended, in a sentence or two."""
    real, fake = gan.metrics["d_real"], gan.metrics["d_fake"]
    balance = (
        "D can hardly tell them apart: the balance that Eq. 1 aims at"
        if real - fake < 0.2
        else "D still tells most of them apart, as it usually does in a short training"
        if real - fake < 0.8
        else "D has won: G learns little from it any more, and a smaller gan.lr may help"
    )
    return (
        f"After {settings.gan.steps:,} iterations D takes real images for real with probability {real:.2f} and "
        f"generated ones with {fake:.2f} (last batch); {balance}. Looks are not proof: whether the images are worth "
        "anything to a classifier, notebook 03 measures."
    )


def gallery_conclusion(quality: Run) -> str:
    """What the judge thinks of the generated set, in two sentences."""
    counts = quality.confusion()
    hits = pd.Series({name: counts.loc[name, name] / counts.loc[name].sum() for name in counts.index})
    return (
        f"The judge sees the requested class in {100 * quality.metrics['gan_test_accuracy']:.2f}% of "
        f"{int(counts.to_numpy().sum()):,} generated images. The best class is {hits.idxmax()} "
        f"({100 * hits.max():.1f}%), the worst {hits.idxmin()} ({100 * hits.min():.1f}%)."
    )


def conclusion(table: pd.DataFrame) -> str:
    """What the table shows and what it does not, as Markdown; differences are points of accuracy."""
    means = summary(table)
    gains = {group: (means[group] - means["original"]).round(2) for group in ("mixed", "generated")}
    lines = [
        f"- **{name}**: {means.original[name]:.2f}% from the original images, {means.mixed[name]:.2f}% "
        f"({gains['mixed'][name]:+.2f} points) from half and half, {means.generated[name]:.2f}% "
        f"({gains['generated'][name]:+.2f}) from generated images alone"
        for name in means.index
    ]
    return "\n".join(
        [
            "Accuracy on the real test images, mean over the classifier's seeds:",
            "",
            *lines,
            "",
            "All of this rests on one generator and one draw of the real images, so it describes this run. Whether "
            "generated images help in general it cannot show.",
        ]
    )
