"""The residual attention module, SPAM (Eqs. 2 and 3, Fig. 2)."""

from torch import Tensor, nn


class SPAM(nn.Module):
    """S = sigmoid(Conv(X)) (Eq. 2), output S * X + X (Eq. 3); X and the output N x C x H x W.

    Conv is a 3 x 3 convolution and batch normalisation. By default S is one map for all channels,
    N x 1 x H x W ("spatial attention coefficients S"); `per_channel` gives every channel its own,
    N x C x H x W (the text: "weights for each channel or position"), from a depthwise convolution.
    """

    def __init__(self, channels: int, per_channel: bool = False):
        super().__init__()
        maps, groups = (channels, channels) if per_channel else (1, 1)
        # batch norm has its own shift, so the convolution needs none
        self.conv = nn.Conv2d(channels, maps, 3, padding=1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(maps)

    def attention(self, x: Tensor) -> Tensor:
        """S, in (0, 1): N x 1 x H x W, or N x C x H x W per channel."""
        return self.norm(self.conv(x)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x) * x + x


def attention_module(name: str, channels: int) -> nn.Module:
    """The module that a config's `attention` names."""
    return nn.Identity() if name == "none" else SPAM(channels, per_channel=name == "spam_per_channel")
