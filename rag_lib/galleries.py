"""Images to figures; the images came from a run."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from rag_lib.images import Images
from rag_lib.plots import step_of, wrapped

GAP = 2  # pixels between two images, as in torchvision's grids


def montage(x: Tensor, columns: int, gap: int = GAP) -> np.ndarray:
    """uint8 images N x C x H x W as one picture, H x W x 3, filled row by row on white."""
    n, _, h, w = x.shape
    rows = -(-n // columns)
    picture = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(x):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        picture[top : top + h, left : left + w] = image.permute(1, 2, 0).numpy()
    return picture


def _of_class(images: Images, label: int, n: int) -> Tensor:
    """The first `n` images of a class, blank ones where it has fewer."""
    x = images.x[images.y == label][:n]
    return torch.cat([x, torch.full((n - len(x), *x.shape[1:]), 255, dtype=torch.uint8)])


def gallery(real: Images, generated: Images, n: int = 10) -> Figure:
    """Figs. 3 and 4: a row a class, `n` real images on the left, `n` generated ones on the right.

    The classes beyond the first 20 are left out.
    """
    classes = generated.classes[:20]
    figure, axes = plt.subplots(1, 2, figsize=(2 * n * 0.5 + 1, len(classes) * 0.5 + 0.5))
    size = real.x.shape[-1] + GAP  # a row's height on the left, where the names stand
    for axis, images, title in zip(axes, (real, generated), ("real", "generated"), strict=True):
        x = torch.cat([_of_class(images, label, n) for label in range(len(classes))])
        axis.imshow(montage(x, columns=n), interpolation="none")
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(False)
        sns.despine(ax=axis, left=True, bottom=True)
    axes[0].set_yticks([(i + 0.5) * size - GAP / 2 for i in range(len(classes))], map(wrapped, classes))
    axes[0].tick_params(length=0)
    figure.tight_layout(w_pad=2)  # a gap, however long the names are
    return figure


def rows(pictures: dict[str, Tensor], captions: dict[str, list[str]] | None = None) -> Figure:
    """Rows of uint8 images (N x C x H x W), each behind its name, and under a caption each where there are any."""
    texts = {
        name: ["\n".join(wrapped(line, width=10) for line in text.splitlines()) for text in of_row]
        for name, of_row in (captions or {}).items()
    }
    n = max(map(len, pictures.values()))
    lines = max((1 + text.count("\n") for of_row in texts.values() for text in of_row), default=0)
    size = (0.68 * n + 1.5, (0.75 + 0.19 * lines) * len(pictures))  # rows of one height, so that columns stand in line
    figure, axes = plt.subplots(len(pictures), 1, figsize=size, squeeze=False)
    for axis, (name, x) in zip(axes[:, 0], pictures.items(), strict=True):
        axis.imshow(montage(x, columns=n), interpolation="none")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(wrapped(name, lines=3), rotation=0, ha="right", va="center")
        axis.grid(False)
        sns.despine(ax=axis, left=True, bottom=True)
        step = x.shape[-1] + GAP
        for i, text in enumerate(texts.get(name, [])):
            axis.text((i + 0.5) * step - GAP / 2, -GAP, text, ha="center", va="bottom", fontsize=8)
    figure.tight_layout()
    return figure


def over_training(samples: Path, classes: Sequence[str]) -> Figure:
    """The first row of each sample grid that the training left in a folder (step-*.png), early to late.

    `classes`: the names of the columns.
    """
    files = sorted(samples.glob("step-*.png"))
    pictures = [plt.imread(file) for file in files]
    height = (pictures[0].shape[0] - GAP) // 4  # of the four rows of a grid, and the gap above each
    strips = np.concatenate([picture[GAP : GAP + height] for picture in pictures])
    figure, axis = plt.subplots(figsize=(0.56 * strips.shape[1] / height + 1.2, 0.56 * len(files) + 0.3))
    axis.imshow(strips, interpolation="none")
    axis.set_yticks([(i + 0.5) * height for i in range(len(files))], [f"{step_of(file):,}" for file in files])
    names = [wrapped(name, width=10) for name in classes[: round((strips.shape[1] - GAP) / height)]]
    axis.set_xticks([GAP + (i + 0.5) * height for i in range(len(names))], names, fontsize=7.5)
    axis.xaxis.tick_top()
    axis.set_ylabel("iterations")
    axis.grid(False)
    axis.tick_params(length=0)
    sns.despine(ax=axis, left=True, bottom=True)
    figure.tight_layout()
    return figure


def training_samples(samples: Path, classes: Sequence[str], columns: int = 5) -> Figure:
    """The sample grids that the training left in a folder (step-*.png), early to late; `classes`: of their columns."""
    files = sorted(samples.glob("step-*.png"))[: 2 * columns]
    rows = -(-len(files) // columns)
    pictures = [plt.imread(file) for file in files]
    height = min(2.6 * pictures[0].shape[0] / pictures[0].shape[1], 4)
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, rows * (height + 0.35) + 0.4), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, file, picture in zip(axes.flat, files, pictures, strict=False):
        axis.imshow(picture, interpolation="none")
        axis.set_title(f"iteration {step_of(file):,}", fontsize=10)
    names = textwrap.shorten(", ".join(classes[:10]), 140, placeholder=" …")
    figure.supxlabel(f"columns: {names}", fontsize=11)
    figure.tight_layout()
    return figure


def attention(images: Images, maps: list[Tensor]) -> Figure:
    """Each image, then the S of every SPAM: a column an image, a row a module, colours from 0 to 1.

    `maps`: N x 1 x h x w in (0, 1), one tensor a module.
    """
    n, size = len(images), images.x.shape[-1]
    shape = {"figsize": (n * 1.05 + 2, (1 + len(maps)) * 1.1), "layout": "constrained"}
    figure, axes = plt.subplots(1 + len(maps), n, squeeze=False, **shape)
    for axis, image, label in zip(axes[0], images.x, images.y, strict=True):
        axis.imshow(montage(image[None], 1), interpolation="none")
        axis.set_title(wrapped(images.classes[int(label)]), fontsize=10)
    for row, s in zip(axes[1:], maps, strict=True):
        for axis, one in zip(row, F.interpolate(s.cpu(), size=(size, size), mode="nearest")[:, 0], strict=True):
            shown = axis.imshow(one, cmap="viridis", vmin=0, vmax=1)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        sns.despine(ax=axis, left=True, bottom=True)
    labels = ["image", *(f"S of SPAM {i + 1}\n{s.shape[-2]} x {s.shape[-1]}" for i, s in enumerate(maps))]
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
    if maps:
        figure.colorbar(shown, ax=axes, shrink=0.7, label="S", pad=0.015)
    return figure
