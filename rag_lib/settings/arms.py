"""The arms by name: the groups of images that classifiers are compared on. study/arms.py composes their images."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from rag_lib.base import UserError, check_value

SHARE, TIMES = 0.5, 1  # what an arm that takes one has without a number behind its name
MOST_TIMES = 100


@dataclass(frozen=True)
class Arm:
    """What there is to know of an arm but its images."""

    words: str  # "trained on ...", in sentences and in the documents
    colour: str
    # of generated images with their own labels, where classes are as in the real images or in turn; None where labels
    # are shuffled, images moved, and where the arm makes the classes equal: none can be asked of test images
    share: float | None
    gan: bool = True  # whether it needs one
    takes: str = ""  # the number that may follow its name: a `share` as in mixed:0.25, or `times` as in mixed_add:10
    default: bool = False  # whether it is compared where the user names none


# The paper's three groups, the controls of its claim and of ours, and last those for classes of unequal sizes. Okabe
# and Ito's colours, which the colour-blind tell apart, but for their yellow, too pale on white; and a grey.
ARMS = {
    "generated": Arm("generated images alone", "#E69F00", 1.0, takes="times", default=True),
    "original": Arm("the original images", "#0072B2", 0.0, gan=False, default=True),
    "mixed": Arm("half and half", "#009E73", SHARE, takes="share", default=True),
    "mixed_add": Arm("all of both", "#D55E00", 0.5, takes="times", default=True),
    "mixed_add_centred": Arm("all of both, the generated ones centred", "#882255", None, takes="times"),
    "original_plain": Arm(
        "the original images without random rotation, shift and mirroring", "#56B4E9", 0.0, gan=False, default=True
    ),
    "original_half": Arm("half of the original images", "#CC79A7", 0.0, gan=False),
    "generated_shuffled": Arm("generated images with shuffled labels", "#000000", None),
    "balanced": Arm("the original images with rare classes topped up by generated ones", "#999933", None),
    "oversampled": Arm("the original images with those of rare classes repeated", "#808080", None, gan=False),
}
DEFAULT_ARMS = tuple(name for name, arm in ARMS.items() if arm.default)


def parse_arm(spec: str) -> tuple[str, float, int]:
    """Return an arm, its share of generated images (`mixed:0.25`), and how many a real one (`mixed_add:10`).

    Both at their defaults where `spec` is but the arm's name. Raises `UserError`.
    """
    name, colon, number = spec.partition(":") if isinstance(spec, str) else (spec, "", "")
    check_value("arm", name, str, choices=tuple(ARMS))
    if not colon:
        return name, SHARE, TIMES
    takes = ARMS[name].takes
    with suppress(ValueError):  # where it is no number
        if takes == "share" and 0 <= (share := float(number)) <= 1:
            return name, share, TIMES
        if takes == "times" and number.isdecimal() and 1 <= (times := int(number)) <= MOST_TIMES:
            return name, SHARE, times
    many = ", ".join(name for name, arm in ARMS.items() if arm.takes == "times")
    raise UserError(
        f"arm = {spec!r} is unknown; mixed takes a share of generated images, as in mixed:0.25; {many} "
        f"take how many times as many, from 1 to {MOST_TIMES}, as in mixed_add:10; the others take none"
    )


def label_of(name: str, share: float, times: int) -> str:
    """Return the arm as `parse_arm` reads it: the name, and what is not at its default."""
    if ARMS[name].takes == "share" and share != SHARE:
        return f"{name}:{share:g}"
    return name if times == TIMES else f"{name}:{times}"


def arm_order(specs: Iterable[str]) -> list[str]:
    """Return the arms that occur, as `parse_arm` reads them: the paper's groups first, each before its variants."""

    def place(spec: str) -> tuple[int, bool, float, int]:
        name, *numbers = parse_arm(spec)
        return list(ARMS).index(name), spec != name, *numbers

    return sorted(dict.fromkeys(specs), key=place)
