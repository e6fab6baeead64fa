"""Every test has its own results folder; what is costly to make is made once a session."""

import io
import subprocess
import tarfile

import pytest

from rag_lib import data
from rag_lib.base import ROOT
from rag_lib.settings.config import DataConfig


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


@pytest.fixture(scope="session")
def committed(tmp_path_factory):
    """The results folder as it is committed: a study of one's own may have changed the working copy."""
    folder = tmp_path_factory.mktemp("committed")
    wanted = [f"results/{name}" for name in ("studies.toml", "tables")]
    try:
        tar = subprocess.run(["git", "archive", "HEAD", *wanted], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a clone to read the committed tables")
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "results"


@pytest.fixture
def published_results(committed, monkeypatch):
    """Published tables as they are committed."""
    monkeypatch.setenv("RAG_RESULTS", str(committed))
