"""Dataclasses whose fields know which values they allow; anything else is refused in one clear line."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from rag_lib.base import UserError


def setting(default: Any, *, choices: tuple = (), low: float | None = None, high: float | None = None, added=False):
    """A dataclass field that knows which values it allows.

    `added`: after runs were published. At its default, which is what the code did before and may never change, such
    a field is left out of a run's identity, so that the published runs keep their names.
    """
    return field(default=default, metadata={"choices": choices, "low": low, "high": high, "added": added})


@dataclass(frozen=True)
class Checked:
    """Refuses a field's value of another type, outside its choices or outside its bounds."""

    def __post_init__(self):
        section = type(self).__name__.removesuffix("Config").lower()
        for f in fields(self):
            if f.type in (int, float, bool, str):
                value = getattr(self, f.name)
                allowed = {key: f.metadata[key] for key in ("choices", "low", "high") if key in f.metadata}
                check_value(f"{section}.{f.name}", value, f.type, **allowed)
                # 1 and 1.0 are the same setting, so they must name the same run
                object.__setattr__(self, f.name, f.type(value))


def check_value(name: str, value: Any, kind: type, choices=(), low=None, high=None) -> None:
    """Raises `UserError`, in one line, unless `value` is a `kind` within its choices and bounds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and kind is float) and type(value) is not kind:
        hint = {bool: " (papermill reads True and False with capitals)", float: " (YAML wants 1.0e-4, not 1e-4)"}
        hint = hint.get(kind, "") if isinstance(value, str) else ""
        raise UserError(f"{name} = {value!r} is {type(value).__name__}; it must be {kind.__name__}{hint}")
    if choices and value not in choices:
        raise UserError(f"{name} = {value!r} is unknown; choose one of {', '.join(map(str, choices))}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{name} = {value!r} must be a finite number")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = " and ".join(f"{word} {n}" for word, n in (("at least", low), ("at most", high)) if n is not None)
        raise UserError(f"{name} = {value!r} is out of range; it must be {bounds}")
