"""Where data and results lie: in the repository or as RAG_DATA and RAG_RESULTS say, whatever the working directory."""

import os
from pathlib import Path

from rag_lib.base import UserError

ROOT = Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """The datasets' folder: `RAG_DATA`, else `data/` in the repository."""
    return Path(os.environ.get("RAG_DATA") or ROOT / "data").expanduser().resolve()


def results_dir() -> Path:
    """The results' folder: `RAG_RESULTS`, else `results/` in the repository."""
    return Path(os.environ.get("RAG_RESULTS") or ROOT / "results").expanduser().resolve()


def check_results_dir() -> None:
    """Raises `UserError` where nothing can be written into the results' folder."""
    path = results_dir()
    # not Path.exists, which raises where a folder above is closed
    there = next(p for p in (path, *path.parents) if os.path.exists(p))
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise UserError(f"{path} cannot be written to; set RAG_RESULTS to a folder that can")
