"""The classifiers' loop, run for real at preset smoke."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers import train_classifier
from safetensors.torch import load_file

from rag_lib.base import UserError
from rag_lib.classifiers.train import confusion, load_classifier, predict
from rag_lib.runtime.tables import clean_runs
from rag_lib.study.resolve import resolve

SMOKE = replace(resolve(preset="smoke").quality.judge, precision="fp32")


@pytest.fixture
def images(digits):
    return {"train": digits.train, "val": digits.val, "test": digits.test}


def test_a_run_leaves_its_history_confusion_weights_and_accuracies(digits, images):
    run = train_classifier(SMOKE, images)
    assert list(run.history()["step"]) == list(range(1, SMOKE.steps + 1))
    counts = run.confusion().to_numpy()
    assert counts.sum() == len(digits.test)
    assert run.metrics["test_accuracy"] == pytest.approx(counts.trace() / len(digits.test))
    assert run.metrics.keys() == {"val_accuracy", "test_accuracy"}
    predicted = predict(load_classifier(run, SMOKE, 10), digits.test.x, SMOKE)
    assert float((predicted == digits.test.y).double().mean()) == pytest.approx(run.metrics["test_accuracy"])


def test_a_run_keeps_the_predictions_behind_its_accuracies_and_its_confusion(digits, images):
    run = train_classifier(SMOKE, images)
    for name, measured in (("test", digits.test), ("val", digits.val)):
        predicted = run.predictions(name)
        assert float((predicted == measured.y).double().mean()) == run.metrics[f"{name}_accuracy"]
        assert torch.equal(predicted, predict(load_classifier(run, SMOKE, 10), measured.x, SMOKE))
    pd.testing.assert_frame_equal(run.confusion(), confusion(digits.test, run.predictions("test")))
    stored = load_file(run.folder / "predictions.safetensors")
    assert {name: (len(kept), kept.dtype) for name, kept in stored.items()} == {
        "test": (len(digits.test), torch.uint8),
        "val": (len(digits.val), torch.uint8),
    }
    with pytest.raises(UserError, match="name = 'generated' is unknown; choose one of test, val"):
        run.predictions("generated")


def test_the_same_predictions_are_the_same_bytes(images, results, monkeypatch):
    first = (train_classifier(SMOKE, images).folder / "predictions.safetensors").read_bytes()
    monkeypatch.setenv("RAG_RESULTS", str(results / "again"))
    assert (train_classifier(SMOKE, images).folder / "predictions.safetensors").read_bytes() == first


def test_predictions_of_more_classes_than_a_byte_has_values_are_kept_whole(digits):
    last = replace(digits.train, y=torch.full_like(digits.train.y, 299), classes=tuple(map(str, range(300))))
    run = train_classifier(replace(SMOKE, lr=1e-2), {"train": last, "test": last[:20]})
    assert run.metrics["test_accuracy"] == 1
    assert run.predictions("test").tolist() == [299] * 20


def test_a_run_that_predates_the_record_of_predictions_stays_finished(images):
    run = train_classifier(SMOKE, images)
    (run.folder / "predictions.safetensors").unlink()
    older = train_classifier(SMOKE, {})
    assert (older.reused, older.metrics) == (True, run.metrics)
    assert clean_runs() == []
    with pytest.raises(UserError, match=f"^{run.id} predates the record of predictions; delete .*{run.id}") as e:
        older.predictions("test")
    assert "\n" not in str(e.value)


def test_numerics_guards_the_classifiers_numbers(images):
    """If this fails by intention, the numbers of every config have changed: bump `config.NUMERICS`."""
    loss = train_classifier(SMOKE, images).history()["loss"]
    assert [loss.iloc[0], loss.iloc[-1]] == pytest.approx([2.6252, 2.2706], abs=5e-3)


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
