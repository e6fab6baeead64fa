"""A study as settings: the paper, then the deltas of a dataset, of a preset and of the caller."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from rag_lib.base import UserError, check_results_dir, check_value
from rag_lib.classifiers.networks import build
from rag_lib.data.datasets import DATASETS, content_of
from rag_lib.gan.attention import attention_module
from rag_lib.gan.pretrained import pretrained_config
from rag_lib.runtime.numerics import pick_device
from rag_lib.runtime.progress import progress_mode
from rag_lib.settings.arms import ARMS, DEFAULT_ARMS, parse_arm
from rag_lib.settings.config import (
    PAPER_CLASSIFIERS,
    ClassifierConfig,
    DataConfig,
    EngineConfig,
    GanConfig,
    QualityConfig,
    Settings,
)
from rag_lib.settings.presets import PRESETS, PRESETS_OF
from rag_lib.study.arms import preprocessing
from rag_lib.study.overrides import SECTIONS, apply, check_arms, check_classifiers, check_overrides, hash_of_variant

LABELLER_SEED = 1_000
# Between the seeds of two draws' classifiers: where all draws shared them, what a seed does would be the same in every
# replicate, and the intervals over replicates would leave it out.
SEEDS_OF_A_DRAW = 10_000

# the parameters that a pretrained generator has settled, at their defaults, which count as not given
_SETTLED = {"dataset": "mnist5k", "seed": 0, "gan_steps": None, "arms": None, "replicates": 1}


def resolve(
    dataset: str = "mnist5k",
    preset: str = "quick",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    content: str = "",
    arms: Sequence[str] | None = None,
    replicates: int = 1,
) -> Settings:
    """The settings of a study: the paper's defaults, then the dataset's, the preset's and the caller's deltas.

    `overrides` maps `"section.field"` to a value, where a section is `data`, `gan`, `engine`, `classifier` (all of
    them) or one classifier's name (`"gan.steps"`, `"classifier.lr"`, `"resnet18.stem"`), or
    `"classifiers"` to the number of seeds by name. `seed` is the GAN's; `content` is the hash of an own
    folder's content; `arms` are those of arms.py, None for the study's usual ones. Raises `UserError` for anything
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
    classifiers: Mapping[str, int] = dict.fromkeys(PAPER_CLASSIFIERS, 1)
    values: dict[str, dict[str, Any]] = {}
    for deltas in (DATASETS[kind], PRESETS[preset], PRESETS_OF.get((preset, kind), {}), overrides):
        classifiers = deltas.get("classifiers", classifiers)
        apply({key: value for key, value in deltas.items() if key != "classifiers"}, values)
    data = DataConfig(dataset=dataset, content=content, **values.get("data", {}))

    def classifier(name: str) -> ClassifierConfig:
        own = values.get("classifier", {}) | values.get(name, {})
        return ClassifierConfig(data=data, model=name, seed=SEEDS_OF_A_DRAW * data.split_seed, **own)

    seeds = check_classifiers(classifiers)
    for key in overrides:
        section = str(key).rpartition(".")[0]
        if section and section not in (*SECTIONS, "cnn", *dict(seeds)):
            trained = ", ".join(dict(seeds))
            raise UserError(f"override {key!r} is of no use: {section} is not among the classifiers ({trained})")
    judge = classifier("cnn")
    of_gan = values.get("gan", {})
    # another seed than the judge's, who would meet its own labels; of one recipe they still agree more than strangers
    labeller = replace(judge, seed=judge.seed + LABELLER_SEED) if of_gan.get("labels") == "pseudo" else None
    gan = GanConfig(data=data, seed=seed, labeller=labeller, **of_gan)
    quality = QualityConfig(gan, judge, **values.get("quality", {}))
    check_value("replicates", replicates, int, low=1)
    arms = check_arms(DEFAULT_ARMS if arms is None else arms)
    unusual = {"arms": arms} if arms != DEFAULT_ARMS else {}
    unusual |= {"replicates": replicates} if replicates > 1 else {}
    unusual |= {"content": content} if content else {}  # two folders can have one name
    unusual |= {key: value for key, value in overrides.items() if not key.startswith("engine.")}
    variant = "" if seed == 0 and not unusual else hash_of_variant(seed, unusual)
    trained = tuple((classifier(name), n) for name, n in seeds)
    engine = EngineConfig(**values.get("engine", {}))
    return Settings(dataset, preset, variant, data, gan, trained, quality, arms, replicates, engine)


def replicate(settings: Settings, r: int) -> Settings:
    """The study with another draw of the real images and other seeds of all that is trained, `r` draws on."""
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
    preset: str = "quick",
    seed: int = 0,
    gan_steps: int | None = None,
    classifier_steps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    arms: Sequence[str] | None = None,
    replicates: int = 1,
    pretrained: str | None = None,
    engine: str = "local",
    content: str | None = None,
) -> Settings:
    """`resolve`, with an own folder's content looked at.

    `gan_steps` and `classifier_steps` stand for the overrides `gan.steps` and `classifier.steps`; None
    keeps the preset's, and `engine` for `engine.name`. `pretrained`: the name of a generator that comes with the study
    and takes the place of one to be trained; its data and its settings are then the study's. `content`: an own folder's
    hash (`data.content`), by a caller that has it already; otherwise all of the folder is read. `RAG_SMOKE=1` in the
    environment replaces any preset by `smoke`. Raises `UserError`.
    """
    deltas = check_overrides(overrides) | ({"engine.name": engine} if engine != "local" else {})
    if pretrained is not None:
        given = {"dataset": dataset, "seed": seed, "gan_steps": gan_steps, "arms": arms, "replicates": replicates}
        return _settings_of_pretrained(pretrained, preset, classifier_steps, deltas, given)
    steps = {"gan.steps": gan_steps, "classifier.steps": classifier_steps}
    deltas |= {name: n for name, n in steps.items() if n is not None}
    for check in (pick_device, progress_mode, check_results_dir):
        check()  # refuses what the environment asks for in vain, even where runs are reused
    given = {"arms": arms, "replicates": replicates}
    settings = resolve(dataset, preset, seed, deltas, **given)  # names and types first: they cost nothing
    check_value("RAG_SMOKE", os.environ.get("RAG_SMOKE", ""), str, choices=("", "0", "1"))
    if os.environ.get("RAG_SMOKE") == "1":
        preset = "smoke"
    attention_module(settings.gan.attention, 16)  # whether timm is there, where it wants it
    for classifier, _ in settings.classifiers:
        if classifier.model.startswith("timm:"):  # whether timm has it, and for such images, only building it tells
            build(classifier, n_classes=2)
    settings = resolve(dataset, preset, seed, deltas, content_of(dataset) if content is None else content, **given)
    configs(settings)  # refuses an arm that the generator cannot serve
    return settings


def _settings_of_pretrained(name, preset, classifier_steps, overrides, given) -> Settings:
    """`settings_for` with the data and the GAN of a pretrained generator; `given` must be as in `_SETTLED`."""
    gan = pretrained_config(name)
    own = gan.data.dataset
    if own.startswith("folder:"):
        raise UserError(f"pretrained = {name!r} was trained on somebody's own images; only load_generator takes it")
    given = {key: value for key, value in given.items() if value != _SETTLED[key]}
    refused = {key: value for key, value in given.items() if (key, value) != ("dataset", own)}
    refused |= {key: value for key, value in overrides.items() if str(key).startswith(("gan.", "data."))}
    for key, value in refused.items():
        raise UserError(f"{key} = {value!r} goes with a generator to be trained; pretrained = {name!r} has its own")
    usual = resolve(own, preset).data
    unusual = [f.name for f in fields(usual) if getattr(usual, f.name) != getattr(gan.data, f.name)]
    overrides = {**overrides, **{f"data.{n}": getattr(gan.data, n) for n in unusual}}
    settings = settings_for(own, preset, classifier_steps=classifier_steps, overrides=overrides)
    variant = "-".join(filter(None, ("pretrained" if name == own else f"pretrained_{name}", settings.variant)))
    return replace(settings, variant=variant, gan=gan, quality=replace(settings.quality, gan=gan))
