"""Whether folders are classes that can be learned, or a level above: parts, folds, images beside annotations."""

import os.path
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rag_lib.base import UserError

# what a level above is called, and two classes hardly ever: train, Testing, seg_val2, testA, fold1; images, masks
ABOVE = re.compile(
    r"(.*[ _-])?(?P<part>train|test|val|eval|dev|pred|fold)(ing|id|idation|uation|iction|s)?"
    r"([ _-]?(set|data|images))?[ _-]?(?P<number>\d*[A-Z]?)"
    r"|(.*[ _-])?(?P<kind>(jpeg)?image|img|segmentation(class|object)|mask|annotation|label|ground[ _-]?truth)"
    r"s?[ _-]?\d*",
    re.IGNORECASE,
)


def check_levels(path: str | Path, classes: Mapping[str, set[tuple[str, ...]]]) -> None:
    """Raise `UserError` where folders look like a level above the classes.

    `classes`: by its name, the subfolders of each that hold images, as parts of their paths; () for itself.
    """
    matches = {label: m for label in sorted(classes) if (m := ABOVE.fullmatch(label))}
    named = {tuple(map(str.lower, m.groupdict("").values())): label for label, m in matches.items()}
    # where a class's paths part, the names of the folders
    inner = {}
    for label, folders in classes.items():
        depth = len(os.path.commonprefix([*folders]))  # noqa: RUF071 (of parts, not of characters)
        inner[label] = {folder[depth] for folder in folders if len(folder) > depth}
    times = Counter(name for names in inner.values() for name in names)
    alike = [label for label, names in inner.items() if sum(times[name] > 1 for name in names) > 1]
    nested = [label for label, folders in classes.items() if () not in folders]
    if len(named) > 1:
        found = [*named.values()]
    elif alike or 0 < len(nested) < len(classes):
        found = alike or [nested[0], min(classes.keys() - nested)]
    else:
        return
    raise UserError(
        f"{path} has the folders {', '.join(found[:10])}, which look like a level above the classes, by their names or "
        "what is in them; give one of them alone, or name them train and test, each with one subfolder a class, or "
        "put the images of each class straight into its folder"
    )


def check_classes(path: str | Path, counts: Mapping[tuple[str, str], int]) -> None:
    """Raise `UserError` unless there are two classes or more, all with images to train on and, if any has, to test.

    `counts`: of the images, by split (`train`, `test`) and class.
    """
    splits: dict[str, dict[str, int]] = {"train": {}, "test": {}}
    for (split, label), n in sorted(counts.items()):
        splits[split][label] = n
    train, test = splits["train"], splits["test"]
    if len(train) < 2:
        few = f"only the class {min(train)!r}" if train else "no class"
        raise UserError(f"{path} has {few}; put the images of each of at least two classes into a folder of its own")
    if unknown := [repr(label) for label in test if label not in train]:
        raise UserError(
            f"{path}: the class {some(unknown, 10)} is in test but not in train; every class must be in train"
        )
    needed = 2 if test else 3  # one image for each of train, val and test
    if short := [f"class {label!r} has {n} images to train on" for label, n in train.items() if n < needed]:
        raise UserError(f"{path}: {some(short, 10)}; it must have at least {needed}, or be removed")
    if untested := [repr(label) for label in train if test and not test.get(label)]:
        raise UserError(
            f"{path}: the class {some(untested, 10)} is in train but not in test; every class must be in both"
        )


def some(texts: Sequence[str], most: int, between: str = ", ") -> str:
    """Join the first of these, and say how many more there are."""
    more = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return between.join([*texts[:most], *more])
