"""Where data and results lie: in the repository or as RAG_DATA and RAG_RESULTS say, whatever the working directory."""

import os
from pathlib import Path

from rag_lib.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """The datasets' folder: `RAG_DATA`, else `data/` in the repository."""
    return _folder("RAG_DATA", "data")


def results_dir() -> Path:
    """The results' folder: `RAG_RESULTS`, else `results/` in the repository."""
    return _folder("RAG_RESULTS", "results")


def _folder(variable: str, default: str) -> Path:
    """What the environment says; a relative path starts at the repository, since shell and kernel are elsewhere."""
    path = Path(os.path.expanduser(os.environ.get(variable) or default))
    if not (path.is_absolute() or (ROOT / "pyproject.toml").exists()):
        raise UserError(
            f"{variable}: rag_lib is installed in {ROOT}, without its repository; set {variable} to an absolute path, "
            "or install with pip install --editable"
        )
    return (ROOT / path).resolve()


def check_results_dir() -> None:
    """Raises `UserError` where nothing can be written into the results' folder."""
    path = results_dir()
    # not Path.exists, which raises where a folder above is closed
    there = next(p for p in (path, *path.parents) if os.path.exists(p))
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise UserError(f"{path} cannot be written to; set RAG_RESULTS to a folder that can")
