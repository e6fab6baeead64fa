"""The classifiers: Table 1's small CNN and torchvision's ResNets, a fast net for colour, any timm model by name."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from rag_lib.base import UserError
from rag_lib.settings.config import ClassifierConfig


class CNN(nn.Sequential):
    """A few plain layers: three 3 x 3 convolutions of 32, 64 and 128 channels, each with batch norm, max
    pooling (the last over the whole image) and ReLU, and one linear layer.

    Images N x C x H x W of any size to logits N x classes; 94,000 parameters for ten classes.
    """

    def __init__(self, channels: int, n_classes: int):
        super().__init__(
            *self._block(channels, 32, nn.MaxPool2d(2)),
            *self._block(32, 64, nn.MaxPool2d(2)),
            *self._block(64, 128, nn.AdaptiveMaxPool2d(1)),
            nn.Flatten(),
            nn.Linear(128, n_classes),
        )

    @staticmethod
    def _block(inputs: int, outputs: int, pool: nn.Module) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), pool, nn.ReLU()]


class FastCNN(nn.Sequential):
    """A small net for small colour images, in the spirit of Jordan's airbench94 (2024, arXiv:2404.00498).

    A frozen convolution of 2 x 2 patches that `whiten` makes their principal components, of equal variance and with
    both signs; three blocks of two 3 x 3 convolutions (64, 256, 256 channels), each with batch norm and GELU, pooling
    after the first; the maximum over the image, one linear layer. Convolutions start as the identity as far as
    they can, so that the whitened image reaches the last layer at once. Images N x C x H x W of at least
    16 pixels a side to logits; 1,973,000 parameters for colour and ten classes.
    """

    def __init__(self, channels: int, n_classes: int):
        width = 8 * channels  # both signs of every component of a patch of 2 x 2
        super().__init__(
            nn.Conv2d(channels, width, 2),
            nn.GELU(),
            *self._block(width, 64),
            *self._block(64, 256),
            *self._block(256, 256),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(256, n_classes, bias=False),
        )
        self[0].weight.requires_grad = False
        nn.init.zeros_(self[0].bias)
        with torch.no_grad():
            self[-1].weight /= 9  # its input is a maximum, and large
        for conv in list(self)[1:]:
            if isinstance(conv, nn.Conv2d):
                nn.init.dirac_(conv.weight[: conv.in_channels].data)

    @staticmethod
    def _block(inputs: int, outputs: int) -> list[nn.Module]:
        first, second = (nn.Conv2d(n, outputs, 3, padding=1, bias=False) for n in (inputs, outputs))
        return [
            *(first, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.GELU()),
            *(second, nn.BatchNorm2d(outputs), nn.GELU()),
        ]

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Set the first convolution by the patches of these images, N x C x H x W in [-1, 1]."""
        conv = self[0]
        patches = F.unfold(x.float(), 2).transpose(1, 2).flatten(0, 1)
        variances, components = torch.linalg.eigh(patches.T.cov())
        scaled = (components / (variances + 5e-4).sqrt()).T.flip(0)  # the floor keeps a constant patch from exploding
        conv.weight.copy_(torch.cat([scaled, -scaled]).view_as(conv.weight))


def resnet(name: str, stem: str, channels: int, n_classes: int) -> nn.Module:
    """torchvision's ResNet with its own stem (`imagenet`: 7 x 7, stride 2, pooling) or the one for small
    images (`cifar`: 3 x 3, stride 1, no pooling; He et al. 2016, section 4.2)."""
    model = torchvision.models.get_model(name, num_classes=n_classes)
    if stem == "cifar":
        model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return model


# by the config's `model`: what makes one of the stem, the number of channels and that of classes
NETWORKS: dict[str, Callable[[str, int, int], nn.Module]] = {
    "cnn": lambda stem, channels, n_classes: CNN(channels, n_classes),
    "fast_cnn": lambda stem, channels, n_classes: FastCNN(channels, n_classes),
    **{name: partial(resnet, name) for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
}


def build(config: ClassifierConfig, n_classes: int) -> nn.Module:
    """Return the untrained classifier of this config: images N x C x H x W in [-1, 1] to logits N x `n_classes`.

    Raises `UserError` for a timm model that does not exist or does not take images of this size.
    """
    if config.model.startswith("timm:"):
        return timm_model(config.model.removeprefix("timm:"), config.data.channels, config.data.size, n_classes)
    return NETWORKS[config.model](config.stem, config.data.channels, n_classes)


def timm_model(name: str, channels: int, size: int, n_classes: int) -> nn.Module:
    """Return a model of the timm library, untrained; tried on one image, since many take large images only."""
    try:
        import timm
    except ModuleNotFoundError as e:
        raise UserError(f'classifier timm:{name} needs the package timm: python -m pip install -e ".[timm]"') from e
    if not timm.is_model(name):
        raise UserError(f"timm has no model {name!r}; timm.list_models() names those it has")
    try:
        model = timm.create_model(name, pretrained=False, in_chans=channels, num_classes=n_classes)
        with torch.no_grad():
            model.eval()(torch.zeros(1, channels, size, size))
    except (AssertionError, RuntimeError, TypeError, ValueError) as e:
        shape = f"{channels} x {size} x {size}"
        raise UserError(f"timm:{name} does not take images of {shape} ({e}); choose another") from e
    return model
