"""A study as settings: the paper, then the deltas of a dataset, of a preset and of the caller."""

import os
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rag_lib.base import UserError, check_results_dir, check_value
from rag_lib.classifiers.networks import build
from rag_lib.data.datasets import DATASETS, content_of
from rag_lib.gan.attention import attention_module
from rag_lib.runtime.numerics import pick_device
from rag_lib.runtime.progress import progress_mode
from rag_lib.settings.arms import ARMS, DEFAULT_ARMS, parse_arm
from rag_lib.settings.config import (
    LABELLED,
    PAPER_CLASSIFIERS,
    ClassifierConfig,
    DataConfig,
    EngineConfig,
    GanConfig,
    QualityConfig,
    Settings,
)
from rag_lib.settings.presets import DEFAULT_PRESET, PRESETS, PRESETS_OF
from rag_lib.study.arms import preprocessing
from rag_lib.study.overrides import check_arms, check_classifiers, check_names, check_overrides, fields_of, variant_of

LABELLER_SEED = 1_000
# Between the seeds of two draws' classifiers: where all draws shared them, what a seed does would be the same in every
# replicate, and the intervals over replicates would leave it out.
SEEDS_OF_A_DRAW = 10_000


def resolve(
    dataset: str = "mnist5k",
    preset: str = DEFAULT_PRESET,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    content: str = "",
    arms: Sequence[str] | None = None,
    replicates: int = 1,
) -> Settings:
    """Return the settings of a study: the paper's defaults, then the dataset's, the preset's and the caller's deltas.

    `overrides` maps `"section.field"` to a value, where a section is `data`, `gan`, `engine`, `classifier` (all of
    them) or one classifier's name (`"gan.steps"`, `"classifier.lr"`, `"resnet18.stem"`), or
    `"classifiers"` to the number of seeds by name. `seed` is the GAN's; `content` is the hash of an own
    folder's content; `arms` are those of `study.arms`, None for the study's usual ones. Raises `UserError` for anything
    unknown or mistyped.
    """
    check_value("dataset", dataset, str)
    kind = "folder" if dataset.startswith("folder:") else dataset
    if kind not in DATASETS or dataset in ("folder", "folder:"):
        names = ", ".join(n for n in DATASETS if n != "folder")
        raise UserError(f"dataset = {dataset!r} is unknown; choose one of {names}, or folder:PATH for your own images")
    check_value("preset", preset, str, choices=tuple(PRESETS))
    check_value("seed", seed, int, low=0)
    overrides = check_overrides(overrides)
    layers = (DATASETS[kind].changes, PRESETS[preset], PRESETS_OF.get((preset, kind), {}), overrides)
    merged = ChainMap(*reversed(layers))
    seeds = merged.get("classifiers", dict.fromkeys(PAPER_CLASSIFIERS, 1))
    check_names(merged)
    check_classifiers(seeds, overrides)
    data = DataConfig(dataset=dataset, content=content, **fields_of("data", layers))

    def classifier(name: str) -> ClassifierConfig:
        own = fields_of(name, layers)
        return ClassifierConfig(data=data, model=name, seed=SEEDS_OF_A_DRAW * data.split_seed, **own)

    judge = classifier("cnn")
    # another seed than the judge's, who would meet its own labels; of one recipe they still agree more than strangers
    labeller = replace(judge, seed=judge.seed + LABELLER_SEED) if merged.get("gan.labels") in LABELLED else None
    gan = GanConfig(data=data, seed=seed, labeller=labeller, **fields_of("gan", layers))
    quality = QualityConfig(gan, judge, **fields_of("quality", layers))
    check_value("replicates", replicates, int, low=1)
    arms = check_arms(DEFAULT_ARMS if arms is None else arms)
    variant = variant_of(seed, overrides, arms=arms, replicates=replicates, content=content)
    trained = tuple((classifier(name), n) for name, n in seeds.items())
    engine = EngineConfig(**fields_of("engine", layers))
    return Settings(dataset, preset, variant, data, gan, trained, quality, arms, replicates, engine)


def replicate(settings: Settings, r: int) -> Settings:
    """Return the study with another draw of the real images and other seeds of all that is trained, `r` draws on."""
    data = replace(settings.data, split_seed=settings.data.split_seed + r)

    def of_draw(classifier: ClassifierConfig) -> ClassifierConfig:
        return replace(classifier, data=data, seed=classifier.seed + SEEDS_OF_A_DRAW * r)

    labeller = settings.gan.labeller and of_draw(settings.gan.labeller)
    gan = replace(settings.gan, data=data, labeller=labeller, seed=settings.gan.seed + r)
    return replace(
        settings,
        data=data,
        gan=gan,
        classifiers=tuple((of_draw(c), seeds) for c, seeds in settings.classifiers),
        quality=replace(settings.quality, gan=gan, judge=of_draw(settings.quality.judge)),
        replicates=1,
    )


def configs(settings: Settings) -> list[ClassifierConfig]:
    """Every classifier x seed x arm of one replicate."""
    return [
        replace(
            classifier,
            data=preprocessing(name, settings.data),
            gan=settings.gan if ARMS[name].gan else None,
            arm=name,
            share=share,
            times=times,
            seed=classifier.seed + i,
        )
        for classifier, seeds in settings.classifiers
        for i in range(seeds)
        for name, share, times in map(parse_arm, settings.arms)
    ]


def settings_for(
    dataset: str = "mnist5k",
    preset: str = DEFAULT_PRESET,
    seed: int = 0,
    gan_steps: int | None = None,
    classifier_steps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    arms: Sequence[str] | None = None,
    replicates: int = 1,
    engine: str = "local",
    content: str | None = None,
) -> Settings:
    """`resolve`, with an own folder's content looked at.

    `gan_steps` and `classifier_steps` stand for the overrides `gan.steps` and `classifier.steps`; None
    keeps the preset's, and `engine` for `engine.name`. `content`: an own folder's hash (`data.content`), by a caller
    that has it already; otherwise all of the folder is read. `RAG_SMOKE=1` in the environment replaces any preset by
    `smoke`. Raises `UserError`.
    """
    short = {"gan.steps": gan_steps, "classifier.steps": classifier_steps}
    short |= {"engine.name": None if engine == "local" else engine}
    deltas = {**check_overrides(overrides), **{key: value for key, value in short.items() if value is not None}}
    for check in (pick_device, progress_mode, check_results_dir):
        check()  # refuses what the environment asks for in vain, even where runs are reused
    given = {"seed": seed, "overrides": deltas, "arms": arms, "replicates": replicates}
    settings = resolve(dataset, preset, **given)  # names and types first: they cost nothing
    smoke = os.environ.get("RAG_SMOKE") or "0"
    check_value("RAG_SMOKE", smoke, str, choices=("0", "1"))
    preset = "smoke" if smoke == "1" else preset
    attention_module(settings.gan.attention, 16)  # refuses an attention of timm's without timm
    for classifier, _ in settings.classifiers:
        if classifier.model.startswith("timm:"):  # whether timm has it, and for such images, only building it tells
            build(classifier, n_classes=2)
    configs(settings)  # refuses an arm that the generator cannot serve
    return resolve(dataset, preset, content=content_of(dataset) if content is None else content, **given)
