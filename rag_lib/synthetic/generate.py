"""A trained generator's labelled images: balanced, frozen, as 8-bit as a stored photograph."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import to_pil_image

from rag_lib.base import UserError, check_value, pretrained_file, pretrained_names
from rag_lib.classifiers.networks import build
from rag_lib.classifiers.train import predict
from rag_lib.data.images import Images
from rag_lib.gan.networks import Generator, OnePerClass, evaluating
from rag_lib.runtime.files import load_weights
from rag_lib.runtime.numerics import pick_device, rng
from rag_lib.runtime.store import run_folder
from rag_lib.settings.config import from_dict

# Kernels round differently for different batch sizes, so every chunk has this one, the last as well.
CHUNK = 256


def load_generator(run: str | Path) -> Generator | OnePerClass:
    """Return a trained generator, ready to sample: of a run (its name or folder), a pretrained one's name, or a file.

    It carries `config`, `classes` (names), `labeller`, which is None unless it labels the images, and `published`, what
    a pretrained one's card says of its training, else None. Raises `UserError` where there is none.
    """
    path = weights_file(run)
    weights, card = load_weights(path)
    try:
        config = from_dict("gan", card["config"])
        classes = tuple(card["classes"])
        kind = OnePerClass if config.labels == "per_class" else Generator
        generator = kind(config, 1 if config.labels == "pseudo" else len(classes))
        generator.labeller = build(config.labeller, len(classes)) if config.labeller else None
        generator.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as e:
        raise UserError(f"{path} is no generator of this version of rag_lib; train it again") from e
    for name in classes:  # they become folders, and anyone's file may be given
        if Path(name).name != name or name == "..":
            raise UserError(f"{path} has a class {name!r}, which is no name of a folder")
    generator.config, generator.classes, generator.published = config, classes, card.get("published")
    return generator.to(pick_device()).eval().requires_grad_(False)


def weights_file(run: str | Path) -> Path:
    """Return the file of weights of a GAN's run or of a pretrained generator (`load_generator`); raises `UserError`."""
    path = Path(run)
    if str(run) in pretrained_names():
        return pretrained_file(str(run))
    if not path.exists():
        if len(path.parts) > 1:
            raise UserError(f"{run} does not exist; `python -m rag_lib train` makes a generator, `runs` lists them")
        path = run_folder(str(run))
    path = path / "generator.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"{run} has no generator.safetensors; `python -m rag_lib train` makes one, and these come with the study: "
            f"{', '.join(pretrained_names())}"
        )
    return path.resolve()


def latents(n: int, z_dim: int, seed: int) -> Tensor:
    """Draw z ~ N(0, 1), `n` x `z_dim`; row i depends on `seed` (any whole number) and i alone. Raises `UserError`."""
    if not isinstance(seed, Integral):
        raise UserError(f"seed = {seed!r} must be a whole number")
    seed = int(seed)  # the same for NumPy's numbers
    seeded = (rng(seed, "z", i) for i in range(-(-n // CHUNK)))
    return torch.cat([torch.randn(CHUNK, z_dim, generator=one, dtype=torch.float32) for one in seeded])[:n]


def draw(generator: Generator | OnePerClass, z: Tensor, y: Tensor) -> Tensor:
    """Return the images of these z and labels, uint8, N x C x H x W, on the CPU; computed in padded chunks.

    The same in whatever mode the generator is, which stays as it is.
    `y`: int64, N, or weights of the classes, N x classes (`Generator.forward`).
    """
    if isinstance(generator, OnePerClass):
        return generator.by_class(draw, z, y)
    device = next(generator.parameters()).device
    padded = (torch.cat([x, x.new_zeros(-len(x) % CHUNK, *x.shape[1:])]).to(device).split(CHUNK) for x in (z, y))
    with evaluating(generator):
        images = [to_uint8(generator(*chunk)) for chunk in zip(*padded, strict=True)]
    return torch.cat(images)[: len(z)]


def to_uint8(x: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, 0 to 255, on the CPU: what a network's image becomes when it is stored."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def sample(generator: Generator | OnePerClass, labels: Sequence[int] | Tensor, seed: int = 0) -> Tensor:
    """Draw one image of each of these classes (indices into `generator.classes`): uint8, N x C x H x W.

    Image i depends on `seed`, i and its label alone. Raises `UserError` for a label that is no class's, and for a
    generator that cannot be asked for a class (`labels`: `pseudo`).
    """
    if generator.config.labels == "pseudo":
        raise UserError("this generator draws what it likes (gan.labels = pseudo); use generate(), which labels it")
    k = len(generator.classes)
    some = isinstance(labels, (Tensor, np.ndarray, Integral))
    labels = labels.cpu() if isinstance(labels, Tensor) else labels
    y = np.atleast_1d(labels).ravel().tolist() if some else list(labels)
    if not y:
        raise UserError("labels is empty; give the class of each image, such as [3, 3, 7]")
    for one in y:
        if not isinstance(one, Integral) or not 0 <= one < k:
            names = ", ".join(f"{i} ({name})" for i, name in list(enumerate(generator.classes))[:20])
            raise UserError(f"label {one!r} is no class of this generator; choose from {names}")
    return draw(generator, latents(len(y), generator.z_dim, seed), torch.tensor(y, dtype=torch.int64))


def generate(generator: Generator | OnePerClass, n: int, seed: int) -> Images:
    """Draw `n` labelled images; image i depends on `seed` and i alone, whatever `n`.

    The classes are asked for in turn; where there is a labeller, it says what was drawn.
    Raises `UserError` unless `n` is a whole number of at least 1.
    """
    check_value("n (images)", n, int, low=1)
    return generate_some(generator, torch.arange(n), seed)


def generate_some(generator: Generator | OnePerClass, index: Tensor, seed: int) -> Images:
    """Draw of what `generate` gives with this seed the images of these indices (int64)."""
    z = latents(int(index.max()) + 1, generator.z_dim, seed)[index]
    y = index % generator.n_classes
    images = Images(draw(generator, z, y), y, generator.classes)
    if generator.labeller is not None:
        config = generator.config.labeller
        with evaluating(generator.labeller):
            seen = predict(generator.labeller, images.padded_to(config.data.stored_size).x, config)
        images = replace(images, y=seen)
    return images


class GeneratedDataset(Dataset):
    """What `generate` gives, as a dataset like torchvision's: pairs of an image and its class's index.

    An image is a PIL one, or what `transform` makes of it, so the transform that real images get fits: with
    `torch.utils.data.ConcatDataset([real, GeneratedDataset(...)])` both reach a training loop alike.
    """

    def __init__(
        self, generator: Generator | OnePerClass, n: int, seed: int = 0, transform: Callable[..., Any] | None = None
    ):
        self.images = generate(generator, n, seed)
        self.classes, self.targets, self.transform = self.images.classes, self.images.y.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = to_pil_image(self.images.x[index])
        return (self.transform(image) if self.transform else image), self.targets[index]


def attention_maps(generator: Generator | OnePerClass, n: int, seed: int) -> list[Tensor]:
    """Return each SPAM's S for the images of `generate(generator, n, seed)`: n x 1 x h x w in (0, 1), on the CPU."""
    device = next(generator.parameters()).device
    z, y = latents(n, generator.z_dim, seed), torch.arange(n) % generator.n_classes
    return [s.cpu() for s in generator.attention_maps(z.to(device), y.to(device))]
