"""The groups of images that classifiers are compared on: the paper's three, and the controls that make it fair."""

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from rag_lib.data.datasets import Splits, load
from rag_lib.data.images import Images, concat, stratified_split, topping_up
from rag_lib.runtime.files import sha256
from rag_lib.runtime.numerics import rng, seed_of
from rag_lib.runtime.store import Run
from rag_lib.settings.config import ClassifierConfig, DataConfig
from rag_lib.synthetic.generate import generate, load_generator
from rag_lib.synthetic.quality import HELD_OUT_SEED

TRAIN_SEED = 0  # of the generated images that classifiers are trained on


def compose(config: ClassifierConfig, real: Images, synthetic: Images | None) -> Images:
    """Return the images that `config.arm` trains on, from N `real` and `n_synthetic` generated ones.

    The paper's groups (section 2.3) have N images each: `generated`, `original`, and `mixed`, N/2 + N/2, or any other
    `share` of generated images. Of the controls `mixed_add` has N of each and `original_half` N/2; the labels of
    `generated_shuffled` must teach nothing; what tells `original_plain` from `original`, `preprocessing` takes away.
    Since a generator does not run dry, `generated` and `mixed_add` can have `times` as many generated images;
    `mixed_add` then has each real one `times`, too, so that half of what is seen stays real.
    `mixed_add_centred` is `mixed_add` with each generated image moved to where real ones lie, digits on black.
    `balanced` adds as many generated images of each class as it has fewer than the largest; in `oversampled`, its
    control, real ones of the class, repeated, take their place.
    Real images that are left out are left out class by class. Synthetic images that were generated at the crop's size
    are continued by reflection to the stored size: from there on real and synthetic images take the same way.
    """
    n = len(real)
    if synthetic is not None:
        synthetic = synthetic.padded_to(real.x.shape[-1])
    if config.arm in ("original", "original_plain"):
        return real
    if config.arm == "generated":
        return synthetic
    if config.arm == "generated_shuffled":
        return replace(synthetic, y=synthetic.y[torch.randperm(n, generator=rng("shuffled", config.seed))])
    if config.arm == "mixed_add_centred":
        synthetic = synthetic.centred_on(real.centres().mean(0))
    if config.arm in ("mixed_add", "mixed_add_centred"):
        return concat(real[torch.arange(n * config.times) % n], synthetic)
    if config.arm in ("balanced", "oversampled"):
        return concat(real, topping_up(real, real if config.arm == "oversampled" else synthetic))
    share = 0.5 if config.arm == "original_half" else config.share
    n_generated = math.ceil(round(n * share, 6))  # 100 * 0.07 is a little more than 7
    kept, _ = stratified_split(real.y, (n - n_generated,), seed_of("half", config.seed))
    return real[kept] if config.arm == "original_half" else concat(real[kept], synthetic[: n - len(kept)])


def n_synthetic(config: ClassifierConfig, real: Images) -> int:
    """How many generated images, classes in turn, an arm draws from: `times` N, or enough to make all classes equal."""
    if config.arm == "balanced":
        return len(real.classes) * int(real.y.bincount().max())
    return config.times * len(real)


def preprocessing(name: str, data: DataConfig) -> DataConfig:
    """Return what an arm changes in the preprocessing: `original_plain` has the crop and the contrast only."""
    return replace(data, rotation=0.0, translation=0, flip=False) if name == "original_plain" else data


def images_for(config: ClassifierConfig, splits: Splits, gan: Run | None = None) -> dict[str, Images]:
    """By name: what a classifier is trained on, `train`, and what it is measured on, as `train_classifier` wants it."""
    real = {"val": splits.val, "test": splits.test}
    if config.gan is None:
        return real | {"train": compose(config, splits.train, None)}
    train = compose(config, splits.train, synthetic(gan.folder, n_synthetic(config, splits.train), TRAIN_SEED))
    held_out = synthetic(gan.folder, len(splits.test), HELD_OUT_SEED).padded_to(train.x.shape[-1])
    return real | {"train": train, "generated": held_out}


splits_of = lru_cache(maxsize=2)(load)  # the studies that share their images follow one another


def synthetic(generator: Path, n: int, seed: int) -> Images:
    """Return what is `generate`d by the generator in this folder, and kept until its weights are others."""
    return _synthetic(generator, sha256(generator / "generator.safetensors"), n, seed)


@lru_cache(maxsize=2)  # what a generator's classifiers are trained on, and what they are measured on
def _synthetic(generator: Path, weights: str, n: int, seed: int) -> Images:
    return generate(load_generator(generator), n, seed)
