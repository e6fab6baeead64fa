"""Whether folders are classes, or a level above the classes: parts, folds, variants, images beside annotations."""

import os.path
import re
from collections import Counter
from collections.abc import Mapping
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


def check_classes(path: str | Path, classes: Mapping[str, set[tuple[str, ...]]]) -> None:
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
