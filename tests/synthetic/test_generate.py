"""The generated set: balanced, frozen, labelled, 8-bit."""

import copy

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from helpers import train_gan
from safetensors.torch import save_file
from torch.utils.data import ConcatDataset, DataLoader

from rag_lib import study
from rag_lib.base import UserError
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
def run(digits):
    return train_gan(resolve(preset="smoke").gan, digits.train)


@pytest.fixture
def generator(run):
    return load_generator(run.folder)


def test_classes_come_in_turn(generator):
    images = generate(generator, 25, seed=0)
    assert images.x.dtype == torch.uint8
    assert images.x.shape == (25, 1, 28, 28)
    assert images.y.tolist() == [i % 10 for i in range(25)]
    assert images.classes == tuple("0123456789")


@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_an_image_depends_on_seed_and_index_alone(generator, n):
    many = generate(generator, 2 * CHUNK + 7, seed=3)
    few = generate(generator, n, seed=3)
    assert torch.equal(few.x, many.x[:n])
    assert torch.equal(few.y, many.y[:n])


def test_another_seed_gives_other_images(generator):
    assert not torch.equal(generate(generator, 10, seed=0).x, generate(generator, 10, seed=1).x)


def test_images_are_rounded_to_8_bits():
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0, 0.999, -2.0, 2.0])).tolist() == [0, 128, 255, 255, 0, 255]


def test_a_generator_is_found_by_run_name_folder_or_file(run):
    images = [
        generate(load_generator(where), 3, seed=0).x
        for where in (run.id, run.folder, str(run.folder), run.folder / "generator.safetensors")
    ]
    assert all(torch.equal(images[0], x) for x in images)


def test_a_loaded_generator_knows_its_config_and_does_not_train(generator):
    assert generator.config == resolve(preset="smoke").gan
    assert not generator.training
    assert not any(p.requires_grad for p in generator.parameters())


@pytest.mark.parametrize("name", ["gan-000000000000", "../gan-000000000000", "/", "a/b"])
def test_a_name_without_a_generator_is_refused_in_one_line(name):
    with pytest.raises(UserError) as error:
        load_generator(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("labels", ["conditional", "per_class", "pseudo"])
def test_what_is_drawn_does_not_depend_on_the_generators_mode_which_stays(labels, digits):
    """Regression: in training mode images differed by up to 254 of 255, and each draw changed batch norm for good."""
    settings = resolve(preset="smoke", overrides={"gan.labels": labels})
    generator = load_generator(study.run_gan(settings, digits).folder)

    def drawn():
        shown = [generate(generator, 3, seed=0), *attention_maps(generator, 3, seed=0)]
        return [shown[0].x, shown[0].y, *shown[1:], *latent.attention_views(generator).values()]

    before, weights = drawn(), copy.deepcopy(generator.state_dict())
    generator.train()
    batch_norm = next(m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d)).eval()
    modes = [module.training for module in generator.modules()]
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, drawn(), before))
    assert [module.training for module in generator.modules()] == modes
    assert not batch_norm.training
    assert all(torch.equal(weights[name], t) for name, t in generator.state_dict().items())


def test_attention_maps_belong_to_the_generated_images(generator):
    maps = attention_maps(generator, 4, seed=0)
    assert [tuple(s.shape) for s in maps] == [(4, 1, 4, 4), (4, 1, 7, 7), (4, 1, 14, 14)]
    assert not torch.equal(maps[0], attention_maps(generator, 4, seed=1)[0])


def test_a_file_that_is_no_generator_is_refused_in_one_line(run, tmp_path):
    foreign = tmp_path / "generator.safetensors"
    save_file({"w": torch.zeros(1)}, foreign)
    with pytest.raises(UserError, match="is no file of weights that rag_lib wrote") as error:
        load_generator(foreign)
    assert "\n" not in str(error.value)


def test_one_can_ask_for_classes(generator):
    labels = [3, 3, 7]
    images = sample(generator, labels, seed=5)
    assert (images.dtype, images.shape) == (torch.uint8, (3, 1, 28, 28))
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images, sample(generator, torch.tensor(labels), seed=5))
    assert torch.equal(images[:2], sample(generator, labels[:2], seed=5))
    assert torch.equal(sample(generator, range(10), seed=5), generate(generator, 10, seed=5).x)


def test_any_kind_of_whole_number_is_a_seed_or_a_label(generator):
    expected = sample(generator, [3], seed=3)
    for labels, seed in ((np.array([3]), np.int64(3)), (3, 3), (torch.tensor([3]), 3), ((np.uint8(3),), 3)):
        assert torch.equal(sample(generator, labels, seed), expected)
    for wrong in (None, 1.5, "3"):
        with pytest.raises(UserError, match="must be a whole number"):
            generate(generator, 3, seed=wrong)
    for wrong in (0, -3, 2.5):
        with pytest.raises(UserError, match=r"n \(images\) = "):
            GeneratedDataset(generator, wrong)
    with pytest.raises(UserError, match="labels is empty"):
        sample(generator, [])


@pytest.mark.parametrize("labels", [[10], [0, -1], ["3"], [0.5]])
def test_a_class_that_does_not_exist_is_refused_with_those_that_do(generator, labels):
    with pytest.raises(UserError, match=r"is no class of this generator; choose from 0 \(0\), 1 \(1\)"):
        sample(generator, labels)


def test_an_unconditional_generator_cannot_be_asked_for_a_class(digits):
    settings = resolve(preset="smoke", overrides={"gan.labels": "pseudo"})
    generator = load_generator(study.run_gan(settings, digits).folder)
    with pytest.raises(UserError, match=r"use generate\(\), which labels it"):
        sample(generator, [0])


def test_real_and_generated_images_reach_a_plain_loader_alike(generator, digits):
    """A real dataset as torchvision's are, joined with a generated one under the same transform."""
    transform = T.Compose([T.Resize(20), T.ToTensor(), T.Normalize(0.5, 0.5)])
    generated = GeneratedDataset(generator, 25, seed=1, transform=transform)
    real = [(transform(T.functional.to_pil_image(x)), int(y)) for x, y in zip(digits.val.x, digits.val.y, strict=True)]
    joined = ConcatDataset([real[:15], generated])
    batches = list(DataLoader(joined, batch_size=8, shuffle=True, num_workers=2))
    assert sum(len(y) for _, y in batches) == 40
    assert {x.shape[1:] for x, _ in batches} == {(1, 20, 20)}
    images = generate(generator, 25, seed=1)
    assert (generated.classes, generated.targets) == (images.classes, images.y.tolist())
    plain = GeneratedDataset(generator, 25, seed=1)
    assert torch.equal(T.functional.pil_to_tensor(plain[7][0]), images.x[7])
    assert plain[7][1] == images.y[7]
