"""The study: settings to runs to a tidy table."""

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pandas as pd

from rag_lib.config import ARMS, ClassifierConfig, GanConfig, QualityConfig, Settings, as_dict
from rag_lib.data import Splits, content_of
from rag_lib.generate import generate, load_generator
from rag_lib.images import Images, concat, stratified_split
from rag_lib.presets import resolve
from rag_lib.progress import progress_mode
from rag_lib.quality import HELD_OUT_SEED, gan_test
from rag_lib.runs import Run, collect
from rag_lib.train_classifier import build, train_classifier
from rag_lib.train_gan import train_gan
from rag_lib.training import pick_device, seed_of

TRAIN_SEED = 0  # of the generated images that classifiers are trained on


def settings_for(
    dataset: str = "mnist5k",
    preset: str = "quick",
    seed: int = 0,
    gan_steps: int | None = None,
    classifier_steps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """`presets.resolve`, with an own folder's content looked at.

    `gan_steps` and `classifier_steps` stand for the overrides `gan.steps` and `classifier.steps`; None
    keeps the preset's. Raises `UserError`.
    """
    steps = {"gan.steps": gan_steps, "classifier.steps": classifier_steps}
    steps = {name: value for name, value in steps.items() if value is not None}
    deltas = {**(overrides or {}), **steps} if isinstance(overrides, Mapping | None) else overrides
    pick_device(), progress_mode()  # refuse what the environment asks for in vain, even where runs are reused
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
    half, _ = stratified_split(real.y, (n // 2,), seed_of("half", seed))
    return concat(real[half], synthetic[: n - len(half)].padded_to(size))


def run_gan(settings: Settings, splits: Splits) -> Run:
    """The study's GAN; it sees the train split only."""
    return train_gan(settings.gan, splits.train)


def run_gan_test(settings: Settings, splits: Splits, gan: Run) -> Run:
    """Label fidelity of the study's GAN, judged by the small CNN trained on the same train split."""
    images = {"train": splits.train, "val": splits.val, "test": splits.test}
    judge = train_classifier(settings.judge, lambda: images, "judge")
    run = gan_test(QualityConfig(settings.gan, settings.judge), gan, judge)
    collect("quality", pd.DataFrame([quality_row(settings.gan, gan, run)]), [run])
    return run


def quality_row(config: GanConfig, gan: Run, run: Run) -> dict[str, Any]:
    """One line of the table of generators: accuracies in percent, the GAN's run, every field of its config."""
    settings = as_dict(config)
    data = settings.pop("data")
    return {
        "run_id": run.id,
        "gan_run": gan.id,
        "dataset": data.pop("dataset"),
        "gan_test_accuracy": round(100 * run.metrics["gan_test_accuracy"], 4),
        "judge_test_accuracy": round(100 * run.metrics["judge_test_accuracy"], 4),
        "gan_seconds": gan.environment()["seconds"],
        **{f"data.{name}": value for name, value in data.items()},
        **{f"gan.{name}": value for name, value in settings.items()},
    }


def configs(settings: Settings) -> list[ClassifierConfig]:
    """Every classifier x seed x arm of the study."""
    return [
        replace(classifier, arm=name, seed=seed, gan=None if name == "original" else settings.gan)
        for classifier, seeds in settings.classifiers
        for seed in range(seeds)
        for name in ARMS
    ]


def run_classifiers(settings: Settings, splits: Splits, gan: Run) -> tuple[pd.DataFrame, list[Run]]:
    """Every classifier of the study: a tidy table, one row a run, and the runs in its order.

    Each row enters results/tables/classify.csv as soon as its run is finished.
    """

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

    rows, runs = [], []
    planned = configs(settings)
    for number, config in enumerate(planned, 1):
        title = f"[{number}/{len(planned)}] {config.model}, {config.arm}, seed {config.seed}"
        runs.append(train_classifier(config, lambda c=config: images(c), title))
        rows.append(row(config, runs[-1]))
        collect("classify", pd.DataFrame(rows[-1:]), runs[-1:])
    return pd.DataFrame(rows), runs


def row(config: ClassifierConfig, run: Run) -> dict[str, Any]:
    """One line of the tidy table: accuracies in percent, then every field of the config and of its GAN's.

    `test_accuracy`: on the real test images. `own_test_accuracy`: on held-out images of the arm's own
    composition, so half real and half generated for `mixed`.
    """
    real, generated = run.metrics["test_accuracy"], run.metrics.get("generated_accuracy")
    share = {"original": 0.0, "mixed": 0.5, "generated": 1.0}[config.arm]
    own = real if generated is None else (1 - share) * real + share * generated
    settings = as_dict(config)
    data, gan = settings.pop("data"), settings.pop("gan")
    return {
        "run_id": run.id,
        "dataset": data.pop("dataset"),
        "classifier": settings.pop("model"),
        "arm": settings.pop("arm"),
        "seed": settings.pop("seed"),
        "val_accuracy": round(100 * run.metrics["val_accuracy"], 4),
        "test_accuracy": round(100 * real, 4),
        "own_test_accuracy": round(100 * own, 4),
        **{f"data.{name}": value for name, value in data.items()},
        **{f"classifier.{name}": value for name, value in settings.items()},
        **{f"gan.{f.name}": (gan or {}).get(f.name) for f in fields(GanConfig) if f.name != "data"},
    }


def classify(settings: Settings, splits: Splits) -> tuple[pd.DataFrame, Run]:
    """The whole comparison: the GAN, its label fidelity, every classifier.

    Returns the table of the classifiers and the run of the GAN-test.
    """
    gan = run_gan(settings, splits)
    quality = run_gan_test(settings, splits, gan)
    table, _ = run_classifiers(settings, splits, gan)
    return table, quality


def summary(table: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """Mean over seeds, classifiers in rows, the paper's three groups in columns; percent."""
    means = table.pivot_table(index="classifier", columns="arm", values=value, sort=False)
    return means.reindex(columns=[a for a in ARMS if a in means]).round(2)


def gan_conclusion(settings: Settings, gan: Run) -> str:
    """How the GAN's training ended, in a few sentences: probabilities over the last tenth of it."""
    history = gan.history()
    real, fake = history.loc[history["step"] > 0.9 * settings.gan.steps, ["d_real", "d_fake"]].mean()
    balance = (
        "Both are near 0.5, the balance that Eq. 1 aims at."
        if max(abs(real - 0.5), abs(fake - 0.5)) < 0.1
        else "D has won: G learns little from it any more, and a smaller gan.lr may help."
        if real - fake > 0.8
        else "At the balance that Eq. 1 aims at both would be 0.5."
    )
    return (
        f"Over the last tenth of {settings.gan.steps:,} iterations D takes real images for real with a mean "
        f"probability of {real:.2f}, generated ones with {fake:.2f}. {balance} Looks are not proof: whether the "
        "images are worth anything to a classifier, notebook 03 measures."
    )


def gallery_conclusion(quality: Run) -> str:
    """What the judge thinks of the generated set, in two sentences."""
    counts = quality.confusion()
    hits = pd.Series({name: counts.loc[name, name] / counts.loc[name].sum() for name in counts.index})
    return (
        f"The judge, right about {100 * quality.metrics['judge_test_accuracy']:.2f}% of the real test images, sees the "
        f"requested class in {100 * quality.metrics['gan_test_accuracy']:.2f}% of {int(counts.to_numpy().sum()):,} "
        f"generated ones. Class by class this goes from {100 * hits.min():.1f}% ({hits.idxmin()}) to "
        f"{100 * hits.max():.1f}% ({hits.idxmax()})."
    )


def passes(settings: Settings, n_train: int) -> str:
    """How often each classifier sees an image of its group: what its number of steps means."""
    return "\n".join(
        f"{c.model}: {c.steps:,} steps of {c.batch_size} images, {c.steps * c.batch_size / n_train:.1f} passes "
        f"over {n_train:,}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
        for c, seeds in settings.classifiers
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
