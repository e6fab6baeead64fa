"""The classifiers that Table 1 compares: a small CNN, torchvision's ResNets, any timm model by name."""

import torch
import torchvision
from torch import nn

from rag_lib.errors import UserError


class CNN(nn.Sequential):
    """A few plain layers: three 3 x 3 convolutions of 32, 64 and 128 channels, each with batch norm, ReLU and
    max pooling (the last over the whole image), and one linear layer.

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
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), pool]


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


def build_classifier(name: str, stem: str, channels: int, size: int, n_classes: int) -> nn.Module:
    """The classifier that `name` names: images N x `channels` x `size` x `size` to logits N x `n_classes`.

    `name` is `cnn`, `resnet18` to `resnet101`, or `timm:NAME`. Raises `UserError` for a timm model that
    does not exist or does not take images of this size.
    """
    if name == "cnn":
        return CNN(channels, n_classes)
    if not name.startswith("timm:"):
        return resnet(name, stem, channels, n_classes)
    return timm_model(name.removeprefix("timm:"), channels, size, n_classes)


def timm_model(name: str, channels: int, size: int, n_classes: int) -> nn.Module:
    """A model of the timm library, untrained; tried on one image, since many take large images only."""
    try:
        import timm
    except ModuleNotFoundError as e:
        raise UserError(f'classifier timm:{name} needs the package timm; pip install "rag-lib[timm]"') from e
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
