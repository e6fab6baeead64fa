"""Generated sets as files, and generators that come with the study: what is on disk, and what their sheets say."""

import json
import re

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from rag_lib import base, data, study
from rag_lib.cli import main
from rag_lib.runtime.files import load_weights, save_weights, sha256
from rag_lib.synthetic.export import fidelity
from rag_lib.synthetic.generate import generate, load_generator


def export(source, folder, *options: str) -> str:
    """The datasheet of a set that is exported to this folder."""
    assert main(["export", str(source), str(folder), *options]) == 0
    return (folder / "DATASHEET.md").read_text()


def test_the_exported_images_are_the_generated_ones_and_read_back(gan, tmp_path):
    folder = tmp_path / "generated"
    assert "seed of the images | 3;" in export(gan.id, folder, "--images", "40", "--seed", "3")
    images = generate(load_generator(gan.folder), 40, seed=3)
    for i in range(40):
        stored = np.array(Image.open(folder / images.classes[images.y[i]] / f"{i:06d}.png"))
        assert torch.equal(torch.from_numpy(stored), images.x[i, 0])
    assert len(torchvision.datasets.ImageFolder(folder)) == 40
    splits = data.load(study.settings_for(f"folder:{folder}", "smoke").data)
    assert sum(map(len, vars(splits).values())) == 40


@pytest.fixture
def generators(tmp_path, monkeypatch):
    """A folder of generators that come with the study."""
    monkeypatch.setattr(base, "GENERATORS", tmp_path / "generators")
    return tmp_path / "generators"


def test_sheets_say_where_images_and_published_generators_come_from(
    gan, settings, generators, tmp_path, digits, capsys
):
    """Regression: those of a published one had another file's SHA-256, and no measurement was ever found."""
    assert "not measured" in export(gan.id, tmp_path / "before", "--images", "10")
    quality = study.run_quality(settings, digits)
    sheets = {gan.folder / "generator.safetensors": [export(gan.id, tmp_path / "after", "--images", "10")]}
    assert main(["publish", gan.id, "few_digits"]) == 0
    assert {path.suffix for path in generators.iterdir()} == {".md", ".png", ".safetensors"}
    of_published = export("few_digits", tmp_path / "set", "--images", "10")
    told = [str(generators / "few_digits.md"), str(tmp_path / "set" / "DATASHEET.md")]
    assert capsys.readouterr().out.split()[-2:] == told
    card = (generators / "few_digits.md").read_text()
    assert "half precision" in card
    sheets[generators / "few_digits.safetensors"] = [of_published, card]
    measured = f"GAN-test accuracy | {100 * quality.metrics['gan_test_accuracy']:.2f}%"
    for file, texts in sheets.items():
        for expected in (gan.id, sha256(file), measured, '"attention": "spam"'):
            assert all(expected in text for text in texts)
    images, of_run = (generate(load_generator(name), 50, seed=1) for name in ("few_digits", gan.id))
    assert (images.x.int() - of_run.x.int()).abs().max() <= 1  # half precision


def with_classes(gan, file, classes: list[str]) -> str:
    """Write the generator of a run with other names of its classes; return its file's name."""
    weights, card = load_weights(gan.folder / "generator.safetensors")
    save_weights(file, weights, card | {"classes": classes})
    return str(file)


def test_the_datasheet_has_the_index_of_each_class_without_images_too(gan, tmp_path):
    """Regression: ImageFolder numbers the folders otherwise, and a class without images was in no list."""
    classes = ["T-shirt", "trouser", "a|b", *"3456789"]
    file = with_classes(gan, tmp_path / "generator.safetensors", classes)
    sheet = export(file, tmp_path / "new", "--images", "2")
    assert re.findall(r"^\| (\d) \| (.*) \| (\d) \|$", sheet, re.MULTILINE) == [
        (str(i), name.replace("|", "&#124;"), str(int(i < 2))) for i, name in enumerate(classes)
    ]


def test_a_measurement_of_another_generator_is_not_taken_for_this_ones(gan, settings, tmp_path, digits):
    """Neither one from before a setting was added is lost, nor does one of a stale run count."""
    run = study.run_quality(settings, digits)
    config, env, file = run.folder / "config.json", run.folder / "env.json", gan.folder / "generator.safetensors"
    saved, measured = json.loads(config.read_text()), env.read_text()
    del saved["gan"]["oversample"]
    config.write_text(json.dumps(saved))
    assert "%: how often" in fidelity(settings.gan, file)
    # regression: one of an earlier training with this config was taken for this one's
    env.write_text(re.sub(r'"generator": "\w{12}"', '"generator": "000000000000"', measured))
    assert "not measured" in fidelity(settings.gan, file)
    env.write_text(measured)
    other = tmp_path / "generator.safetensors"
    other.write_bytes(file.read_bytes() + b" ")
    assert "not measured" in fidelity(settings.gan, other)
    run.folder.rename(run.folder.with_name("quality-000000000000"))
    assert "not measured" in fidelity(settings.gan, file)


def test_an_interrupted_export_can_be_asked_for_again_and_leaves_no_half(gan, tmp_path, monkeypatch):
    folder = tmp_path / "generated"
    with monkeypatch.context() as patch:
        patch.setattr("rag_lib.synthetic.export.write_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["export", gan.id, str(folder), "--images", "5"]) == 130
    assert not folder.exists()
    export(gan.id, folder, "--images", "5")
    assert [p.name for p in tmp_path.glob("generated*")] == ["generated"]
    assert len(torchvision.datasets.ImageFolder(folder).classes) == 5  # no folder of a class without images


@pytest.mark.parametrize("there", [True, False], ids=["a folder", "nothing"])
def test_a_link_leads_to_where_the_images_go(gan, tmp_path, there):
    if there:
        (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    export(gan.id, tmp_path / "link", "--images", "5")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "results") == ["link", "target"]
    assert (tmp_path / "target" / "DATASHEET.md").exists()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", ".."])
def test_a_foreign_file_cannot_write_outside_the_folder(gan, tmp_path, name, capsys):
    file = with_classes(gan, tmp_path / "generator.safetensors", [name, *"123456789"])
    assert main(["export", file, str(tmp_path / "new")]) == 2
    assert f"has a class {name!r}, which is no name of a folder" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "gan-000000000000", "new"], "has no generator.safetensors"),
        (["export", "GAN", "../full"], "full exists and is no empty folder; name one that is new"),
        (["export", "GAN", "../full/mine.txt"], "mine.txt exists and is no empty folder"),
        (["export", "GAN", "."], "is the folder that you are in; name one that is new"),
        (["export", "GAN", "../full/mine.txt/new"], "cannot be made: Not a directory"),
        (["export", "GAN", "new", "--images", "0"], "--images = 0 is out of range; it must be at least 1"),
        (["publish", "GAN", "../digits"], "'../digits' must be new, and of lower-case letters"),
        (["publish", "GAN", "few_digits"], "'few_digits' must be new"),
        (["publish", "GAN", "digits"], "must be at most 0.00 MB"),
        (["publish", "gan-000000000000", "digits"], "these come with the study: few_digits"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_all_as_it_was(
    arguments, message, gan, generators, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("rag_lib.synthetic.publish.MAX_BYTES", 1_000)
    for path in (tmp_path / "full" / "mine.txt", generators / "few_digits.safetensors"):
        path.parent.mkdir()
        path.write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    assert main([gan.id if argument == "GAN" else argument for argument in arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (generators / "few_digits.safetensors").read_text() == "mine"


def test_the_generators_of_the_study_are_small_and_those_of_their_cards():
    assert base.pretrained_names()
    for name in base.pretrained_names():
        file = base.pretrained_file(name)
        assert file.stat().st_size < 2e6
        assert f"SHA-256 `{sha256(file)}`" in file.with_suffix(".md").read_text()


def test_the_digits_of_the_study_look_like_real_ones_of_their_classes(digits):
    """The nearest mean image of a class's real digits tells the class of most of them, as of real ones."""
    means = torch.stack([digits.train.x[digits.train.y == c].float().mean(0).flatten() for c in range(10)])
    images = generate(load_generator("mnist"), 500, seed=5)
    seen = torch.cdist(images.x.float().flatten(1), means).argmin(1)
    assert (seen == images.y).float().mean() > 0.75
