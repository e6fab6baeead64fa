"""The classifiers' loop, run for real at preset smoke."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers import train_classifier
from safetensors.torch import load_file

from rag_lib.classifiers import train as classifiers
from rag_lib.classifiers.train import confusion, load_classifier, predict
from rag_lib.runtime.optim import adam
from rag_lib.settings.config import ClassifierConfig, GanConfig
from rag_lib.study.conduct import milestones
from rag_lib.study.resolve import resolve

SMOKE = replace(resolve(preset="smoke").quality.judge, precision="fp32")


@pytest.fixture
def images(digits):
    return {"train": digits.train, "val": digits.val, "test": digits.test}


def test_a_run_keeps_the_predictions_behind_its_accuracies_and_confusion(digits, images):
    run = train_classifier(SMOKE, images)
    assert list(run.history()["step"]) == list(range(1, SMOKE.steps + 1))
    stored = load_file(run.folder / "predictions.safetensors")
    assert run.metrics.keys() == {"val_accuracy", "test_accuracy"}
    assert stored.keys() == {"val", "test"}
    for name, kept in stored.items():
        assert (kept.dtype, len(kept)) == (torch.uint8, len(images[name]))
        assert float((kept == images[name].y).double().mean()) == run.metrics[f"{name}_accuracy"]
        assert torch.equal(kept, predict(load_classifier(run, SMOKE, 10), images[name].x, SMOKE))
    pd.testing.assert_frame_equal(run.confusion(), confusion(digits.test, stored["test"].long()))


def test_predictions_of_more_classes_than_a_byte_has_values_are_kept_whole(digits):
    last = replace(digits.train, y=torch.full_like(digits.train.y, 299), classes=tuple(map(str, range(300))))
    run = train_classifier(replace(SMOKE, lr=1e-2), {"train": last, "test": last[:20]})
    assert run.metrics["test_accuracy"] == 1
    assert load_file(run.folder / "predictions.safetensors")["test"].tolist() == [299] * 20


def test_a_look_at_a_milestone_is_what_a_shorter_training_gives_and_changes_nothing(images, monkeypatch, results):
    unwatched = train_classifier(SMOKE, images)
    shorter = train_classifier(replace(SMOKE, steps=4), images)
    monkeypatch.setenv("RAG_RESULTS", str(results / "watched"))
    monkeypatch.setattr(classifiers, "MILESTONES", (4, 8))
    run = train_classifier(SMOKE, images)
    for name in ("classifier.safetensors", "predictions.safetensors", "metrics.json"):
        assert (run.folder / name).read_bytes() == (unwatched.folder / name).read_bytes()
    reached = milestones(run)
    assert list(reached["step"]) == [4, 8]
    for name in ("val_accuracy", "test_accuracy"):
        assert list(reached[name]) == pytest.approx([100 * r.metrics[name] for r in (shorter, run)], abs=1e-4)
    assert milestones(unwatched).empty


@pytest.mark.parametrize("config", [GanConfig(), ClassifierConfig()], ids=["GAN", "classifier"])
def test_the_recipe_is_trained_by_adam_with_its_rate_and_l2(config):
    optimizer = adam(torch.nn.Linear(2, 2), config)
    assert type(optimizer) is torch.optim.Adam
    assert {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {(1e-4, 1e-4)}


def test_numerics_guards_the_classifiers_numbers(images):
    """If this fails by intention, the numbers of every config have changed: bump `config.NUMERICS`."""
    loss = train_classifier(SMOKE, images).history()["loss"]
    assert [loss.iloc[0], loss.iloc[-1]] == pytest.approx([2.6252, 2.2706], abs=5e-3)
    assert train_classifier(replace(SMOKE, seed=1), images).history()["loss"].iloc[0] != loss.iloc[0]


def test_confusion_counts_true_against_predicted(digits):
    three = replace(digits.test[:4], y=torch.tensor([0, 0, 1, 2]), classes=("a", "b", "c"))
    counts = confusion(three, torch.tensor([0, 1, 1, 0]))
    assert counts.T.to_dict("list") == {"a": [1, 1, 0], "b": [0, 1, 0], "c": [1, 0, 0]}
