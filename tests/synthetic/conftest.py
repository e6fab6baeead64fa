"""A generator of preset smoke, trained once, in the results of each test."""

import shutil

import pytest

from rag_lib import study
from rag_lib.study.resolve import resolve


@pytest.fixture(scope="session")
def settings():
    return resolve(preset="smoke")


@pytest.fixture(scope="session")
def trained(settings, digits, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_RESULTS", str(tmp_path_factory.mktemp("trained")))
        patch.setenv("RAG_DEVICE", "cpu")
        return study.run_gan(settings, digits)


@pytest.fixture
def gan(trained, settings, digits, results):
    shutil.copytree(trained.folder, results / "runs" / trained.id)
    return study.run_gan(settings, digits)
