from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from rag_lib.data.preprocess import draw_preprocessing
from rag_lib.data.preprocess import preprocess as preprocess_drawn
from rag_lib.gan.losses import diff_augment, draw_augmentation
from rag_lib.settings.config import DataConfig

STORED = 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def preprocess(x: torch.Tensor, cfg: DataConfig, generator: torch.Generator | None = None) -> torch.Tensor:
    """With a generator as in training, without one as in the test."""
    drawn = {} if generator is None else draw_preprocessing(len(x), cfg, generator)
    return preprocess_drawn(x, cfg, **drawn)


def noise(n: int, channels: int = 1, size: int = 28, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, channels, size, size), dtype=np.uint8))


def repeated(image: np.ndarray, n: int) -> torch.Tensor:
    """`n` copies of one grey image."""
    return torch.from_numpy(image.round().astype(np.uint8)).expand(n, 1, -1, -1)


def config(stored: int = 28, size: int = 28, rotation: float = 10.0, contrast: bool = False, channels: int = 1):
    return DataConfig(stored_size=stored, size=size, rotation=rotation, contrast=contrast, channels=channels)


def crops_and_angles(cfg: DataConfig, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What happens to each of `n` images, seen from outside: the crop's centre (row, column) and the angle.

    Two pictures go through with the same random numbers: a spot 6 pixels left of the centre and one 6
    pixels right of it. Where they arrive gives the angle (degrees, against the clock) and the shift.
    """
    row, column = np.indices((cfg.stored_size, cfg.stored_size)) - (cfg.stored_size - 1) / 2
    arrived = []
    for at in (-6, 6):
        spot = 255 * np.exp(-(row**2 + (column - at) ** 2) / (2 * 1.8**2))
        weight = preprocess(repeated(spot, n), cfg, seeded(seed)).numpy()[:, 0] + 1
        weight = weight / weight.sum((1, 2), keepdims=True)
        where = np.indices((cfg.size, cfg.size)) - (cfg.size - 1) / 2
        arrived.append((weight[:, None] * where).sum((2, 3)))
    down, right = (arrived[1] - arrived[0]).T
    angle = np.arctan2(-down, right)
    down, right = (arrived[1] + arrived[0]).T / 2  # where the stored image's centre has arrived
    back = np.stack([np.sin(angle) * right + np.cos(angle) * down, np.cos(angle) * right - np.sin(angle) * down], 1)
    return (cfg.stored_size - 1) / 2 - back, np.degrees(angle)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("stored", "size", "start", "rotation", "training"),
    [(28, 28, 0, 90.0, False), (32, 28, 2, 90.0, False), (32, 32, 0, 90.0, False), (28, 28, 0, 0.0, True)],
)
def test_without_randomness_the_centre_is_cut_out(stored, size, start, rotation, training, channels):
    x = noise(5, channels, stored)
    out = preprocess(x, config(stored, size, rotation, channels=channels), seeded() if training else None)
    expected = x.numpy()[:, :, start : start + size, start : start + size] / 127.5 - 1
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("degrees", [10.0, 45.0])
def test_angles_are_drawn_per_image_uniformly_within_the_bounds(degrees):
    _, angles = crops_and_angles(config(rotation=degrees), 2_000, seed=0)
    assert np.abs(angles).max() <= degrees + 0.05
    tenths = np.histogram(angles, bins=10, range=(-degrees, degrees))[0]
    assert tenths.min() > 150  # 200 expected, with a standard deviation of 13
    assert tenths.max() < 250


@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_each_crop_is_another_and_turns_about_its_own_centre(degrees):
    centres, _ = crops_and_angles(config(STORED, rotation=degrees), 300, seed=1)
    offsets = centres - 13.5  # of the centre of 28 pixels, counted from 0
    np.testing.assert_allclose(offsets, offsets.round(), atol=0.1)
    assert set(map(tuple, offsets.round().astype(int).tolist())) == {(i, j) for i in range(5) for j in range(5)}


@pytest.mark.parametrize("degrees", [20.0, 45.0])
def test_crop_and_rotation_together_agree_with_pillows(degrees):
    cfg, n = config(STORED, rotation=degrees), 24
    centres, angles = crops_and_angles(cfg, n, seed=3)
    # without symmetry and without detail, so that every good way of resampling gives the same
    row, column = np.indices((STORED, STORED))
    image = 127 + 60 * np.sin(row / 4) + 60 * np.cos(column / 5 + row / 9)
    out = preprocess(repeated(image, n), cfg, seeded(3)).numpy()[:, 0]
    row, column = np.indices((28, 28)) - 13.5
    inside = np.hypot(row, column) < 11  # never beyond the stored image
    for seen, (y, x), angle in zip(out, centres.round(1), angles, strict=True):
        turned = Image.fromarray(image.astype(np.float32)).rotate(
            angle, Image.Resampling.BICUBIC, center=(x + 0.5, y + 0.5)
        )
        top, left = round(y - 13.5), round(x - 13.5)
        expected = np.asarray(turned)[top : top + 28, left : left + 28] / 127.5 - 1
        np.testing.assert_allclose(seen[inside], expected[inside], atol=0.03)


def test_corners_show_the_stored_image_and_beyond_it_its_reflection():
    plain = preprocess(repeated(np.full((28, 28), 200.0), 64), config(rotation=45.0), seeded()).numpy()
    np.testing.assert_allclose(plain, 200 / 127.5 - 1, atol=1e-5)  # no black corners
    framed = np.full((STORED, STORED), 255.0)
    framed[2:-2, 2:-2] = 0  # only what lies outside the centre crop is white
    out = preprocess(repeated(framed, 64), config(STORED, rotation=10.0), seeded()).numpy()[:, 0]
    assert out[:, [0, 0, -1, -1], [0, -1, 0, -1]].max() > 0.9


def test_all_channels_turn_and_move_alike():
    out = preprocess(noise(16, 1, STORED).expand(-1, 3, -1, -1), config(STORED, channels=3), seeded())
    assert torch.equal(out[:, :1].expand(-1, 3, -1, -1), out)


@pytest.mark.parametrize("stored", [28, STORED])
def test_images_depend_on_their_generator_alone(stored):
    x, generator, before = noise(8, 1, stored), seeded(7), torch.get_rng_state()
    first, second = (preprocess(x, config(stored), generator) for _ in range(2))
    assert (first != second).flatten(1).any(1).all()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(preprocess(x, config(stored), seeded(7)), first)


def test_mirroring_mirrors_about_half_of_the_images_and_only_in_training():
    config = DataConfig(channels=1, rotation=0.0, contrast=False, flip=True)
    x = torch.arange(28, dtype=torch.uint8).expand(200, 1, 28, 28).contiguous()
    seen, plain = preprocess(x, config, seeded()), preprocess(x, replace(config, flip=False))
    mirrored = seen[:, 0, 0, 0] > seen[:, 0, 0, 1]
    assert 70 < mirrored.sum() < 130
    torch.testing.assert_close(seen[mirrored].flip(-1), plain[mirrored])
    assert torch.equal(preprocess(x, config), plain)


def test_a_shift_moves_by_whole_pixels_and_goes_on_by_reflection():
    x = torch.zeros(100, 1, 28, 28, dtype=torch.uint8)
    x[:, :, 10, 10] = 255
    x[:, :, :, -3:] = 100
    seen = preprocess(x, DataConfig(rotation=0.0, contrast=False, translation=2), seeded())
    peaks = {(int(i) // 28, int(i) % 28) for i in seen.flatten(1).argmax(1)}
    assert peaks <= {(r, c) for r in range(8, 13) for c in range(8, 13)}
    assert len(peaks) > 15
    torch.testing.assert_close(seen.amax((1, 2, 3)), torch.ones(100), rtol=0, atol=1e-3)
    torch.testing.assert_close(seen[:, 0, 20, -1], torch.full((100,), 100 / 127.5 - 1), rtol=0, atol=1e-3)


def test_contrast_is_stretched_by_image_over_all_channels_alike():
    plain = torch.zeros(2, 3, 28, 28, dtype=torch.uint8)
    plain[0, 0], plain[0, 1], plain[0, 2] = 20, 70, 120  # a colour stays one
    plain[1, :, :, :9], plain[1, :, :, 9:18], plain[1, :, :, 18:] = 150, 200, 250
    out = preprocess(plain, config(contrast=True, channels=3)).numpy()
    np.testing.assert_allclose(out[0, :, 5, 5], [-1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(out[1, 0, 5, [5, 14, 20]], [-1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("value", [0, 1, 37, 128, 200, 255])
@pytest.mark.parametrize("stored", [28, STORED])
def test_an_image_of_one_value_stays_as_it_is(stored, value, training):
    x = repeated(np.full((stored, stored), value), 64)
    out = preprocess(x, config(stored, contrast=True), seeded() if training else None)
    np.testing.assert_allclose(out.numpy(), value / 127.5 - 1, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("stored", "size"), [(28, 28), (32, 28), (32, 32)])
def test_the_output_is_float32_between_minus_one_and_one(stored, size, channels, contrast, training):
    x = noise(16, channels, stored)
    x[:, :, ::2] = 255 * (x[:, :, ::2] > 127)  # hard edges, where resampling may overshoot
    kept = x.clone()
    out = preprocess(x, config(stored, size, 10.0, contrast, channels), seeded() if training else None)
    assert (out.dtype, out.shape) == (torch.float32, (16, channels, size, size))
    assert out.min() >= -1
    assert out.max() <= 1
    assert torch.equal(x, kept)
    if contrast:  # of what is left of each image after crop and rotation
        np.testing.assert_allclose(out.flatten(1).aminmax(dim=1), [[-1] * 16, [1] * 16], atol=1e-5)


def test_diff_augment_moves_and_recolours_and_passes_gradients():
    x = torch.zeros(64, 3, 28, 28, requires_grad=True)
    seen = diff_augment(x + 0, *draw_augmentation(64, 28, seeded()))
    assert seen.shape == x.shape
    inner = seen[:, :, 8:20, 8:20].flatten(1)
    assert (inner.amax(1) - inner.amin(1)).max() < 1e-6  # a plain image stays plain but for its border
    assert inner[:, 0].unique().numel() > 60
    assert inner.abs().max() <= 0.5
    assert ((seen[:, 0] + 1).abs() < 1e-6).any(1).any(1).sum() > 50  # black where it has moved away
    (gradient,) = torch.autograd.grad(seen.sum(), x)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any(1).any(1).any(1).all()
