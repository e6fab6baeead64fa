"""Images to figures, and the images that published figures need; they came from a run."""

import json
import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from rag_lib.base import ROOT, results_dir
from rag_lib.data.images import Images
from rag_lib.figures.charts import SMALL, wrapped
from rag_lib.runtime.files import room_for, write_whole

GAP = 2  # pixels between two images, as in torchvision's grids
CELL = 0.8  # inches of an image that may have a name above it
LINE = 0.16  # inches of a line of such names
TITLE = 0.34  # inches kept free for a title of the figure
PUBLISHED = ROOT / "results" / "samples"  # by their study


def montage(x: Tensor, columns: int, gap: int = GAP) -> np.ndarray:
    """Return uint8 images N x C x H x W as one picture, H x W x 3, filled row by row on white."""
    blank = x.new_full((-len(x) % columns, *x.shape[1:]), 255)  # make_grid has no more columns than images
    x = torch.cat([x, blank])
    grid = make_grid(x, columns, gap, pad_value=255)
    if len(x) > 1:  # a grid of several has a frame
        grid = grid[:, gap:-gap, gap:-gap]
    return grid.permute(1, 2, 0).numpy()


def _fitted(
    rows: int, columns: int, width: float, height: float, gap: float = 0.0, above: float = 0.0, lines: int = 1
) -> tuple[Figure, np.ndarray]:
    """Return a figure and rows x columns of bare axes of just this size in inches.

    `gap`: between columns; `above`: between rows; `lines`: of text above the highest row. Names at the left and below
    stand outside of the figure, where the tight box of a saved figure finds them.
    """
    top = TITLE + LINE * lines
    size = columns * width + (columns - 1) * gap, rows * height + (rows - 1) * above + top
    grid = {"left": 0, "right": 1, "bottom": 0, "top": 1 - top / size[1], "wspace": gap / width}
    grid["hspace"] = above / height
    figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=size, gridspec_kw=grid)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.tick_params(length=0)
        axis.grid(False)
        sns.despine(ax=axis, left=True, bottom=True)
    return figure, axes


def gallery(real: Images, generated: Images, n: int = 10) -> Figure:
    """Draw Figs. 3 and 4: a row a class, `n` real images on the left, `n` generated ones on the right.

    The classes beyond the first 20 are left out.
    """
    classes = generated.classes[:20]
    figure, axes = _fitted(1, 2, 0.5 * n, 0.5 * len(classes), gap=0.25)
    size = real.x.shape[-1] + GAP  # a row's height on the left, where the names stand
    for axis, images, title in zip(axes[0], (real, generated), ("real", "generated"), strict=True):
        x = torch.full((len(classes), n, *images.x.shape[1:]), 255, dtype=torch.uint8)  # blank where a class has fewer
        for label in range(len(classes)):
            of_class = images.x[images.y == label][:n]
            x[label, : len(of_class)] = of_class
        axis.imshow(montage(x.flatten(0, 1), columns=n), interpolation="none")
        axis.set_title(title, fontsize=SMALL)
    middles = [(i + 0.5) * size - GAP / 2 for i in range(len(classes))]
    axes[0, 0].set_yticks(middles, map(wrapped, classes), fontsize=SMALL)
    return figure


def picture_rows(pictures: dict[str, Tensor], captions: dict[str, list[str]] | None = None) -> Figure:
    """Draw rows of uint8 images (N x C x H x W), each behind its name, and under a caption each where there are any."""
    texts = {
        name: ["\n".join(wrapped(line, width=10) for line in text.splitlines()) for text in of_row]
        for name, of_row in (captions or {}).items()
    }
    n = max(map(len, pictures.values()))
    first, *others = [max((1 + t.count("\n") for t in texts.get(name, [])), default=0) for name in pictures]
    between = 0.06 + LINE * max(others, default=0)  # the same for all rows
    figure, axes = _fitted(len(pictures), 1, CELL * n, CELL, above=between, lines=first)
    for axis, (name, x) in zip(axes[:, 0], pictures.items(), strict=True):
        axis.imshow(montage(x, columns=n), interpolation="none")
        axis.set_ylabel(wrapped(name, lines=3), rotation=0, ha="right", va="center", fontsize=SMALL)
        step = x.shape[-1] + GAP
        for i, text in enumerate(texts.get(name, [])):
            axis.text((i + 0.5) * step - GAP / 2, -GAP, text, ha="center", va="bottom", fontsize=SMALL)
    return figure


def step_of(samples: Path) -> int:
    """Return the iteration that `step-000250.png` shows."""
    return int(samples.stem.removeprefix("step-"))


def below(figure: Figure, samples: Path) -> None:
    """Add a sample grid below a figure of three panels, so that these stay where they are."""
    axis = figure.add_axes((0.04, -0.62, 0.94, 0.5))
    axis.imshow(plt.imread(samples))
    axis.axis("off")
    axis.set_title(f"Samples at iteration {step_of(samples):,}")


def _grids(samples: Path) -> dict[str, np.ndarray]:
    """Return the sample grids that a training left in a folder (step-*.png) by their iteration, early to late."""
    return {f"{step_of(file):,}": plt.imread(file) for file in sorted(samples.glob("step-*.png"))}


def over_training(samples: Path, classes: Sequence[str]) -> Figure:
    """Draw the first row of each of a training's sample grids; `classes`: the names of the columns."""
    grids = _grids(samples)
    pictures = list(grids.values())
    height = (pictures[0].shape[0] - GAP) // 4  # of the four rows of a grid, and the gap above each
    strips = np.concatenate([*(picture[:height] for picture in pictures), pictures[0][:GAP]])
    figure, ((axis,),) = _fitted(1, 1, CELL * strips.shape[1] / height, CELL * strips.shape[0] / height)
    axis.imshow(strips, interpolation="none")
    axis.set_yticks([GAP + (i + 0.5) * height for i in range(len(grids))], grids, fontsize=SMALL)
    names = [wrapped(name, width=10) for name in classes[: round((strips.shape[1] - GAP) / height)]]
    axis.set_xticks([GAP + (i + 0.5) * height for i in range(len(names))], names, fontsize=SMALL)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.set_ylabel("iterations", fontsize=SMALL)
    return figure


def training_samples(samples: Path, classes: Sequence[str], columns: int = 5) -> Figure:
    """Draw the first of a training's sample grids, in two rows at most; `classes`: the names of a grid's columns."""
    grids = _grids(samples)
    height, width = next(iter(grids.values())).shape[:2]
    scale = min(2.6 / width, 4 / height)  # inches a pixel
    rows = min(2, -(-len(grids) // columns))
    figure, axes = _fitted(rows, columns, scale * width, scale * height, gap=0.15, above=0.3)
    for axis in axes.flat[len(grids) :]:
        axis.axis("off")
    for axis, (step, picture) in zip(axes.flat, grids.items(), strict=False):
        axis.imshow(picture, interpolation="none")
        axis.set_title(f"iteration {step}", fontsize=SMALL)
    names = textwrap.shorten(", ".join(classes[:10]), 140, placeholder=" …")
    figure.text(0.5, -0.1 / figure.get_figheight(), f"columns: {names}", ha="center", va="top", fontsize=SMALL)
    return figure


def attention(images: Images, maps: list[Tensor]) -> Figure:
    """Draw each image, then the S of every SPAM: a column an image, a row a module, colours from 0 to 1.

    `maps`: N x 1 x h x w in (0, 1), one tensor a module.
    """
    n, size = len(images), images.x.shape[-1]
    figure, axes = _fitted(1 + len(maps), n, 0.95, 0.95, gap=0.1, above=0.1)
    for axis, image, label in zip(axes[0], images.x, images.y, strict=True):
        axis.imshow(montage(image[None], 1), interpolation="none")
        axis.set_title(wrapped(images.classes[int(label)]), fontsize=SMALL)
    for row, s in zip(axes[1:], maps, strict=True):
        for axis, one in zip(row, F.interpolate(s.cpu(), size=(size, size), mode="nearest")[:, 0].numpy(), strict=True):
            shown = axis.imshow(one, cmap="viridis", vmin=0, vmax=1)
    labels = ["image", *(f"S of SPAM {i + 1}\n{s.shape[-2]} x {s.shape[-1]}" for i, s in enumerate(maps))]
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=SMALL)
    if maps:  # beside the rows of the maps
        width = figure.get_figwidth()
        bar = figure.add_axes((1 + 0.15 / width, 0, 0.12 / width, axes[1, 0].get_position().y1))
        figure.colorbar(shown, cax=bar, label="S").ax.tick_params(labelsize=SMALL)
    return figure


def save_images(images: Images, name: str) -> Path:
    """Write `results/samples/<name>.png`, the images in a row, lossless; return its path."""
    info = PngInfo()
    info.add_text("rag_lib", json.dumps({"y": images.y.tolist(), "classes": images.classes}))
    path, png = results_dir() / "samples" / f"{name}.png", BytesIO()
    to_pil_image(images.x.permute(1, 2, 0, 3).flatten(2)).save(png, "PNG", pnginfo=info)
    with room_for(f"the images {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, png.getvalue())
    return path


def load_images(name: str) -> Images:
    """Return published images, as `save_images` wrote them."""
    with Image.open(PUBLISHED / f"{name}.png") as picture:
        card = json.loads(picture.text["rag_lib"])
        size, n = picture.height, len(card["y"])
        x = torch.from_numpy(np.array(picture).reshape(size, n, size, -1)).permute(1, 3, 0, 2).contiguous()
    return Images(x, torch.tensor(card["y"], dtype=torch.int64), tuple(card["classes"]))


def names(prefix: str) -> list[str]:
    """Return what follows `prefix-` in the names of published images: their studies; own images have a hyphen there."""
    found = [path.stem.partition("-")[2] for path in PUBLISHED.glob(f"{prefix}-*.png")]
    return sorted(name for name in found if "-" not in name)
