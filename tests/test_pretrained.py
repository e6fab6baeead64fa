"""Generators that come with the study: small, whole, known by name, and never mistaken for one trained here."""

import re

import pytest
import torch

from rag_lib import study
from rag_lib.base import UserError
from rag_lib.cli import main
from rag_lib.gan import pretrained
from rag_lib.gan.pretrained import pretrained_names
from rag_lib.runtime.files import load_weights, save_weights, sha256
from rag_lib.study.resolve import resolve
from rag_lib.synthetic.generate import generate, load_generator, sample

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


def test_a_pretrained_generator_takes_the_place_of_a_training_under_an_identity_of_its_own(gan, published, digits):
    settings = study.settings_for(preset="smoke", pretrained="few_digits")
    assert settings.name == "mnist5k-smoke-pretrained_few_digits"
    adopted = study.run_gan(settings, digits)
    assert adopted.id != gan.id
    assert not (adopted.folder / "history.csv").exists()
    assert {name: gan.metrics[name] for name in adopted.metrics} == adopted.metrics
    weights, stored = load_weights(adopted.folder / "generator.safetensors")[0], load_weights(published)[0]
    assert all(torch.equal(weights[name], stored[name].to(weights[name].dtype)) for name in stored)
    assert torch.equal(
        generate(load_generator(adopted.folder), 20, 0).x, generate(load_generator("few_digits"), 20, 0).x
    )
    quality = study.run_quality(settings, digits)
    assert quality.id != study.run_quality(SETTINGS, digits).id


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 1},
        {"gan_steps": 5},
        {"arms": ["original"]},
        {"replicates": 5},
        {"dataset": "mnist"},
        {"overrides": {"gan.lr": 1e-3}},
        {"overrides": {"data.n_real": 100}},
    ],
    ids=str,
)
def test_what_belongs_to_its_training_is_refused(given, published):
    message = "goes with a generator to be trained; pretrained = 'few_digits' has its own"
    with pytest.raises(UserError, match=message):
        study.settings_for(preset="smoke", pretrained="few_digits", **given)


def test_two_pretrained_generators_of_one_dataset_do_not_share_their_figures(gan, published):
    assert main(["publish", gan.id, "more_digits"]) == 0
    names = [study.settings_for(preset="smoke", pretrained=name).name for name in ("few_digits", "more_digits")]
    more = study.settings_for(preset="smoke", pretrained="more_digits", overrides={"classifiers": {"cnn": 2}})
    assert len({*names, more.name}) == 3


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
    adopted = study.run_gan(study.settings_for(preset="smoke", pretrained="few_digits"), digits)
    assert main(["export", adopted.id, str(tmp_path / "other"), "--images", "10"]) == 0
    assert adopted.id in (tmp_path / "other" / "DATASHEET.md").read_text()
    assert main(["publish", adopted.id, "again"]) == 2


def test_an_unknown_name_and_a_bad_one_are_refused_in_one_line(published, gan, capsys):
    with pytest.raises(UserError, match=r"\Apretrained = 'cats' is unknown; choose one of few_digits\Z"):
        study.settings_for(pretrained="cats")
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


def test_a_file_that_was_replaced_is_not_taken_for_the_one_before(published, digits):
    settings = study.settings_for(preset="smoke", pretrained="few_digits")
    weights, card = load_weights(published)
    save_weights(published, weights, card | {"another": 1})
    with pytest.raises(UserError, match="it was replaced by another one"):
        study.run_gan(settings, digits)


def test_the_generators_that_come_with_the_study_are_small_and_those_of_their_cards():
    assert pretrained_names()
    for name in pretrained_names():
        file = pretrained.FOLDER / f"{name}.safetensors"
        assert file.stat().st_size < 2e6
        digest = re.search(r"SHA-256 `(\w+)`", file.with_suffix(".md").read_text())[1]
        assert digest == sha256(file)


def test_the_digits_that_come_with_the_study_look_like_real_ones_of_their_classes(digits):
    """The nearest mean image of a class's real digits tells the class of most of them, as of real ones."""
    means = torch.stack([digits.train.x[digits.train.y == c].float().mean(0).flatten() for c in range(10)])
    images = generate(load_generator("mnist"), 500, seed=5)
    seen = torch.cdist(images.x.float().flatten(1), means).argmin(1)
    assert (seen == images.y).float().mean() > 0.75
