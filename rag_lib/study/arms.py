"""The groups of images that classifiers are compared on: the paper's three, and the controls that make it fair."""

import math
from contextlib import suppress
from dataclasses import replace

import pandas as pd
import torch

from rag_lib.base import UserError, check_value
from rag_lib.data.images import Images, concat, stratified_split
from rag_lib.runtime.numerics import rng, seed_of
from rag_lib.settings.config import ARMS, REAL_ARMS, ClassifierConfig, DataConfig

MANY = ("generated", "mixed_add")  # the arms that can have several times as many generated images as real ones


def arm(config: ClassifierConfig, real: Images, synthetic: Images | None) -> Images:
    """The images that `config.arm` trains on; `real` are N images, `synthetic` at least `n_synthetic` generated ones.

    The paper's groups (section 2.3), of N images each: `generated`, `original`, and `mixed`, N/2 + N/2, or any other
    `share` of generated images. The controls: `mixed_add`, all N real and N generated ones; `original_plain`, the real
    ones without random rotation, shift and mirroring (`preprocessing` takes these away; the random crop of images that
    are stored larger stays); `original_half`, N/2 real ones; `generated_shuffled`, generated ones with their labels
    permuted, which must teach nothing.
    Since a generator does not run dry, `generated` and `mixed_add` can have `times` as many generated images;
    `mixed_add` then has each real one `times`, too, so that half of what is seen stays real.
    Where classes are of unequal sizes: `balanced`, the real ones, and of each class as many generated ones as it has
    fewer than the largest; `oversampled`, its control, where real ones of the class, repeated, stand in their place.
    Real images that are left out are left out class by class. Synthetic images that were generated at the crop's size
    are continued by reflection to the stored size: from there on real and synthetic images take the same way.
    """
    n = len(real)
    if synthetic is not None:
        synthetic = synthetic[: n_synthetic(config, real)].padded_to(real.x.shape[-1])
    if config.arm in ("original", "original_plain"):
        return real
    if config.arm == "generated":
        return synthetic
    if config.arm == "generated_shuffled":
        return replace(synthetic, y=synthetic.y[torch.randperm(n, generator=rng("shuffled", config.seed))])
    if config.arm == "mixed_add":
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


def topping_up(real: Images, source: Images) -> Images:
    """Of each class of `real` what it lacks of the largest one's number, from `source`, in turn, again and again."""
    counts = real.y.bincount(minlength=len(real.classes))
    index = []
    for c, missing in enumerate((counts.max() - counts).tolist()):
        of_class = (source.y == c).nonzero().flatten()
        index.append(of_class[torch.arange(missing) % len(of_class)])
    return source[torch.cat(index)]


def preprocessing(name: str, data: DataConfig) -> DataConfig:
    """What an arm changes in the preprocessing: `original_plain` has the crop and the contrast only."""
    return replace(data, rotation=0.0, translation=0, flip=False) if name == "original_plain" else data


def generated_share(config: ClassifierConfig) -> float | None:
    """The share of generated images with their own labels in an arm whose classes are as real ones or in turn.

    None where the labels are shuffled, and where the arm makes the classes equal: neither can be asked of test images.
    """
    shares = dict.fromkeys(REAL_ARMS, 0.0) | {"generated": 1.0, "mixed": config.share, "mixed_add": 0.5}
    shares |= dict.fromkeys(("generated_shuffled", "balanced", "oversampled"))
    return shares[config.arm]


def parse_arm(spec: str) -> tuple[str, float, int]:
    """An arm, its share of generated images (`mixed:0.25`) and how many times as many as real ones (`mixed_add:10`).

    Both at their defaults where `spec` is but the arm's name. Raises `UserError`.
    """
    name, colon, number = spec.partition(":") if isinstance(spec, str) else (spec, "", "")
    check_value("arm", name, str, choices=ARMS)
    share, times = ClassifierConfig.share, ClassifierConfig.times
    if not colon:
        return name, share, times
    with suppress(ValueError):  # where it is no number
        if name == "mixed" and 0 <= (share := float(number)) <= 1:
            return name, share, times
        if name in MANY and number.isdecimal() and 1 <= (times := int(number)) <= 100:
            return name, share, times
    raise UserError(
        f"arm = {spec!r} is unknown; mixed takes a share of generated images, as in mixed:0.25; {' and '.join(MANY)} "
        "take how many times as many, from 1 to 100, as in mixed_add:10; the others take none"
    )


def arm_order(specs: pd.Series) -> list[str]:
    """The arms that occur, as `parse_arm` reads them: the paper's groups first, each before its variants."""

    def place(spec: str) -> tuple[int, bool, float, int]:
        name, *numbers = parse_arm(spec)
        return ARMS.index(name), spec != name, *numbers

    return sorted(specs.unique(), key=place)


def label_of(config: ClassifierConfig) -> str:
    """The arm as `parse_arm` reads it: the name, and what is not at its default."""
    if config.arm == "mixed" and config.share != ClassifierConfig.share:
        return f"mixed:{config.share:g}"
    return config.arm if config.times == ClassifierConfig.times else f"{config.arm}:{config.times}"
