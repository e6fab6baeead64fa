"""The arms by name: the groups of images that classifiers are compared on, as a user writes them."""

from contextlib import suppress

import pandas as pd

from rag_lib.base import UserError, check_value
from rag_lib.settings.config import ARMS, REAL_ARMS, ClassifierConfig

MANY = ("generated", "mixed_add")  # the arms that can have several times as many generated images as real ones

# the paper's three, and the two that its claim and ours are measured against
DEFAULT_ARMS = ("generated", "original", "mixed", "mixed_add", "original_plain")

ARM_NAMES = {
    "generated": "generated images alone",
    "original": "the original images",
    "mixed": "half and half",
    "mixed_add": "all of both",
    "original_plain": "the original images without random rotation, shift and mirroring",
    "original_half": "half of the original images",
    "generated_shuffled": "generated images with shuffled labels",
    "balanced": "the original images with rare classes topped up by generated ones",
    "oversampled": "the original images with those of rare classes repeated",
}


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
