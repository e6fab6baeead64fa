"""The GAN's objective (Eq. 1) on the discriminator's logits, D(x) = sigmoid(logit).

Written with softplus, since -log(sigmoid(l)) = softplus(-l) and -log(1 - sigmoid(l)) = softplus(l):
exact for every logit, where the logarithm of a rounded probability is not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))]: what D minimises, the negative of Eq. 1. A scalar."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def minimax_loss(fake_logits: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))]: what G minimises in Eq. 1, to the letter. Its gradient fades where D is sure."""
    return -F.softplus(fake_logits).mean()


def non_saturating_loss(fake_logits: Tensor) -> Tensor:
    """-E[log D(G(z))]: the same fixed point as Eq. 1 with a gradient where G is bad (Goodfellow et al. 2014)."""
    return F.softplus(-fake_logits).mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[max(0, 1 - l(x))] + E[max(0, 1 + l(G(z)))]: D learns only from what it is not yet sure of (Lim and Ye 2017)."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """-E[l(G(z))], the generator's side of the hinge loss."""
    return -fake_logits.mean()


def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """E[|dl(x)/dx|^2] / 2 at real images, the zero-centred gradient penalty R1 (Mescheder et al. 2018). A scalar.

    Where G is right, D has no slope left to push it away again. `real` (N x C x H x W) requires gradients.
    """
    (slope,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return slope.float().square().sum((1, 2, 3)).mean() / 2


# by the config's `loss`: what D and what G minimises
LOSSES = {
    "minimax": (discriminator_loss, minimax_loss),
    "non_saturating": (discriminator_loss, non_saturating_loss),
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
}


def draw_augmentation(n: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw what `diff_augment` takes at random for `n` images of `side` pixels: colours in [0, 1), shifts in pixels.

    3 x n x 1 x 1 x 1 (brightness, saturation, contrast) and 2 x n (down, right), on the CPU.
    """
    reach = -(-side // 8)
    colour = torch.rand(3, n, 1, 1, 1, generator=generator)
    return colour, torch.randint(-reach, reach + 1, (2, n), generator=generator)


def diff_augment(x: Tensor, colour: Tensor, shift: Tensor) -> Tensor:
    """Images N x C x H x W in [-1, 1], moved and recoloured by what `draw_augmentation` gives; gradients pass.

    DiffAugment (Zhao et al. 2020) with its policies colour (brightness, saturation, contrast) and translation (up to
    an eighth of the side, black beyond). Not its cutout: its holes are known to turn up in what G draws.
    """
    n, _, h, w = x.shape
    brightness, saturation, contrast = colour
    x = x + (brightness - 0.5)
    if x.shape[1] == 3:
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * 2 * saturation
    middle = x.mean((1, 2, 3), keepdim=True)
    x = middle + (x - middle) * (contrast + 0.5)
    rows = (torch.arange(h, device=x.device) + shift[0, :, None]).clamp(-1, h) + 1  # 0 and h + 1: the padding
    columns = (torch.arange(w, device=x.device) + shift[1, :, None]).clamp(-1, w) + 1
    padded = F.pad(x, (1, 1, 1, 1), value=-1.0).permute(0, 2, 3, 1)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
