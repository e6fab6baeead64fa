"""The paper's preprocessing (section 1.2) on a batch: crop, random rotation, contrast enhancement."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rag_lib.settings.config import DataConfig


def preprocess(x: Tensor, config: DataConfig, generator: torch.Generator | None = None) -> Tensor:
    """uint8 images N x C x H x W as float32 in [-1, 1], N x C x `size` x `size`.

    With a `generator` (training) each image gets its own crop position, up to `translation` pixels beyond the
    border, its own angle, uniform in +-`rotation` degrees, and with `flip` its own side; without one (test) the
    centre is cut out and nothing turns.
    """
    x = x.float() / 255
    if generator is None:
        x = centre_crop(x, config.size)
    elif config.rotation or config.translation or x.shape[-1] > config.size:
        x = random_crop_and_rotation(x, config.size, config.rotation, generator, config.translation)
    if generator is not None and config.flip:
        mirrored = torch.rand(len(x), generator=generator).to(x.device) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    if config.contrast:
        x = stretch_contrast(x)
    return x * 2 - 1


def centre_crop(x: Tensor, size: int) -> Tensor:
    start = (x.shape[-1] - size) // 2
    return x[..., start : start + size, start : start + size]


def random_crop_and_rotation(
    x: Tensor, size: int, degrees: float, generator: torch.Generator, beyond: int = 0
) -> Tensor:
    """A random `size` x `size` crop of each image, turned about the crop's own centre, in one resampling.

    The crop may reach `beyond` pixels over the border. Resampling from the uncropped image keeps the corners real
    wherever it reaches that far; beyond its border it goes on by reflection.
    """
    n, _, stored, _ = x.shape
    # drawn on the CPU, so that every device sees the same numbers
    offset = torch.randint(-beyond, stored - size + beyond + 1, (n, 2), generator=generator)
    angle = (torch.rand(n, generator=generator) * 2 - 1) * math.radians(degrees)
    offset, angle = offset.to(x.device), angle.to(x.device)
    # where each pixel of the result comes from, in units where the stored image spans [-1, 1]: the crop's
    # own coordinates, turned (the sum of a part by column and a part by row), and moved to the crop's centre
    centre = (2 * offset + size - stored) / stored
    along = (torch.arange(size, device=x.device) + 0.5) * 2 / stored - size / stored
    cos, sin = along * angle.cos()[:, None], along * angle.sin()[:, None]
    from_x = (cos + centre[:, :1])[:, None, :] - sin[:, :, None]
    from_y = sin[:, None, :] + (cos + centre[:, 1:])[:, :, None]
    grid = torch.stack([from_x, from_y], -1)
    return F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)


def stretch_contrast(x: Tensor) -> Tensor:
    """Each image's values stretched to [0, 1], all channels alike; an image of one value stays as it is."""
    low, high = (extreme[:, None, None, None] for extreme in x.flatten(1).aminmax(dim=1))
    has_contrast = high - low > 0.5 / 255  # less is no grey level, but the rounding of a resampled plain image
    return (x - torch.where(has_contrast, low, 0.0)) / torch.where(has_contrast, high - low, 1.0)
