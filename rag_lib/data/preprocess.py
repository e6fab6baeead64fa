"""The paper's preprocessing (section 1.2) on a batch: crop, random rotation, contrast enhancement."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import center_crop

from rag_lib.settings.config import DataConfig


def draw_preprocessing(n: int, config: DataConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw what `preprocess` takes at random in training, for `n` images of `stored_size`; on the CPU.

    As far as `config` asks for it: `offset`, n x 2, the crop's row and column in pixels, up to `translation` beyond
    the border; `angle`, n, radians, uniform in +-`rotation` degrees; `mirrored`, n, true for one half, with `flip`.
    """
    drawn, beyond, spare = {}, config.translation, config.stored_size - config.size
    if config.rotation or beyond or spare:
        drawn["offset"] = torch.randint(-beyond, spare + beyond + 1, (n, 2), generator=generator)
        drawn["angle"] = (torch.rand(n, generator=generator) * 2 - 1) * math.radians(config.rotation)
    if config.flip:
        drawn["mirrored"] = torch.rand(n, generator=generator) < 0.5
    return drawn


def preprocess(
    x: Tensor, config: DataConfig, offset: Tensor | None = None, angle: Tensor | None = None,
    mirrored: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """uint8 images N x C x H x W as float32 in [-1, 1], N x C x `size` x `size`.

    In training with what `draw_preprocessing` gives; without it (test) the centre is cut out and nothing turns.
    """
    x = x.float() / 255
    x = center_crop(x, config.size) if offset is None else crop_and_rotate(x, config.size, offset, angle)
    if mirrored is not None:
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    if config.contrast:
        x = stretch_contrast(x)
    return x * 2 - 1


def crop_and_rotate(x: Tensor, size: int, offset: Tensor, angle: Tensor) -> Tensor:
    """Cut a `size` x `size` crop of each image at its `offset`, turned about the crop's own centre, in one resampling.

    Resampling from the uncropped image keeps the corners real wherever it reaches that far; beyond its border it
    is continued by reflection.
    """
    stored = x.shape[2]
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
