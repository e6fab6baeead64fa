"""Every test has its own results folder; what is costly to make is made once a session."""

import pytest

from rag_lib import data
from rag_lib.config import DataConfig


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """A results folder of the test's own, and progress as plain lines."""
    folder = tmp_path / "results"
    monkeypatch.setenv("RAG_RESULTS", str(folder))
    monkeypatch.setenv("RAG_PROGRESS", "text")
    monkeypatch.setenv("RAG_DEVICE", "cpu")  # its numbers are pinned in some tests
    monkeypatch.delenv("RAG_SMOKE", raising=False)
    return folder


@pytest.fixture(scope="session")
def digits():
    """The embedded digits' splits."""
    return data.load(DataConfig())
