"""Labelled images as a value: a whole dataset in memory, so that a subset or a mixture is one line."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import pad


@dataclass(frozen=True)
class Images:
    """`x`: uint8, N x C x H x W, 0 to 255; `y`: int64, N, indices into `classes` (the classes' names)."""

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]

    def __post_init__(self):
        if (self.x.dtype, self.x.ndim) != (torch.uint8, 4):
            raise TypeError(f"x is {self.x.dtype} of shape {tuple(self.x.shape)}; it must be uint8, N x C x H x W")
        if (self.y.dtype, self.y.shape) != (torch.int64, self.x.shape[:1]):
            raise TypeError(f"y is {self.y.dtype} of shape {tuple(self.y.shape)}; it must be int64, N as in x")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> "Images":
        """Return the images at `index` (int64 indices, a bool mask or a slice)."""
        return replace(self, x=self.x[index], y=self.y[index])

    def first_of_each_class(self, n: int) -> "Images":
        """Return the first `n` images of each class, as far as there are so many."""
        return self[torch.cat([(self.y == c).nonzero().flatten()[:n] for c in range(len(self.classes))])]

    def only(self, c: int) -> "Images":
        """Return the images of class `c`, as the only class there is."""
        of_class = self[self.y == c]
        return replace(of_class, y=torch.zeros_like(of_class.y), classes=(self.classes[c],))

    def to(self, device: torch.device | str) -> "Images":
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def padded_to(self, size: int) -> "Images":
        """Return the images in the centre of `size` x `size` pixels, continued by reflection."""
        before = (size - self.x.shape[-1]) // 2
        after = size - self.x.shape[-1] - before
        return replace(self, x=pad(self.x, [before, before, after, after], padding_mode="reflect"))

    def centres(self) -> Tensor:
        """Return each image's centre of mass, the brightness of a pixel its mass: float32, N x 2, row and column."""
        mass = self.x.float().mean(1)
        pixels = torch.arange(mass.shape[-1]) / mass.sum((1, 2)).clamp(min=1)[:, None]
        return torch.stack([(mass.sum(axis) * pixels).sum(1) for axis in (2, 1)], 1)

    def centred_on(self, centre: Tensor) -> "Images":
        """Return the images moved by whole pixels, so that the centre of mass of each is next to `centre`.

        What leaves at one border comes in at the other: nothing of a digit on black.
        """
        moves = (centre - self.centres()).round().long().tolist()
        return replace(self, x=torch.stack([x.roll(move, (1, 2)) for x, move in zip(self.x, moves, strict=True)]))


def concat(a: Images, b: Images) -> Images:
    """Return the images of `a`, then those of `b`; both must know the same classes."""
    if a.classes != b.classes:
        raise ValueError(f"images of different classes cannot be joined: {a.classes} and {b.classes}")
    return Images(torch.cat([a.x, b.x]), torch.cat([a.y, b.y]), a.classes)


def stratified_counts(y: Tensor, n: int) -> np.ndarray:
    """How many images of each class a subset of `n` takes: in proportion, `n` in all."""
    counts = np.bincount(y.numpy())
    quotas = counts * n / counts.sum()
    taken = np.floor(quotas).astype(int)
    by_remainder = np.argsort(taken - quotas, kind="stable")
    taken[by_remainder[: n - taken.sum()]] += 1
    return taken


def stratified_split(y: Tensor, sizes: tuple[int, ...], seed: int, at_least: int = 0) -> list[Tensor]:
    """Disjoint index sets of `sizes` images, each with the classes' own proportions; last, all the rest.

    `at_least`: images of each class in every part, as far as there are any; the parts grow by those.
    Written here rather than taken from a library because the split is part of a run's identity: it
    must not change with a dependency's version.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = [(y == c).nonzero().flatten() for c in range(int(y.max()) + 1)]
    shuffled = [index[torch.randperm(len(index), generator=generator)] for index in shuffled]
    parts, start = [], np.zeros(len(shuffled), int)
    for size in sizes:
        counts = np.maximum(stratified_counts(y, size), at_least)
        end = np.minimum(start + counts, [len(index) for index in shuffled])
        parts.append(torch.cat([index[a:b] for index, a, b in zip(shuffled, start, end, strict=True)]).sort().values)
        start = end
    rest = torch.cat([index[a:] for index, a in zip(shuffled, start, strict=True)]).sort().values
    return [*parts, rest]


def topping_up(real: Images, source: Images) -> Images:
    """Of each class of `real` what it lacks of the largest one's number, from `source`, in turn, again and again."""
    counts = real.y.bincount(minlength=len(real.classes))
    index = []
    for c, missing in enumerate((counts.max() - counts).tolist()):
        of_class = (source.y == c).nonzero().flatten()
        index.append(of_class[torch.arange(missing) % len(of_class)])
    return source[torch.cat(index)]
