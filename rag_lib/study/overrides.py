"""A caller's deltas from a preset: `"section.field"` to a value, checked by name and by type."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from rag_lib.base import UserError, check_value
from rag_lib.settings.arms import DEFAULT_ARMS, parse_arm
from rag_lib.settings.checked import Checked
from rag_lib.settings.config import CLASSIFIERS, CONFIGS, EngineConfig

SECTIONS = {name: CONFIGS[name] for name in ("data", "gan", "classifier", "quality")} | {"engine": EngineConfig}
# What the study itself sets for each run, so nobody can override it.
RESERVED = {"dataset", "content", "data", "seed", "gan", "arm", "model", "share", "times"}
RESERVED |= {"labeller", "only_class", "judge"}


def check_overrides(overrides: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the overrides, none for None; raise `UserError` for anything that is no dictionary."""
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, Mapping):
        raise UserError(
            f"overrides = {overrides!r} is {type(overrides).__name__}; it must be a dictionary such as "
            """{"gan.lr": 1e-4} (papermill: -y 'overrides: {gan.lr: 1.0e-4}')"""
        )
    return overrides


def check_arms(arms: Sequence[str]) -> tuple[str, ...]:
    """Raise `UserError` for an arm that is unknown or named twice."""
    if isinstance(arms, str) or not isinstance(arms, Sequence) or not arms:
        raise UserError(f'arms = {arms!r} must be a list such as ["original", "mixed_add"]')
    # a share has six digits in an arm's label
    if len({(name, f"{share:g}", times) for name, share, times in map(parse_arm, arms)}) < len(arms):
        raise UserError(f"arms = {list(arms)} names an arm twice, or two shares that six digits do not tell apart")
    return tuple(arms)


def variant_of(seed: int, overrides: Mapping[str, Any], **given: Any) -> str:
    """Six digits that tell a study's figures and notebooks from those of the preset itself, which has none.

    `given`: its arms, its replicates, and the content of an own folder, since two folders can have one name.
    """
    usual = {"arms": DEFAULT_ARMS, "replicates": 1, "content": ""}
    unusual = {key: value for key, value in given.items() if value != usual[key]}
    unusual |= {key: value for key, value in overrides.items() if not key.startswith("engine.")}
    text = repr((seed, sorted(unusual.items(), key=str)))
    return hashlib.sha256(text.encode()).hexdigest()[:6] if seed or unusual else ""


def fields_of(section: str, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what layers of `"section.field"` deltas make of a section's fields: the last that sets one decides.

    `section` may be one classifier: a layer's deltas for it come after those for every classifier.
    """
    sections = (section,) if section in SECTIONS else ("classifier", section)
    return {
        key.rpartition(".")[2]: value
        for deltas in layers
        for one in sections
        for key, value in deltas.items()
        if key.rpartition(".")[0] == one
    }


def check_names(deltas: Mapping[str, Any]) -> None:
    """Raise `UserError` for a delta that is unknown, or the study's own to set."""
    for key in deltas:
        section, _, name = str(key).rpartition(".")
        is_classifier = section in CLASSIFIERS or section.startswith("timm:")
        known = {f.name for f in fields(SECTIONS.get("classifier" if is_classifier else section, Checked))}
        if key != "classifiers" and name not in known - RESERVED:
            allowed = [f"{s}.{f.name}" for s, cls in SECTIONS.items() for f in fields(cls) if f.name not in RESERVED]
            close = difflib.get_close_matches(str(key), allowed, 1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise UserError(
                f"override {key!r} is unknown; {guess}allowed: classifiers, {', '.join(allowed)}, "
                "and a classifier's name in place of the word classifier"
            )


def check_classifiers(classifiers: Mapping[str, int], overrides: Mapping[str, Any]) -> None:
    """Raise `UserError` for an unknown name, fewer than one seed, and an override of a classifier of another name."""
    if not isinstance(classifiers, Mapping) or not classifiers:
        raise UserError(f"classifiers = {classifiers!r} must be a dictionary of seeds, as in {{'cnn': 3}}")
    for name, seeds in classifiers.items():
        if not str(name).startswith("timm:"):
            check_value("classifier", name, str, choices=(*CLASSIFIERS, "timm:NAME"))
        check_value(f"classifiers[{name!r}] (seeds)", seeds, int, low=1)
    for key in overrides:
        section = key.rpartition(".")[0]
        if section not in ("", *SECTIONS, "cnn", *classifiers):  # cnn is the judge, too
            trained = ", ".join(classifiers)
            raise UserError(f"override {key!r} is of no use: {section} is not among the classifiers ({trained})")
