"""Ways through the latent space: from one z and class to another, and what the attention looks at there."""

from itertools import pairwise

import matplotlib as mpl
import torch
import torch.nn.functional as F
from torch import Tensor

from rag_lib.gan.networks import Generator, OnePerClass, evaluating
from rag_lib.synthetic.generate import attention_maps, latents, to_uint8

OPACITY = 0.6  # of S over an image


def between(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Return the point at `t` (0 to 1) of the arc from a to b, both 1 x n: a straight line leaves N(0, 1)'s shell."""
    angle = torch.arccos(F.cosine_similarity(a, b).clamp(-1, 1))
    if angle.sin().abs() < 1e-3:  # the same direction, or opposite ones, which no single arc joins
        return (1 - t) * a + t * b
    return (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()


def point(
    generator: Generator | OnePerClass, label: int, seed: int, to_label: int, to_seed: int, t: float
) -> tuple[Tensor, Tensor]:
    """Return z (1 x z_dim) and y at `t` (0 to 1) of the way from one class and seed to another.

    At 0 it is the one image of `synthetic.sample(generator, [label], seed)`. y is int64 within a class, else weights of
    the classes, 1 x classes; generators of one class each know nothing between two, and switch half way.
    """
    z = between(latents(1, generator.z_dim, seed), latents(1, generator.z_dim, to_seed), t)
    if label == to_label or isinstance(generator, OnePerClass):
        return z, torch.tensor([label if t < 0.5 else to_label])
    y = torch.zeros(1, generator.n_classes)
    y[0, label], y[0, to_label] = 1 - t, t
    return z, y


def picture(generator: Generator | OnePerClass, z: Tensor, y: Tensor, spam: int | None = None) -> Tensor:
    """Draw one image, uint8, C x H x W; or (`spam` counts from 0) that SPAM's S over it, 3 x H x W.

    S is shown in viridis' colours, from this map's lowest value to its highest.
    Not padded to a chunk as `generate.draw` is, so that it comes at once: a pixel may be rounded otherwise.
    """
    device = next(generator.parameters()).device
    z, y = z.to(device), y.to(device)
    with evaluating(generator):
        image = to_uint8(generator(z, y))[0]
    if spam is None:
        return image
    s = generator.attention_maps(z, y)[spam]
    s = F.interpolate(s, size=image.shape[-2:], mode="bilinear")[0, 0].cpu()
    s = (s - s.min()) / (s.max() - s.min()).clamp(min=1e-6)
    colours = torch.from_numpy(mpl.colormaps["viridis"](s.numpy())[..., :3]).permute(2, 0, 1) * 255
    return (OPACITY * colours + (1 - OPACITY) * image).round().to(torch.uint8)


def names(generator: Generator | OnePerClass) -> tuple[str, ...]:
    """Return what the generator can be asked for: its classes, or nothing in particular where labels are `pseudo`."""
    return ("any",) if generator.config.labels == "pseudo" else generator.classes


def attention_views(generator: Generator | OnePerClass) -> dict[str, Tensor]:
    """Draw the image of each of the first ten classes, then the S of every SPAM over it: uint8 rows, N x 3 x H x W."""
    points = [point(generator, c, 0, c, 0, 0.0) for c in range(min(10, generator.n_classes))]

    def strip(spam: int | None) -> Tensor:
        return torch.stack([picture(generator, *p, spam).expand(3, -1, -1) for p in points])

    n_maps = len(attention_maps(generator, 1, seed=0))
    return {"image": strip(None)} | {f"S of SPAM {i + 1}": strip(i) for i in range(n_maps)}


def ways(generator: Generator | OnePerClass, columns: int = 9) -> dict[str, dict[str, Tensor]]:
    """Draw rows of uint8 images: `within` each of the first ten classes from seed 0 to 1; `between` each and the next.

    Generators that know nothing between two classes have no rows there.
    """

    def strip(label: int, to_label: int, to_seed: int) -> Tensor:
        steps = torch.linspace(0, 1, columns).tolist()
        return torch.stack([picture(generator, *point(generator, label, 0, to_label, to_seed, t)) for t in steps])

    first = list(enumerate(names(generator)))[:10]
    neighbours = [] if isinstance(generator, OnePerClass) else list(pairwise(first))
    return {
        "within": {name: strip(c, c, 1) for c, name in first},
        "between": {f"{a} to {b}": strip(i, j, 0) for (i, a), (j, b) in neighbours},
    }
