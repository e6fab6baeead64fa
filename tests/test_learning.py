"""Whether the study learns anything: minutes, not seconds."""

import pytest

from rag_lib import study
from rag_lib.data import load
from rag_lib.paths import data_dir
from rag_lib.presets import resolve

pytestmark = pytest.mark.slow


def test_the_generator_learns_the_labels_and_classifiers_learn_from_its_images(digits):
    """A sixth of preset quick; by chance either accuracy would be 10%."""
    overrides = {"gan.steps": 400, "gan.ema": 0.98, "cnn.steps": 200, "classifiers": {"cnn": 1}}
    settings = resolve(preset="quick", overrides=overrides)
    gan = study.run_gan(settings, digits)
    assert study.run_gan_test(settings, digits, gan).metrics["gan_test_accuracy"] > 0.5
    table, _ = study.run_classifiers(settings, digits, gan)
    accuracy = table.set_index("arm")["test_accuracy"]
    assert accuracy["original"] > 93
    assert accuracy["mixed"] > 90
    assert accuracy["generated"] > 50


@pytest.mark.skipif(not (data_dir() / "cifar10-jpeg.tar.xz").exists(), reason="RAG_DATA has no cifar10-jpeg.tar.xz")
def test_colour_images_with_a_crop_go_through_the_whole_study():
    settings = resolve("cifar10_jpeg", "smoke", overrides={"classifiers": {"cnn": 1, "resnet18": 1}})
    splits = load(settings.data)
    table, _ = study.classify(settings, splits)
    assert splits.train.x.shape[1:] == (3, 32, 32)
    assert list(table["classifier"]) == ["cnn"] * 3 + ["resnet18"] * 3
    assert list(table["classifier.stem"]) == ["cifar"] * 6
