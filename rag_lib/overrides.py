"""A caller's deltas from a preset: `"section.field"` to a value, checked by name and by type."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from rag_lib.arms import parse_arm
from rag_lib.checked import Checked, check_value
from rag_lib.config import (
    CLASSIFIERS,
    ClassifierConfig,
    DataConfig,
    EngineConfig,
    GanConfig,
    QualityConfig,
)
from rag_lib.errors import UserError
from rag_lib.progress import to_set

SECTIONS = {"data": DataConfig, "gan": GanConfig, "classifier": ClassifierConfig, "quality": QualityConfig}
SECTIONS |= {"engine": EngineConfig}
# What the study itself sets for each run, so nobody can override it.
RESERVED = {"dataset", "content", "data", "seed", "gan", "arm", "model", "share", "times"}
RESERVED |= {"labeller", "only_class", "judge", "pretrained"}


def check_overrides(overrides: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The overrides, none for None; raises `UserError` for anything that is no dictionary."""
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, Mapping):
        raise UserError(
            f"overrides = {overrides!r} is {type(overrides).__name__}; it must be a dictionary such as "
            """{"gan.lr": 1e-4} (papermill: -y 'overrides: {gan.lr: 1.0e-4}')"""
        )
    return overrides


def check_arms(arms: Sequence[str]) -> tuple[str, ...]:
    """Raises `UserError` for an arm that is unknown or named twice."""
    if isinstance(arms, str) or not isinstance(arms, Sequence) or not arms:
        raise UserError(f'arms = {arms!r} must be a list such as ["original", "mixed_add"]')
    # a share has six digits in an arm's label
    if len({(name, f"{share:g}", times) for name, share, times in map(parse_arm, arms)}) < len(arms):
        raise UserError(f"arms = {list(arms)} names an arm twice, or two shares that six digits do not tell apart")
    return tuple(arms)


def hash_of_variant(seed: int, overrides: Mapping[str, Any]) -> str:
    """Six digits that tell a study's figures and notebooks from those of the preset itself."""
    return hashlib.sha256(repr((seed, sorted(overrides.items(), key=str))).encode()).hexdigest()[:6]


def apply(deltas: Mapping[str, Any], values: dict[str, dict[str, Any]]) -> None:
    """Enters `"section.field"` deltas into `values[section][field]`; raises `UserError` for an unknown one.

    A later delta for every classifier replaces an earlier one for a single classifier.
    """
    for key, value in deltas.items():
        section, _, name = str(key).rpartition(".")
        is_classifier = section in CLASSIFIERS or section.startswith("timm:")
        known = {f.name for f in fields(SECTIONS.get("classifier" if is_classifier else section, Checked))}
        if name not in known - RESERVED:
            allowed = [f"{s}.{f.name}" for s, cls in SECTIONS.items() for f in fields(cls) if f.name not in RESERVED]
            close = difflib.get_close_matches(str(key), allowed, 1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise UserError(
                f"override {key!r} is unknown; {guess}allowed: classifiers, {', '.join(allowed)}, "
                "and a classifier's name in place of the word classifier"
            )
        if section == "classifier":
            for one in set(values) - set(SECTIONS):
                if f"{one}.{name}" not in deltas:
                    values[one].pop(name, None)
        values.setdefault(section, {})[name] = value


def check_classifiers(classifiers: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """`{"cnn": 3}` as `(("cnn", 3),)`; raises `UserError` for an unknown name or fewer than one seed."""
    if not isinstance(classifiers, Mapping) or not classifiers:
        example = to_set("classifiers", {"cnn": 3})
        raise UserError(f"classifiers = {classifiers!r} must be a dictionary of seeds, as in {example}")
    for name, seeds in classifiers.items():
        if not str(name).startswith("timm:"):
            check_value("classifier", name, str, choices=(*CLASSIFIERS, "timm:NAME"))
        check_value(f"classifiers[{name!r}] (seeds)", seeds, int, low=1)
    return tuple(classifiers.items())
