"""The measures of quality: what real images get, what noise and a collapsed generator get, and by hand."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from rag_lib import study
from rag_lib.classifiers.train import load_classifier
from rag_lib.data.images import stratified_split
from rag_lib.data.preprocess import preprocess
from rag_lib.study.resolve import resolve
from rag_lib.synthetic.quality import distances, features, look, memorisation, neighbourhoods

# a minute's training is not needed for features that tell digits from noise
SETTINGS = resolve(preset="smoke", overrides={"cnn.steps": 60, "cnn.lr": 5e-3, "classifier.batch_size": 64})


@pytest.fixture(scope="module")
def judged(digits, tmp_path_factory):
    """Features of 300 train and 300 val images, and the function that computes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_RESULTS", str(tmp_path_factory.mktemp("judge")))
        judge = SETTINGS.quality.judge
        run = study.run_judge(SETTINGS, digits)
        model = load_classifier(run, judge, 10)
    some, others = (stratified_split(images.y, (300,), seed=0)[0] for images in (digits.train, digits.val))
    of = partial(features, model, config=judge)
    return of(digits.train.x[some]), of(digits.val.x[others]), of


def test_unseen_real_images_score_near_perfect(judged):
    train, val, _ = judged
    found = distances(train, val)
    assert found["precision"] > 0.85
    assert found["recall"] > 0.85
    assert found["coverage"] > 0.85
    assert 0.75 < found["density"] < 1.3


@pytest.mark.parametrize("kind", ["noise", "collapse"])
def test_noise_and_a_collapsed_generator_score_terribly(kind, judged, digits):
    train, val, of = judged
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (300, 1, 28, 28), generator=generator, dtype=torch.uint8)
    bad = distances(train, of(noise) if kind == "noise" else of(digits.val.x[:1]).repeat(300, 1))
    real = distances(train, val)
    assert bad["frechet_distance"] > 10 * real["frechet_distance"]
    assert bad["kernel_distance"] > 10 * abs(real["kernel_distance"])
    assert bad["recall"] < 0.1
    assert bad["coverage"] < 0.1


def test_the_distance_of_a_set_to_itself_is_nil(judged):
    train, _, _ = judged
    found = distances(train, train)
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-2)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)


def test_neighbourhoods_computed_by_hand():
    """On a line, k = 1: each real point reaches its neighbour; two of four others lie within reach of a real one."""
    real, other = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [2.0], [20.0], [30.0]])
    found = neighbourhoods(real, other, k=1)
    # reaches of the real ones: 1, 1, 2, 4; 0.5 is within 0's and 1's, 2.0 within 1's and 3's (and not 7's)
    assert found == {"precision": 0.5, "recall": 0.75, "density": 1.0, "coverage": 0.75}


def test_copies_are_found_and_unseen_images_are_not(judged):
    train, val, _ = judged
    labels = torch.arange(100) % 10
    copies, pairs = memorisation(train, val, train[50:150], labels)
    assert copies["duplicate_rate"] == 1
    assert copies["nearest_generated"] == 0
    assert pairs["train"].tolist() == [50 + i for i in pairs["generated"]]
    assert [int(labels[i]) for i in pairs["generated"]] == list(range(10))
    unseen, _ = memorisation(train, val[:150], val[150:], torch.arange(150) % 10)
    assert unseen["duplicate_rate"] < 0.1


def test_features_are_what_the_last_layer_sees(digits, results):
    judge = SETTINGS.quality.judge
    model = load_classifier(study.run_judge(SETTINGS, digits), judge, 10)
    found = features(model, digits.val.x[:5], judge)
    assert found.shape == (5, 128)
    x = preprocess(digits.val.x[:5], judge.data)
    torch.testing.assert_close(model[-1](found), model(x), rtol=1e-4, atol=1e-4)


def test_the_judge_is_sure_of_true_labels_and_finds_an_image_among_its_own_kind(digits):
    judge = SETTINGS.quality.judge
    run = study.run_judge(SETTINGS, digits)
    images = digits.train[:200]
    looked = look(run, judge, images, digits.train)
    assert looked["nearest"].tolist() == list(range(200))  # itself
    assert looked["asked"].tolist() == images.y.tolist()
    assert (looked["asked"] == looked["seen"]).mean() > 0.7
    wrong = look(run, judge, replace(images, y=(images.y + 1) % 10), digits.train)
    assert looked["confidence"].mean() > 0.5 > 0.2 > wrong["confidence"].mean()
    assert looked["confidence"].between(0, 1).all()
