"""Whether the study learns anything: minutes, not seconds."""

from dataclasses import replace

import pytest

from rag_lib import jobs, study
from rag_lib.arms import arm
from rag_lib.data import load
from rag_lib.paths import data_dir
from rag_lib.presets import resolve
from rag_lib.train_classifier import train_classifier

pytestmark = pytest.mark.slow


def test_the_generator_learns_the_labels_and_classifiers_learn_from_its_images():
    """A sixth of preset quick; by chance either accuracy would be 10%."""
    overrides = {"gan.steps": 400, "gan.ema": 0.98, "cnn.steps": 200, "classifiers": {"cnn": 1}}
    settings = resolve(preset="quick", overrides=overrides, arms=["original", "mixed", "generated"])
    table, quality = study.run([settings])
    assert quality["gan_test_accuracy"].item() > 50
    accuracy = table.set_index("arm")["test_accuracy"]
    assert accuracy["original"] > 93
    assert accuracy["mixed"] > 90
    assert accuracy["generated"] > 50


@pytest.mark.skipif(not (data_dir() / "cifar10-jpeg.tar.xz").exists(), reason="RAG_DATA has no cifar10-jpeg.tar.xz")
def test_colour_images_with_a_crop_go_through_the_whole_study():
    settings = resolve(
        "cifar10_jpeg", "smoke", overrides={"classifiers": {"cnn": 1, "resnet18": 1}}, arms=["original", "mixed_add"]
    )
    table, quality = study.run([settings])
    assert load(settings.data).train.x.shape[1:] == (3, 32, 32)
    assert list(table["classifier"]) == ["cnn"] * 2 + ["resnet18"] * 2
    assert list(table["classifier.stem"]) == ["cifar"] * 4
    assert len(quality) == 1


def test_real_images_passed_off_as_generated_are_worth_what_real_ones_are(digits):
    """The whole path of the arm `generated`, with a perfect generator: within half a point of `original`."""
    settings = resolve(preset="quick", overrides={"classifiers": {"cnn": 1}}, arms=["original"])
    (config,) = jobs.configs(settings)
    images = jobs.images_for(config, digits)
    original = train_classifier(config, lambda: images)
    as_generated = replace(config, arm="generated", gan=settings.gan)
    train = arm(as_generated, digits.train, digits.train)
    passed_off = train_classifier(as_generated, lambda: images | {"train": train, "generated": digits.val})
    difference = passed_off.metrics["test_accuracy"] - original.metrics["test_accuracy"]
    assert abs(difference) <= 0.005


def test_shuffled_labels_teach_nothing(digits):
    """Nine runs of the negative control, labels of the real images permuted: at chance, whatever the images."""
    settings = resolve(preset="quick", overrides={"classifiers": {"cnn": 9}, "cnn.steps": 100})
    classifier, seeds = settings.classifiers[0]
    accuracies = []
    for seed in range(seeds):
        config = replace(classifier, arm="generated_shuffled", gan=settings.gan, seed=seed)
        images = {"test": digits.test, "val": digits.val, "train": arm(config, digits.train, digits.train)}
        accuracies.append(train_classifier(config, lambda images=images: images).metrics["test_accuracy"])
    assert sum(accuracies) / seeds < 0.2
