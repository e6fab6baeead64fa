"""The GAN's objective (Eq. 1) on the discriminator's logits, D(x) = sigmoid(logit).

Written with softplus, since -log(sigmoid(l)) = softplus(-l) and -log(1 - sigmoid(l)) = softplus(l):
exact for every logit, where the logarithm of a rounded probability is not.
"""

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


# by the config's `loss`: what D and what G minimises
LOSSES = {
    "minimax": (discriminator_loss, minimax_loss),
    "non_saturating": (discriminator_loss, non_saturating_loss),
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
}
