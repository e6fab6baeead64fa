"""A generated set as files: what is on disk is what `generate` gives, and what the datasheet says."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from rag_lib import data, study
from rag_lib.cli import main
from rag_lib.runtime.files import load_weights, save_weights
from rag_lib.study.resolve import resolve
from rag_lib.synthetic.export import fidelity
from rag_lib.synthetic.generate import generate, load_generator

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
    quality = study.run_quality(SETTINGS, digits)
    sheet = tmp_path / "after" / "DATASHEET.md"
    assert main(["export", gan.id, str(sheet.parent), "--images", "10"]) == 0
    text = sheet.read_text()
    digest = hashlib.sha256((gan.folder / "generator.safetensors").read_bytes()).hexdigest()
    measured = f"GAN-test accuracy | {100 * quality.metrics['gan_test_accuracy']:.2f}%"
    for expected in (gan.id, digest, measured, "seed of the images | 0;", '"attention": "spam"', "| 9 | 9 | 1 |"):
        assert expected in text


def test_the_datasheet_has_the_index_of_each_class_of_those_without_images_too(gan, tmp_path):
    """Regression: ImageFolder numbers the folders otherwise, and a class without images was in no list."""
    weights, card = load_weights(gan.folder / "generator.safetensors")
    classes = ["T-shirt", "trouser", "a|b", *"3456789"]
    save_weights(tmp_path / "generator.safetensors", weights, card | {"classes": classes})
    assert main(["export", str(tmp_path / "generator.safetensors"), str(tmp_path / "new"), "--images", "2"]) == 0
    sheet = (tmp_path / "new" / "DATASHEET.md").read_text()
    assert re.findall(r"^\| (\d) \| (.*) \| (\d) \|$", sheet, re.MULTILINE) == [
        (str(i), name.replace("|", "&#124;"), str(int(i < 2))) for i, name in enumerate(classes)
    ]


def test_a_measurement_of_another_generator_is_not_taken_for_this_ones(gan, tmp_path, digits):
    """Neither one from before a setting was added is lost, nor does one of a stale run count."""
    run = study.run_quality(SETTINGS, digits)
    config = run.folder / "config.json"
    saved = json.loads(config.read_text())
    del saved["gan"]["oversample"]
    config.write_text(json.dumps(saved))
    file = gan.folder / "generator.safetensors"
    assert "%: how often" in fidelity(SETTINGS.gan, file)
    run.folder.rename(run.folder.with_name("quality-000000000000"))
    assert "not measured" in fidelity(SETTINGS.gan, file)
    run.folder.with_name("quality-000000000000").rename(run.folder)
    env = run.folder / "env.json"  # regression: one of an earlier training with this config was taken for this one's
    measured = env.read_text()
    env.write_text(re.sub(r'"generator": "\w{12}"', '"generator": "000000000000"', measured))
    assert "not measured" in fidelity(SETTINGS.gan, file)
    env.write_text(measured)
    other = tmp_path / "generator.safetensors"
    other.write_bytes(file.read_bytes() + b" ")
    assert "not measured" in fidelity(SETTINGS.gan, other)


def test_an_interrupted_export_can_be_asked_for_again_and_leaves_no_half_set(gan, tmp_path, monkeypatch):
    folder = tmp_path / "generated"
    with monkeypatch.context() as patch:
        patch.setattr("rag_lib.synthetic.export.write_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["export", gan.id, str(folder), "--images", "5"]) == 130
    assert not folder.exists()
    assert main(["export", gan.id, str(folder), "--images", "5"]) == 0
    assert [p.name for p in tmp_path.glob("generated*")] == ["generated"]
    assert len(torchvision.datasets.ImageFolder(folder).classes) == 5  # no folder of a class without images


@pytest.mark.parametrize("there", [True, False], ids=["a folder", "nothing"])
def test_a_link_leads_to_where_the_images_go(gan, tmp_path, there):
    if there:
        (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert main(["export", gan.id, str(tmp_path / "link"), "--images", "5"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "results") == ["link", "target"]
    assert (tmp_path / "target" / "DATASHEET.md").exists()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "..", "a/b"])
def test_a_foreign_file_cannot_write_outside_the_folder(gan, tmp_path, name, capsys):
    weights, card = load_weights(gan.folder / "generator.safetensors")
    foreign = tmp_path / "generator.safetensors"
    save_weights(foreign, weights, card | {"classes": [name, *card["classes"][1:]]})
    assert main(["export", str(foreign), str(tmp_path / "new")]) == 2
    assert f"has a class {name!r}, which is no name of a folder" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gan-000000000000", "new"], "has no generator.safetensors"),
        (["GAN", "full"], "full exists and is no empty folder; name one that is new"),
        (["GAN", "full/mine.txt"], "mine.txt exists and is no empty folder"),
        (["GAN", "."], "is the folder that you are in; name one that is new"),
        (["GAN", "full/mine.txt/new"], "cannot be made: Not a directory"),
        (["GAN", "new", "--images", "0"], "--images = 0 is out of range; it must be at least 1"),
    ],
)
def test_a_wrong_export_is_refused_in_one_line_and_writes_nothing(
    arguments, message, gan, tmp_path, monkeypatch, capsys
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if "." in arguments else tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert main(["export", *(gan.id if a == "GAN" else a for a in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
