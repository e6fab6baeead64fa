"""What every module may use: the one exception for what a user can mend, checked values, and where the folders lie."""

import difflib
import math
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GENERATORS = ROOT / "results" / "generators"  # that come with the study: good samples without a training


class UserError(ValueError):
    """Something the user gave cannot be used; the message says what, what is allowed and what to do.

    The command line prints the message alone, and so does a notebook: IPython asks an exception for
    `_render_traceback_` before it formats one itself.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"Error: {self}"]


def data_dir() -> Path:
    """Return the datasets' folder: `RAG_DATA`, else `data/` in the repository."""
    return _folder("RAG_DATA", "data")


def results_dir() -> Path:
    """Return the results' folder: `RAG_RESULTS`, else `results/` in the repository."""
    return _folder("RAG_RESULTS", "results")


def pretrained_names() -> list[str]:
    return sorted(path.stem for path in GENERATORS.glob("*.safetensors"))


def pretrained_file(name: str) -> Path:
    return GENERATORS / f"{name}.safetensors"


def _folder(variable: str, default: str) -> Path:
    """Return what the environment says; a relative path starts at the repository, as shell and kernel are elsewhere."""
    path = Path(os.path.expanduser(os.environ.get(variable) or default))
    if not (path.is_absolute() or (ROOT / "pyproject.toml").exists()):
        raise UserError(
            f"{variable}: rag_lib is installed in {ROOT}, without its repository; set {variable} to an absolute path, "
            "or install with pip install --editable"
        )
    return (ROOT / path).resolve()


def check_results_dir() -> None:
    """Raise `UserError` where nothing can be written into the results' folder."""
    path = results_dir()
    # not Path.exists, which raises where a folder above is closed
    there = next(p for p in (path, *path.parents) if os.path.exists(p))
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise UserError(f"{path} cannot be written to; set RAG_RESULTS to a folder that can")


def check_value(name: str, value: Any, kind: type, choices=(), low=None, high=None) -> None:
    """Raise `UserError`, in one line, unless `value` is a `kind` within its choices and bounds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and kind is float) and type(value) is not kind:
        hint = {bool: " (papermill reads True and False with capitals)", float: " (YAML wants 1.0e-4, not 1e-4)"}
        hint = hint.get(kind, "") if isinstance(value, str) else ""
        raise UserError(f"{name} = {value!r} is {type(value).__name__}; it must be {kind.__name__}{hint}")
    if choices and value not in choices:
        close = difflib.get_close_matches(value.lower(), choices, 1) if kind is str else []
        guess = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"{name} = {value!r} is unknown; {guess}choose one of {', '.join(map(str, choices))}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{name} = {value!r} must be a finite number")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = " and ".join(f"{word} {n}" for word, n in (("at least", low), ("at most", high)) if n is not None)
        raise UserError(f"{name} = {value!r} is out of range; it must be {bounds}")
