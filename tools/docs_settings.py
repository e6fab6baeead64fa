"""Print what the source says of the settings: every field, every preset, and the comments behind them."""

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import Field, fields
from typing import Any

from rag_lib.base import ROOT
from rag_lib.settings import presets
from rag_lib.settings.arms import ARMS
from rag_lib.settings.config import CLASSIFIERS
from rag_lib.study.overrides import RESERVED, SECTIONS


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a Markdown table."""
    for cells in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, cells)) + " |")


def arms() -> None:
    """Print a table of the arms, a row an arm."""
    rows = []
    for name, arm in ARMS.items():
        number = f", `{name}:{arm.takes.upper()}`" if arm.takes else ""
        rows.append((f"`{name}`{number}", arm.words, "yes" if arm.default else ""))
    table(["arm", "trained on", "by default"], rows)


def settings() -> None:
    """Print a table for each section of the settings, a row a field that is not the study's own to set."""
    said = {section: comments(inspect.getsource(cls)) for section, cls in SECTIONS.items()}
    for section, cls in SECTIONS.items():
        print(f"\n### {section}\n\n{inspect.getdoc(cls)}\n")
        rows = []
        for f in (f for f in fields(cls) if f.name not in RESERVED):
            # a classifier's schedule and optimiser are explained where the GAN's are
            meaning = said[section][f.name] or said["gan"].get(f.name, "")
            rows.append((f"`{section}.{f.name}`", shown(f.default), allowed(f), meaning))
        table(["field", "default", "allowed", "meaning"], rows)


def links(page: str) -> None:
    """Print the link of each setting that a page of docs/ names as [`section.field`]."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\[`(\w+\.\w+)`\](?!: settings)", text))
    unknown = named - {f"{section}.{f.name}" for section, cls in SECTIONS.items() for f in fields(cls)}
    assert not unknown, f"{page} names settings that there are not: {unknown}"
    for name in sorted(named):
        print(f"[`{name}`]: settings.md#{name.partition('.')[0]}")


def deltas(name: str, key: str | tuple[str, str]) -> None:
    """Print what an entry of PRESETS or PRESETS_OF changes, and the reason in the comment behind it."""
    entry = getattr(presets, name)[key]
    # some entries are dictionaries with a name of their own, so the one that is meant is known by its keys
    written = map(comments, re.split(r"^ *}", inspect.getsource(presets), flags=re.MULTILINE))
    why = next(said for said in written if entry.keys() <= said.keys())
    rows = []
    for setting, value in entry.items():
        section, _, field = setting.rpartition(".")
        of_section = SECTIONS["classifier" if section in CLASSIFIERS else section] if section else None
        usual = shown(of_section.__dataclass_fields__[field].default) if section else "one seed of each of the five"
        rows.append((f"`{setting}`", usual, shown(value), why[setting]))
    table(["setting", "default", "here", "why"], rows)


def comments(source: str) -> dict[str, str]:
    """Return the comment on each field or key, each a line of the source: behind it, else in the lines above it."""
    found, above = {}, []
    for line in map(str.strip, source.splitlines()):
        if match := re.match(r'"?([\w.]+)"?: .*?(?:  # (?!noqa)(.*))?$', line):
            found[match[1]] = match[2] or " ".join(above)
        above = [*above, line.removeprefix("# ")] if line.startswith("#") else []
    return found


def shown(value: Any) -> str:
    """Return a value as the documents show it."""
    if isinstance(value, dict):
        return ", ".join(f"`{name}`: {seeds}" for name, seeds in value.items())
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    return str(value) if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def allowed(f: Field) -> str:
    """Return the values that a field takes, in words."""
    if f.metadata.get("choices"):
        return ", ".join(map(shown, f.metadata["choices"]))
    low, high = f.metadata.get("low"), f.metadata.get("high")
    if low is not None:
        return f"at least {shown(low)}" if high is None else f"{shown(low)} to {shown(high)}"
    return "True, False" if f.type is bool else "any"
