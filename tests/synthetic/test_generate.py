"""The generated set: balanced, frozen, labelled, 8-bit."""

import copy

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from safetensors.torch import save_file

from rag_lib import study
from rag_lib.base import UserError
from rag_lib.classifiers.train import predict
from rag_lib.study.resolve import resolve
from rag_lib.synthetic import latent
from rag_lib.synthetic.generate import (
    CHUNK,
    GeneratedDataset,
    attention_maps,
    generate,
    load_generator,
    sample,
    to_uint8,
)


@pytest.fixture
def generator(gan):
    return load_generator(gan.folder)


@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_an_image_depends_on_seed_and_index_alone(generator, n):
    many, few = (generate(generator, images, seed=3) for images in (2 * CHUNK + 7, n))
    assert torch.equal(few.x, many.x[:n])
    assert torch.equal(few.y, many.y[:n])
    assert not torch.equal(few.x, generate(generator, n, seed=4).x)
    assert not torch.equal(attention_maps(generator, n, seed=3)[0], attention_maps(generator, n, seed=4)[0])


def test_images_are_rounded_to_8_bits():
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0, 0.999, -2.0, 2.0])).tolist() == [0, 128, 255, 255, 0, 255]


def test_a_generator_is_found_by_run_name_folder_or_file(gan, settings):
    for where in (gan.id, gan.folder, str(gan.folder), gan.folder / "generator.safetensors"):
        generator = load_generator(where)
        assert generator.config == settings.gan
        assert not generator.training
        assert not any(p.requires_grad for p in generator.parameters())


@pytest.mark.parametrize("labels", ["conditional", "per_class", "pseudo", "relabelled"])
def test_what_is_drawn_does_not_depend_on_the_generators_mode(labels, digits):
    """Regression: in training mode images differed by up to 254 of 255, and each draw changed batch norm for good."""
    settings = resolve(preset="smoke", overrides={"gan.labels": labels})
    generator = load_generator(study.run_gan(settings, digits).folder)

    def drawn():
        shown = [generate(generator, 3, seed=0), *attention_maps(generator, 3, seed=0)]
        return [shown[0].x, shown[0].y, *shown[1:], *latent.attention_views(generator).values()]

    before, weights = drawn(), copy.deepcopy(generator.state_dict())
    generator.train()
    next(m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d)).eval()
    modes = [module.training for module in generator.modules()]
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, drawn(), before))
    assert [module.training for module in generator.modules()] == modes
    assert all(torch.equal(weights[name], t) for name, t in generator.state_dict().items())


def test_relabelled_images_are_those_of_a_conditional_generator_as_a_classifier_sees_them(digits):
    told, relabelled = (
        load_generator(study.run_gan(resolve(preset="smoke", overrides={"gan.labels": labels}), digits).folder)
        for labels in ("conditional", "relabelled")
    )
    images, asked = generate(relabelled, 20, seed=0), generate(told, 20, seed=0)
    assert torch.equal(images.x, asked.x)
    assert torch.equal(images.x, sample(relabelled, asked.y, seed=0))
    assert torch.equal(images.y, predict(relabelled.labeller, images.x, relabelled.config.labeller))
    assert not torch.equal(images.y, asked.y)


@pytest.mark.parametrize("name", ["gan-000000000000", "../gan-000000000000", "/", "foreign.safetensors"])
def test_a_name_or_a_file_without_a_generator_is_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"w": torch.zeros(1)}, "foreign.safetensors")
    with pytest.raises(UserError, match=r"\A.*(no generator|does not exist|no file of weights that rag_lib).*\Z"):
        load_generator(name)


def test_one_can_ask_for_classes(generator):
    images = sample(generator, [3, 3, 7], seed=5)
    assert (images.dtype, images.shape) == (torch.uint8, (3, 1, 28, 28))
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[:2], sample(generator, [3, 3], seed=5))
    assert torch.equal(sample(generator, range(10), seed=5), generate(generator, 10, seed=5).x)


@pytest.mark.parametrize(
    ("labels", "seed"), [(np.array([3])[::-1], np.int64(3)), (3, 3), (torch.tensor([3]), 3), ((np.uint8(3),), 3)]
)
def test_any_kind_of_whole_number_is_a_seed_or_a_label(labels, seed, generator):
    assert torch.equal(sample(generator, labels, seed), sample(generator, [3], seed=3))


UNKNOWN = ([10], [0, -1], ["3"], [0.5], np.array(["3"]))
NO_CLASS = r"is no class of this generator; choose from 0 \(0\), 1 \(1\)"


@pytest.mark.parametrize(
    ("use", "message"),
    [
        *((lambda g, seed=seed: generate(g, 3, seed), "must be a whole number") for seed in (None, 1.5, "3")),
        *((lambda g, n=n: GeneratedDataset(g, n), rf"n \(images\) = {n}") for n in (0, -3, 2.5)),
        *((lambda g, labels=labels: sample(g, labels), NO_CLASS) for labels in UNKNOWN),
        (lambda g: sample(g, []), "labels is empty"),
    ],
)
def test_what_no_generator_can_be_asked_for_is_refused(use, message, generator):
    with pytest.raises(UserError, match=message):
        use(generator)


def test_a_generated_dataset_has_pil_images_and_the_labels_of_generate(generator):
    """test_docs.py joins one with real images in a loader, under a transform."""
    images, plain = generate(generator, 25, seed=1), GeneratedDataset(generator, 25, seed=1)
    assert (plain.classes, plain.targets) == (images.classes, images.y.tolist())
    assert torch.equal(T.functional.pil_to_tensor(plain[7][0]), images.x[7])
    assert plain[7][1] == images.y[7]
