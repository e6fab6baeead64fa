"""Print what the source says of the settings: every field, every preset, and the comments behind them."""

import ast
import inspect
import re
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from rag_lib.base import ROOT
from rag_lib.data import datasets
from rag_lib.data.datasets import DATASETS
from rag_lib.settings import config, presets
from rag_lib.settings.arms import ARMS
from rag_lib.settings.config import CLASSIFIERS
from rag_lib.settings.presets import PRESETS, PRESETS_OF
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
    """Print a table for each section of the settings, a row a field."""
    lines, said = lines_of_fields(), comments(config)
    for section, cls in SECTIONS.items():
        print(f"\n## {section}\n\n{inspect.getdoc(cls)}\n")
        rows = []
        for f in fields(cls):
            line = lines[section, f.name]
            # a classifier's schedule and optimiser are explained where the GAN's are
            words = explanation(said, *line) or explanation(said, *lines.get(("gan", f.name), line))
            link = f"[`{section}.{f.name}`]({address(config, line[0])})"
            rows.append((link, default(f), allowed(f), changes(section, f.name), words))
        table(["field", "default", "allowed", "changed by", "meaning"], rows)


def links(page: str) -> None:
    """Print the link of each setting that a page of docs/ names as [`section.field`]."""
    lines = lines_of_fields()
    named = re.findall(r"\[`(\w+)\.(\w+)`\](?!: \.\.)", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    for section, name in sorted(set(named)):
        print(f"[`{section}.{name}`]: {address(config, lines[section, name][0])}")


def deltas(name: str, key: str | tuple[str, str]) -> None:
    """Print what an entry of DATASETS, PRESETS or PRESETS_OF changes, and the reason in the comment behind it."""
    module = datasets if name == "DATASETS" else presets
    tree = ast.parse(inspect.getsource(module))
    assigned = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            assigned[target.id] = node.value
    entries = assigned[name]
    (entry,) = [v for k, v in zip(entries.keys, entries.values, strict=True) if ast.literal_eval(k) == key]
    said = comments(module)

    def reasons(node: ast.expr) -> dict[str, str]:
        if isinstance(node, ast.Name):
            return reasons(assigned[node.id])
        if isinstance(node, ast.BinOp):  # later deltas win
            return reasons(node.left) | reasons(node.right)
        pairs = zip(node.keys, node.values, strict=True)
        return {k.value: explanation(said, k.lineno, v.end_lineno) for k, v in pairs}

    why, rows = reasons(entry), []
    for setting, value in getattr(module, name)[key].items():
        section, _, field = setting.rpartition(".")
        cls = SECTIONS["classifier" if section in CLASSIFIERS else section] if section else None
        usual = [default(f) for f in fields(cls) if f.name == field] if cls else ["one seed of each of its five"]
        rows.append((f"`{setting}`", *usual, shown(value), why[setting].rstrip(",")))
    table(["setting", "paper", "here", "why"], rows)


def comments(module: ModuleType) -> dict[int, tuple[bool, str]]:
    """Return a module's comments by line: whether it has the line for itself, and its words without `noqa`."""
    with open(inspect.getsourcefile(module), "rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    return {
        token.start[0]: (not token.line[: token.start[1]].strip(), re.sub(r"noqa\b.*", "", token.string.lstrip("# ")))
        for token in tokens
    }


def explanation(said: dict[int, tuple[bool, str]], first: int, last: int) -> str:
    """Return the comment behind these lines, else the one in the lines directly above them."""
    if last in said and not said[last][0]:
        return said[last][1].strip()
    above: list[str] = []
    while said.get(first - len(above) - 1, (False, ""))[0]:
        above.insert(0, said[first - len(above) - 1][1])
    return " ".join(above)


def lines_of_fields() -> dict[tuple[str, str], tuple[int, int]]:
    """Return the first and the last line of every field in the source."""
    sections = {cls.__name__: section for section, cls in SECTIONS.items()}
    tree = ast.parse(inspect.getsource(config))
    return {
        (sections[cls.name], node.target.id): (node.lineno, node.end_lineno)
        for cls in tree.body
        if isinstance(cls, ast.ClassDef) and cls.name in sections
        for node in cls.body
        if isinstance(node, ast.AnnAssign)
    }


def address(module: ModuleType, line: int) -> str:
    """Return the link from docs/ to a line of a module."""
    return f"../{Path(inspect.getsourcefile(module)).relative_to(ROOT).as_posix()}#L{line}"


def default(f: Field) -> str:
    """Return a field's default in words; nothing where it is a config or None."""
    return shown(f.default) if isinstance(f.default, int | float | str) else ""


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"`{name}`: {seeds}" for name, seeds in value.items())
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    return str(value) if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def allowed(f: Field) -> str:
    """Return the values that a field takes, in words; those that no override may change are the study's."""
    if f.name in RESERVED:
        return "set by the study"
    if f.metadata.get("choices"):
        return ", ".join(map(shown, f.metadata["choices"]))
    low, high = f.metadata.get("low"), f.metadata.get("high")
    if low is not None:
        return f"at least {shown(low)}" if high is None else f"{shown(low)} to {shown(high)}"
    return "True, False" if f.type is bool else "any"


def changes(section: str, name: str) -> str:
    """Return which data sets and presets change a field, and to what."""
    of_pairs = [(f"{preset}` on `{dataset}", entry) for (preset, dataset), entry in PRESETS_OF.items()]
    by_entry = {}  # cifar10_jpeg shares the entries of cifar10, which come first
    for by, entry in [*DATASETS.items(), *PRESETS.items(), *of_pairs]:
        by_entry.setdefault(id(entry), (by, entry))
    found: dict[str, list[str]] = {}
    for by, entry in by_entry.values():
        for setting, value in entry.items():
            own, _, field = setting.rpartition(".")
            if field == name and (own == section or (section == "classifier" and own in CLASSIFIERS)):
                label = f"`{by}`" if own == section else f"`{by}` (`{own}`)"
                found.setdefault(shown(value), []).append(label)
    return "; ".join(f"{', '.join(by)}: {value}" for value, by in found.items())
