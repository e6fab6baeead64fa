"""Where data and results lie: in the repository or as RAG_DATA and RAG_RESULTS say, whatever the working directory."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """The datasets' folder: `RAG_DATA`, else `data/` in the repository."""
    return Path(os.environ.get("RAG_DATA") or ROOT / "data").expanduser().resolve()


def results_dir() -> Path:
    """The results' folder: `RAG_RESULTS`, else `results/` in the repository."""
    return Path(os.environ.get("RAG_RESULTS") or ROOT / "results").expanduser().resolve()
