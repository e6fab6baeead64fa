"""The classifiers' loop, run for real at preset smoke."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from rag_lib.errors import UserError
from rag_lib.presets import resolve
from rag_lib.train_classifier import confusion, load_classifier, predict, train_classifier

SMOKE = replace(resolve(preset="smoke").quality.judge, precision="fp32")


@pytest.fixture
def images(digits):
    return lambda: {"train": digits.train, "val": digits.val, "test": digits.test}


def test_a_run_leaves_its_history_confusion_weights_and_accuracies(digits, images):
    run = train_classifier(SMOKE, images)
    assert list(run.history()["step"]) == list(range(1, SMOKE.steps + 1))
    counts = run.confusion().to_numpy()
    assert counts.sum() == len(digits.test)
    assert run.metrics["test_accuracy"] == pytest.approx(counts.trace() / len(digits.test))
    assert run.metrics.keys() == {"val_accuracy", "test_accuracy"}
    predicted = predict(load_classifier(run, SMOKE, 10), digits.test.x, SMOKE)
    assert float((predicted == digits.test.y).double().mean()) == pytest.approx(run.metrics["test_accuracy"])


def test_numerics_guards_the_classifiers_numbers(images):
    """If this fails by intention, the numbers of every config have changed: bump `config.NUMERICS`."""
    loss = train_classifier(SMOKE, images).history()["loss"]
    assert [loss.iloc[0], loss.iloc[-1]] == pytest.approx([2.6252, 2.2706], abs=5e-3)


def test_images_are_asked_for_only_where_the_run_has_to_be_computed(images):
    train_classifier(SMOKE, images)
    assert train_classifier(SMOKE, lambda: pytest.fail("asked for")).reused


def test_the_same_config_gives_the_same_weights_and_another_seed_does_not(images, results, monkeypatch):
    def weights(config):
        return load_file(train_classifier(config, images).folder / "classifier.safetensors")

    first = weights(SMOKE)
    monkeypatch.setenv("RAG_RESULTS", str(results / "again"))
    assert all(torch.equal(value, first[name]) for name, value in weights(SMOKE).items())
    assert not torch.equal(weights(replace(SMOKE, seed=1))["0.weight"], first["0.weight"])


def test_a_loss_that_is_not_finite_stops_the_run(images, results):
    with pytest.raises(UserError, match="loss = nan at step 2, the training has diverged"):
        train_classifier(replace(SMOKE, lr=1e30, steps=50), images)
    assert not list(results.rglob("metrics.json"))


def test_confusion_counts_true_against_predicted(digits):
    two = replace(digits.test[:4], y=torch.tensor([0, 0, 1, 2]))
    counts = confusion(two, torch.tensor([0, 1, 1, 0]))
    assert counts.loc["0"].tolist()[:3] == [1, 1, 0]
    assert counts.loc["1"].tolist()[:3] == [0, 1, 0]
    assert counts.loc["2"].tolist()[:3] == [1, 0, 0]
