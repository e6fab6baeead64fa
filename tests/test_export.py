"""A generated set as files: what is on disk is what `generate` gives, and what the datasheet says."""

import hashlib

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from rag_lib import data, study
from rag_lib.__main__ import main
from rag_lib.generate import generate, load_generator
from rag_lib.presets import resolve

SETTINGS = resolve(preset="smoke")


@pytest.fixture
def gan(digits):
    return study.run_gan(SETTINGS, digits)


def test_the_exported_images_are_the_generated_ones_and_read_back_as_a_folder(gan, tmp_path, capsys):
    folder = tmp_path / "generated"
    assert main(["export", gan.id, str(folder), "--images", "25", "--seed", "3"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "DATASHEET.md")
    images = generate(load_generator(gan.folder), 25, seed=3)
    for i in range(25):
        stored = np.array(Image.open(folder / images.classes[images.y[i]] / f"{i:06d}.png"))
        assert torch.equal(torch.from_numpy(stored), images.x[i, 0])
    assert len(torchvision.datasets.ImageFolder(folder)) == 25
    again = tmp_path / "more"
    assert main(["export", str(gan.folder / "generator.safetensors"), str(again), "--images", "40"]) == 0
    splits = data.load(study.settings_for(f"folder:{again}", "smoke").data)
    assert sum(map(len, vars(splits).values())) == 40


def test_the_datasheet_says_where_the_images_come_from(gan, tmp_path, digits):
    sheet = tmp_path / "before" / "DATASHEET.md"
    assert main(["export", gan.id, str(sheet.parent), "--images", "10"]) == 0
    assert "not measured" in sheet.read_text()
    quality = study.run_quality(SETTINGS, digits, gan)
    sheet = tmp_path / "after" / "DATASHEET.md"
    assert main(["export", gan.id, str(sheet.parent), "--images", "10"]) == 0
    text = sheet.read_text()
    digest = hashlib.sha256((gan.folder / "generator.safetensors").read_bytes()).hexdigest()
    measured = f"GAN-test accuracy | {100 * quality.metrics['gan_test_accuracy']:.2f}%"
    for expected in (gan.id, digest, measured, "seed of the images | 0;", '"attention": "spam"', "0 1, 1 1, 2 1"):
        assert expected in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gan-000000000000", "new"], "has no generator.safetensors"),
        (["GAN", "full"], "full exists and is not empty; name a folder that is new"),
        (["GAN", "new", "--images", "0"], "--images 0 must be at least 1"),
    ],
)
def test_a_wrong_export_is_refused_in_one_line_and_writes_nothing(
    arguments, message, gan, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert main(["export", *(gan.id if a == "GAN" else a for a in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
