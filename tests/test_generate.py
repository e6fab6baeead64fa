"""The generated set: balanced, frozen, labelled, 8-bit."""

import pytest
import torch
from safetensors.torch import save_file

from rag_lib.errors import UserError
from rag_lib.generate import CHUNK, attention_maps, generate, load_generator, to_uint8
from rag_lib.presets import resolve
from rag_lib.train_gan import train_gan


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
