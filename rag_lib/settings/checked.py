"""Dataclasses whose fields know which values they allow; anything else is refused in one clear line."""

from dataclasses import dataclass, field, fields
from typing import Any

from rag_lib.base import check_value


def setting(default: Any, *, choices: tuple = (), low: float | None = None, high: float | None = None, added=False):
    """Return a dataclass field that knows which values it allows.

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
