"""The measures of quality: what real images get, what noise and a collapsed generator get, and by hand."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from rag_lib import study
from rag_lib.classifiers.train import load_classifier
from rag_lib.data.images import Images, stratified_split
from rag_lib.data.preprocess import preprocess
from rag_lib.study.resolve import resolve
from rag_lib.synthetic.quality import centre_spread, distances, features, look, memorisation, neighbourhoods

# a minute's training is not needed for features that tell digits from noise
SETTINGS = resolve(preset="smoke", overrides={"cnn.steps": 60, "cnn.lr": 5e-3, "classifier.batch_size": 64})
JUDGE = SETTINGS.quality.judge


@pytest.fixture(scope="module")
def judge(digits, tmp_path_factory):
    """A judge's run and network, the function that computes features, and those of 300 train and 300 val images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_RESULTS", str(tmp_path_factory.mktemp("judge")))
        patch.setenv("RAG_DEVICE", "cpu")
        run = study.run_judge(SETTINGS, digits)
        model = load_classifier(run, JUDGE)
    of = partial(features, model, config=JUDGE)
    train, val = (of(i.x[stratified_split(i.y, (300,), seed=0)[0]]) for i in (digits.train, digits.val))
    return SimpleNamespace(run=run, model=model, features=of, train=train, val=val)


def test_unseen_real_images_score_near_perfect_and_a_set_itself_perfectly(judge):
    found, same = (distances(judge.train, other) for other in (judge.val, judge.train))
    assert same["frechet_distance"] == pytest.approx(0, abs=1e-2)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    assert min(found["precision"], found["recall"], found["coverage"]) > 0.85
    assert 0.75 < found["density"] < 1.3


@pytest.mark.parametrize("kind", ["noise", "collapse"])
def test_noise_and_a_collapsed_generator_score_terribly(kind, judge, digits):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (300, 1, 28, 28), generator=generator, dtype=torch.uint8)
    bad = judge.features(noise) if kind == "noise" else judge.features(digits.val.x[:1]).repeat(300, 1)
    of_bad, of_real = (distances(judge.train, other) for other in (bad, judge.val))
    assert of_bad["frechet_distance"] > 10 * of_real["frechet_distance"]
    assert of_bad["kernel_distance"] > 10 * abs(of_real["kernel_distance"])
    assert max(of_bad["recall"], of_bad["coverage"]) < 0.1


def test_the_spread_of_centres_is_in_pixels(digits):
    """One digit, a row up, in place and a row down: a deviation of 1 in the rows, of 0 in the columns."""
    one = digits.val.x[:1]
    moved = Images(torch.cat([one.roll(i, 2) for i in (-1, 0, 1)]), torch.zeros(3).long(), ("digit",))
    assert centre_spread(moved) == pytest.approx(0.5**0.5, abs=1e-4)


def test_neighbourhoods_computed_by_hand():
    """On a line, k = 1: each real point reaches its neighbour; two of four others lie within reach of a real one."""
    real, other = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [2.0], [20.0], [30.0]])
    found = neighbourhoods(real, other, k=1)
    # reaches of the real ones: 1, 1, 2, 4; 0.5 is within 0's and 1's, 2.0 within 1's and 3's (and not 7's)
    assert found == {"precision": 0.5, "recall": 0.75, "density": 1.0, "coverage": 0.75}


def test_copies_are_found_and_unseen_images_are_not(judge):
    labels = torch.arange(100) % 10
    copies, pairs = memorisation(judge.train, judge.val, judge.train[50:150], labels)
    assert (copies["duplicate_rate"], copies["nearest_generated"]) == (1, 0)
    assert pairs["train"].tolist() == [50 + i for i in pairs["generated"]]
    assert [int(labels[i]) for i in pairs["generated"]] == list(range(10))
    unseen, _ = memorisation(judge.train, judge.val[:150], judge.val[150:], torch.arange(150) % 10)
    assert unseen["duplicate_rate"] < 0.1
    # the first percentile of 150 distances lies 1.49 of 151 equally likely places from the smallest
    assert unseen["duplicate_rate_unseen"] == pytest.approx((0.01 * 149 + 1) / 151)


def test_features_are_what_the_last_layer_sees(judge, digits):
    found = judge.features(digits.val.x[:5])
    assert found.shape == (5, 128)
    logits = judge.model(preprocess(digits.val.x[:5], JUDGE.data))
    torch.testing.assert_close(judge.model[-1](found), logits, rtol=1e-4, atol=1e-4)


def test_the_judge_is_sure_of_true_labels_and_finds_an_image_itself(judge, digits):
    images = digits.train[:200]
    looked = look(judge.run, JUDGE, images, digits.train)
    assert looked["nearest"].tolist() == list(range(200))
    assert looked["asked"].tolist() == images.y.tolist()
    assert (looked["asked"] == looked["seen"]).mean() > 0.7
    wrong = look(judge.run, JUDGE, replace(images, y=(images.y + 1) % 10), digits.train)
    assert looked["confidence"].mean() > 0.5 > 0.2 > wrong["confidence"].mean()
    assert looked["confidence"].between(0, 1).all()
