"""Whether the study learns anything: minutes, not seconds."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import train_classifier

from rag_lib import study
from rag_lib.runtime.store import Run
from rag_lib.study import arms
from rag_lib.study.arms import TRAIN_SEED
from rag_lib.study.resolve import configs, resolve

pytestmark = pytest.mark.slow


def test_the_generator_learns_labels_and_classifiers_learn_from_it():
    """A sixth of preset quick; by chance either accuracy would be 10%."""
    overrides = {"gan.steps": 400, "gan.ema": 0.98, "cnn.steps": 200, "classifiers": {"cnn": 1}}
    settings = resolve(preset="quick", overrides=overrides, arms=["original", "mixed", "generated"])
    table, quality = study.run([settings])
    assert quality["gan_test_accuracy"].item() > 50
    accuracy = table.set_index("arm")["test_accuracy"]
    assert accuracy["original"] > 93
    assert accuracy["mixed"] > 90
    assert accuracy["generated"] > 50


def test_real_images_passed_off_as_generated_are_worth_what_they_are(digits, monkeypatch):
    """The path of the arms `generated` and `mixed`, with a perfect generator: within a point of `original`."""
    one, two = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(0)).chunk(2)
    half, other = digits.train[one], digits.train[two]
    monkeypatch.setattr(arms, "synthetic", lambda generator, n, seed: other[:n] if seed == TRAIN_SEED else digits.val)
    overrides = {"classifiers": {"cnn": 1}}
    settings = resolve(preset="quick", overrides=overrides, arms=["original", "generated", "mixed"])
    accuracy = {}
    for config in configs(settings):
        images = arms.images_for(config, replace(digits, train=half), Run("gan", Path(), {}, reused=True))
        accuracy[config.arm] = train_classifier(config, images).metrics["test_accuracy"]
    assert accuracy["original"] > 0.97
    assert accuracy == pytest.approx(dict.fromkeys(accuracy, accuracy["original"]), abs=0.01)
