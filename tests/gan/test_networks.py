"""The networks against the paper's text and equations."""

import re
import sys

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from rag_lib.base import UserError
from rag_lib.classifiers.networks import FastCNN, build
from rag_lib.gan import fast_convolution
from rag_lib.gan.attention import ATTENTION, SPAM, Residual, attention_module
from rag_lib.gan.fast_convolution import Conv2d, ConvToPoint, ConvTranspose2d, DConvOfPoint
from rag_lib.gan.networks import ConditionalBatchNorm, Discriminator, Generator, OnePerClass
from rag_lib.gan.train import discriminate, n_parameters
from rag_lib.runtime.numerics import autocast
from rag_lib.settings.config import CLASSIFIERS, ClassifierConfig, DataConfig, GanConfig


def gan_config(size: int = 28, channels: int = 1, **changes) -> GanConfig:
    data = DataConfig(size=size, stored_size=32, channels=channels)
    return GanConfig(data=data, **{"width": 8, **changes})


def classifier(name: str, size: int = 28, channels: int = 1, stem: str = "imagenet", n_classes: int = 10) -> nn.Module:
    data = DataConfig(size=size, stored_size=32, channels=channels)
    return build(ClassifierConfig(data=data, model=name, stem=stem), n_classes)


def spam_in_numpy(x: np.ndarray, weight: np.ndarray, scale: float, shift: float, eps: float) -> np.ndarray:
    """Eqs. 2 and 3 written out: 3 x 3 convolutions to one map or one a channel, batch norm, sigmoid, S * X + X."""
    kernels = weight.reshape(-1, 3, 3)
    conv = np.array([[correlate2d(c, w, "same") for c, w in zip(image, kernels, strict=True)] for image in x])
    conv = conv.sum(1, keepdims=True) if len(weight) == 1 else conv
    over = {"axis": (0, 2, 3), "keepdims": True}
    normed = (conv - conv.mean(**over)) / np.sqrt(conv.var(**over) + eps) * scale + shift
    return x / (1 + np.exp(-normed)) + x


@pytest.mark.parametrize(("per_channel", "maps"), [(False, 1), (True, 5)])
def test_spam_is_equations_2_and_3(per_channel, maps):
    torch.manual_seed(0)
    spam = SPAM(5, per_channel).double()
    nn.init.constant_(spam.norm.weight, 1.7)
    nn.init.constant_(spam.norm.bias, -0.3)
    x, weight = torch.randn(4, 5, 7, 6, dtype=torch.float64), spam.conv.weight.detach().numpy()
    assert len(weight) == maps
    expected = spam_in_numpy(x.numpy(), weight, 1.7, -0.3, spam.norm.eps)
    np.testing.assert_allclose(spam(x).detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (28, 3), (32, 1), (32, 3)])
def test_both_networks_take_every_size_and_obey_the_label(size, channels):
    config = gan_config(size, channels)
    generator, discriminator = Generator(config, n_classes=10).eval(), Discriminator(config, n_classes=10)
    z, y = torch.randn(6, 100), torch.arange(6)
    x = generator(z, y)
    assert x.shape == (6, channels, size, size)
    assert 0.9 < generator(1e9 * z, y).abs().max() <= 1
    assert not torch.equal(x, generator(z, y + 1))
    assert not torch.equal(x, generator(z.flip(0), y))
    logits = discriminator(x, y)
    assert logits.shape == (6,)
    assert not torch.equal(logits, discriminator(x, y + 1))


@pytest.mark.parametrize(("attention", "sides"), [("spam", [4, 7, 14]), ("none", []), ("cbam", []), ("se", [])])
def test_the_generator_has_four_dconvs_and_a_map_of_each_spam(attention, sides):
    generator = Generator(gan_config(attention=attention), n_classes=10)
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in generator.modules()) == 4
    z, y = torch.randn(3, 100), torch.tensor([0, 5, 9])
    assert generator(z, y).shape == (3, 1, 28, 28)
    assert [tuple(s.shape) for s in generator.attention_maps(z, y)] == [(3, 1, side, side) for side in sides]


def test_attention_maps_are_those_of_the_forward_pass():
    generator = Generator(gan_config(), n_classes=10).eval()
    z, y, seen = torch.randn(3, 100), torch.arange(3), []
    maps = generator.attention_maps(z, y)
    generator.block1[-1].norm.register_forward_hook(lambda *args: seen.append(args[-1].sigmoid()))
    generator(z, y)
    torch.testing.assert_close(maps[0], seen[0])


@pytest.mark.parametrize("name", [n for n in (*CLASSIFIERS, "timm:resnet10t") if n not in ("resnet34", "resnet101")])
@pytest.mark.parametrize(("size", "channels", "stem"), [(28, 1, "imagenet"), (32, 3, "cifar")])
def test_classifiers_take_small_images_of_any_colour(name, size, channels, stem):
    model = classifier(name, size, channels, stem, n_classes=7)
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_resnets_stem_keeps_the_resolution_only_for_cifar():
    shapes = {}
    for stem in ("imagenet", "cifar"):
        model = classifier("resnet18", 32, 3, stem)
        model.layer1.register_forward_hook(lambda m, i, out, stem=stem: shapes.update({stem: out.shape[-1]}))
        model(torch.zeros(2, 3, 32, 32))
    assert shapes == {"imagenet": 8, "cifar": 32}


def test_a_timm_model_for_large_images_alone_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"\A.* does not take images of 1 x 28 x 28.*\Z"):
        classifier("timm:vit_tiny_patch16_224")


@pytest.mark.parametrize("make", [lambda: classifier("timm:resnet10t"), lambda: attention_module("cbam", channels=8)])
def test_without_timm_one_line_says_how_this_clone_gets_it(make, monkeypatch):
    """Regression: it named a package of PyPI, where this study is not."""
    for name in ("timm", "timm.layers", "timm.layers.cbam"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=re.escape('needs the package timm: python -m pip install -e ".[timm]"')):
        make()


SHAPES = [  # our layer, the same one of torch's, pixels a side of its input
    (lambda: Conv2d(8, 16, 4, 2, 1), lambda: nn.Conv2d(8, 16, 4, 2, 1), 14),
    (lambda: Conv2d(8, 16, 3, 2, 1, bias=False), lambda: nn.Conv2d(8, 16, 3, 2, 1, bias=False), 7),
    (lambda: ConvTranspose2d(16, 8, 3, 2, 1), lambda: nn.ConvTranspose2d(16, 8, 3, 2, 1, bias=False), 4),
    (lambda: ConvTranspose2d(16, 8, 4, 2, 1), lambda: nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), 7),
    (lambda: DConvOfPoint(16, 8, 4), lambda: nn.ConvTranspose2d(16, 8, 4, bias=False), 1),
    (lambda: ConvToPoint(16, 1, 4), lambda: nn.Conv2d(16, 1, 4), 4),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("ours", "torchs", "size"), SHAPES)
def test_our_convolutions_and_their_gradients_are_torchs(ours, torchs, size, precision, monkeypatch):
    torch.manual_seed(0)
    fast, plain = ours(), torchs()
    plain.load_state_dict(fast.state_dict())
    gradients = []
    product = fast_convolution.weight_gradient
    monkeypatch.setattr(fast_convolution, "weight_gradient", lambda *a: gradients.append(product(*a)) or gradients[-1])
    x, found = torch.randn(5, fast.in_channels, size, size), []
    for module in (fast, plain):
        given = x.clone().requires_grad_()
        with autocast(precision, torch.device("cpu")):
            y = module(given)
        (y.float() * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
        bias = torch.zeros(1) if module.bias is None else module.bias.grad
        found.append((y.detach().float(), given.grad, module.weight.grad, bias))
    # our own gradient is at work where it should be, and nowhere else
    assert len(gradients) == (precision == "bf16" and isinstance(fast, Conv2d | ConvTranspose2d))
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


def test_spectral_norm_bounds_every_layer_and_lets_images_share_a_pass():
    D = Discriminator(GanConfig(width=8, d_norm="spectral"), 10)
    x, y = torch.rand(6, 1, 28, 28) * 2 - 1, torch.arange(6)
    for _ in range(50):
        D(x, y)  # each pass takes the power iteration one step further
    for layer in [m for m in D.modules() if is_parametrized(m)]:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)
    D.eval()
    real, fake = discriminate(D, x, -x, y)
    torch.testing.assert_close(torch.cat([real, fake]), torch.cat([D(x, y), D(-x, y)]))


@pytest.mark.parametrize("name", ATTENTION)
def test_the_residual_form_adds_the_input_to_every_attention(name):
    with_residual, x = attention_module(name, 16), torch.randn(4, 16, 7, 7)
    without = attention_module(name, 16, residual=False)
    inner = with_residual.module if isinstance(with_residual, Residual) else with_residual
    without.load_state_dict(inner.state_dict())
    torch.testing.assert_close(with_residual(x), x if name == "none" else without(x) + x)


def test_conditional_batch_norm_normalises_and_scales_by_class():
    torch.manual_seed(0)
    norm, x = ConditionalBatchNorm(4, 3).double(), torch.randn(60, 4, 5, 5, dtype=torch.float64) * 3 + 1
    nn.init.zeros_(norm.shift.weight)
    norm.scale.weight.data = torch.tensor([[0.0] * 4, [1.0] * 4, [2.0] * 4], dtype=torch.float64)
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    y = torch.arange(60) % 3
    torch.testing.assert_close(norm(x, y), plain * (1 + y)[:, None, None, None])


def test_a_conditional_generator_draws_each_class_with_its_own_norm():
    generator = Generator(gan_config(g_norm="conditional"), n_classes=10).eval()
    z = torch.randn(1, 100).expand(2, 100)
    before = generator(z, torch.tensor([0, 1]))
    generator.block3[1].shift.weight.data[1] += 1
    after = generator(z, torch.tensor([0, 1]))
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_one_per_class_asks_each_generator_for_its_own_class_in_order():
    model = OnePerClass(gan_config(), n_classes=3).eval()
    z, y = torch.randn(5, 100), torch.tensor([2, 0, 2, 1, 0])
    drawn = model(z, y)
    for row, c in enumerate(y.tolist()):
        alone = model.generators[c](z[row : row + 1], torch.zeros(1, dtype=torch.int64))
        torch.testing.assert_close(drawn[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    assert [s.shape for s in model.attention_maps(z, y)] == [(5, 1, 4, 4), (5, 1, 7, 7), (5, 1, 14, 14)]


def test_the_fast_nets_first_layer_whitens_patches_and_stays():
    torch.manual_seed(0)
    net, x = FastCNN(3, 10), torch.rand(200, 3, 32, 32) * 2 - 1
    x[:, 1] = 0.5 * x[:, 0] + 0.5 * x[:, 1]  # channels that hang together, as those of photographs do
    net.whiten(x)
    patches = net[0](x)[:, :12].detach().permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(patches.cov(), torch.eye(12), rtol=0, atol=0.06)
    torch.testing.assert_close(net[0].weight[12:], -net[0].weight[:12])
    assert not net[0].weight.requires_grad
    assert n_parameters(net) == 1_972_792
