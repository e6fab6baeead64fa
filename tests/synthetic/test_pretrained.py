"""Generators that come with the study: small, whole, and known by name."""

import re

import pytest
import torch

from rag_lib import study
from rag_lib.cli import main
from rag_lib.runtime.files import sha256
from rag_lib.study.resolve import resolve
from rag_lib.synthetic import pretrained
from rag_lib.synthetic.generate import generate, load_generator, sample
from rag_lib.synthetic.pretrained import pretrained_file, pretrained_names

SETTINGS = resolve(preset="smoke")


@pytest.fixture
def gan(digits):
    return study.run_gan(SETTINGS, digits)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "generators")
    return tmp_path / "generators"


@pytest.fixture
def published(gan, folder, capsys):
    assert main(["publish", gan.id, "few_digits"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "few_digits.md")
    assert {path.name for path in folder.iterdir()} == {f"few_digits.{kind}" for kind in ("md", "png", "safetensors")}
    return folder / "few_digits.safetensors"


def test_a_published_generator_is_known_by_its_name_and_draws_what_its_run_draws(gan, published):
    images, of_run = (generate(load_generator(name), 50, seed=1) for name in ("few_digits", gan.id))
    assert (images.x.int() - of_run.x.int()).abs().max() <= 1
    assert sample(load_generator("few_digits"), [3, 3, 7]).shape == (3, 1, 28, 28)
    card = published.with_suffix(".md").read_text()
    for expected in (gan.id, sha256(published), "half precision", '"attention": "spam"'):
        assert expected in card


def test_its_datasheet_is_that_of_its_training(gan, published, digits, tmp_path):
    """Regression: it named the training's run with another file's SHA-256, and no measurement was ever found."""
    quality = study.run_quality(SETTINGS, digits)
    published.unlink()
    assert main(["publish", gan.id, "few_digits"]) == 0
    accuracy = f"{100 * quality.metrics['gan_test_accuracy']:.2f}%"
    assert accuracy in published.with_suffix(".md").read_text()
    assert main(["export", "few_digits", str(tmp_path / "set"), "--images", "10"]) == 0
    sheet = (tmp_path / "set" / "DATASHEET.md").read_text()
    assert gan.id in sheet
    assert sha256(published) in sheet
    assert accuracy in sheet


def test_an_unknown_name_and_a_bad_one_are_refused_in_one_line(published, gan, capsys):
    before = published.read_bytes()
    for name in ("../digits", "few_digits"):
        assert main(["publish", gan.id, name]) == 2
    assert main(["publish", "gan-000000000000", "digits"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    for name, error in zip(("../digits", "few_digits"), errors, strict=False):
        assert f"{name!r} must be new, and of lower-case letters" in error
    assert "these come with the study: few_digits" in errors[2]
    assert published.read_bytes() == before


def test_a_generator_too_large_for_git_is_refused(gan, folder, monkeypatch, capsys):
    monkeypatch.setattr("rag_lib.synthetic.publish.MAX_BYTES", 1_000)
    assert main(["publish", gan.id, "digits"]) == 2
    assert "must be at most 0.00 MB" in capsys.readouterr().err
    assert not folder.exists()


def test_the_generators_that_come_with_the_study_are_small_and_those_of_their_cards():
    assert pretrained_names()
    for name in pretrained_names():
        file = pretrained_file(name)
        assert file.stat().st_size < 2e6
        digest = re.search(r"SHA-256 `(\w+)`", file.with_suffix(".md").read_text())[1]
        assert digest == sha256(file)


def test_the_digits_that_come_with_the_study_look_like_real_ones_of_their_classes(digits):
    """The nearest mean image of a class's real digits tells the class of most of them, as of real ones."""
    means = torch.stack([digits.train.x[digits.train.y == c].float().mean(0).flatten() for c in range(10)])
    images = generate(load_generator("mnist"), 500, seed=5)
    seen = torch.cdist(images.x.float().flatten(1), means).argmin(1)
    assert (seen == images.y).float().mean() > 0.75
