"""The residual attention module, SPAM (Eqs. 2 and 3, Fig. 2), and what the ablation puts in its place."""

from collections.abc import Callable
from functools import partial
from pkgutil import resolve_name

from torch import Tensor, nn

from rag_lib.base import UserError


class SPAM(nn.Module):
    """S = sigmoid(Conv(X)) (Eq. 2), output S * X + X (Eq. 3); X and the output N x C x H x W.

    Conv is a 3 x 3 convolution and batch normalisation. By default S is one map for all channels,
    N x 1 x H x W ("spatial attention coefficients S"); `per_channel` gives every channel its own,
    N x C x H x W (the text: "weights for each channel or position"), from a depthwise convolution.
    Without `residual` the output is S * X.
    """

    def __init__(self, channels: int, per_channel: bool = False, residual: bool = True):
        super().__init__()
        maps, groups = (channels, channels) if per_channel else (1, 1)
        # batch norm has its own shift, so the convolution needs none
        self.conv = nn.Conv2d(channels, maps, 3, padding=1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(maps)
        self.residual = residual

    def attention(self, x: Tensor) -> Tensor:
        """S, in (0, 1): N x 1 x H x W, or N x C x H x W per channel."""
        return self.norm(self.conv(x)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x) * x + x if self.residual else self.attention(x) * x


class Residual(nn.Module):
    """X + f(X): Eq. 3 for a module that gives S * X."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return x + self.module(x)


def of_timm(name: str, channels: int, residual: bool) -> nn.Module:
    """Return a layer of timm by its full name, within `Residual` or not."""
    layer = resolve_name(name)(channels)
    return Residual(layer) if residual else layer


# by the config's `attention`: what makes one of the number of channels and of `residual`
ATTENTION: dict[str, Callable[..., nn.Module]] = {
    "spam": SPAM,
    "spam_per_channel": partial(SPAM, per_channel=True),
    "none": nn.Identity,  # which takes any arguments
    "cbam": partial(of_timm, "timm.layers.cbam:CbamModule"),  # Woo et al. 2018
    "se": partial(of_timm, "timm.layers:SEModule"),  # Hu et al. 2018
}


def attention_module(name: str, channels: int, residual: bool = True) -> nn.Module:
    """Return the module that a config's `attention` names; raise `UserError` where it needs timm, which is missing."""
    try:
        return ATTENTION[name](channels, residual=residual)
    except ModuleNotFoundError as e:
        raise UserError(f'gan.attention = {name!r} needs the package timm: python -m pip install -e ".[timm]"') from e
