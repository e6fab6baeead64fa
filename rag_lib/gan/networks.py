"""The deep residual attention generation network (section 1.1, Fig. 1) and its discriminator."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from rag_lib.gan.attention import SPAM, attention_module
from rag_lib.gan.fast_convolution import Conv2d, ConvToPoint, ConvTranspose2d, DConvOfPoint
from rag_lib.settings.config import GanConfig

# Length of the one-hot label beside z, whose length is about 10. Of 1, 2.5, 4 and 10 this is the one with which G obeys
# the label soonest (MNIST, 600 to 2,500 iterations): a 1 is hardly heard among a hundred numbers, a 10 drowns them.
LABEL_SCALE = 4.0


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift each class has of its own (Dumoulin et al. 2017, de Vries et al. 2017)."""

    def __init__(self, channels: int, n_classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        # as deviations from 1 and 0, so that weight decay draws every class to plain normalisation
        self.scale, self.shift = nn.Embedding(n_classes, channels), nn.Embedding(n_classes, channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scale, shift = (of_class(table, y)[:, :, None, None] for table in (self.scale, self.shift))
        return self.norm(x) * (1 + scale) + shift


def of_class(table: nn.Embedding, y: Tensor) -> Tensor:
    """Return the rows of the classes `y` (int64, N), or their sums with the weights `y` (N x classes)."""
    return y @ table.weight if y.is_floating_point() else table(y)


class Block(nn.Sequential):
    """DConv, batch norm (of the class where `g_norm` is `conditional`), ReLU, attention."""

    def __init__(self, dconv: nn.ConvTranspose2d, config: GanConfig, n_classes: int):
        n = dconv.out_channels
        conditional = config.g_norm == "conditional"
        norm = ConditionalBatchNorm(n, n_classes) if conditional else nn.BatchNorm2d(n)
        super().__init__(dconv, norm, nn.ReLU(), attention_module(config.attention, n, config.residual))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        dconv, norm, relu, attention = self
        h = dconv(x)
        h = norm(h, y) if isinstance(norm, ConditionalBatchNorm) else norm(h)
        return attention(relu(h))


class Generator(nn.Module):
    """Four transposed convolutions (DConv) and three SPAMs: z and a label to an image in [-1, 1].

    With w = `width`, for images of 28 (32) pixels a side:
        z, one-hot label  N x (z_dim + classes) x 1 x 1
        block 1           N x 4w x 4 x 4
        block 2           N x 2w x 7 x 7    (8 x 8)
        block 3           N x w x 14 x 14   (16 x 16)
        DConv 4, Tanh     N x C x 28 x 28   (32 x 32)
    A block is DConv, batch norm, ReLU, SPAM.

    Where labels do not come from the generator (`labels`: `pseudo`), `n_classes` is 1: an unconditional
    generator is a conditional one with a single class.
    """

    def __init__(self, config: GanConfig, n_classes: int):
        super().__init__()
        w, data = config.width, config.data
        self.z_dim, self.n_classes = config.z_dim, n_classes
        self.block1 = Block(DConvOfPoint(config.z_dim + n_classes, 4 * w, 4), config, n_classes)
        kernel = 3 if data.size == 28 else 4
        self.block2 = Block(ConvTranspose2d(4 * w, 2 * w, kernel, 2, 1), config, n_classes)
        self.block3 = Block(ConvTranspose2d(2 * w, w, 4, 2, 1), config, n_classes)
        self.dconv4 = nn.ConvTranspose2d(w, data.channels, 4, 2, 1)
        self.apply(dcgan_init)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """`z`: N x z_dim, `y`: int64, N; gives N x C x H x W in [-1, 1].

        Between classes: `y` as weights, N x classes in the floating point of `z`, that sum to 1 in each row.
        """
        weights = y if y.is_floating_point() else F.one_hot(y, self.n_classes).to(z.dtype)
        h = torch.cat([z, LABEL_SCALE * weights], 1)[:, :, None, None]
        for block in (self.block1, self.block2, self.block3):
            h = block(h, y)
        return self.dconv4(h).tanh()

    def attention_maps(self, z: Tensor, y: Tensor) -> list[Tensor]:
        """Return the three SPAMs' S for these inputs, each N x 1 x h x w in (0, 1); empty without SPAM."""
        maps: list[Tensor] = []
        spams = [m for m in self.modules() if isinstance(m, SPAM)]
        hooks = [m.register_forward_hook(lambda m, inputs, _: maps.append(m.attention(inputs[0]))) for m in spams]
        with evaluating(self):
            self(z, y)
        for hook in hooks:
            hook.remove()
        return [s.mean(1, keepdim=True) for s in maps]


class OnePerClass(nn.Module):
    """A generator a class, each trained on its class alone: the label selects one."""

    def __init__(self, config: GanConfig, n_classes: int):
        super().__init__()
        self.z_dim, self.n_classes = config.z_dim, n_classes
        self.generators = nn.ModuleList(Generator(config, 1) for _ in range(n_classes))

    def by_class(self, of_one: Callable[[Generator, Tensor, Tensor], Tensor], z: Tensor, y: Tensor) -> Tensor:
        """`of_one(generator, z, y)` with each class's generator on its own rows, in the rows' order."""
        rows = [(y == c).nonzero().flatten() for c in range(self.n_classes)]
        parts = [(i, one) for i, one in zip(rows, self.generators, strict=True) if len(i)]
        results = torch.cat([of_one(one, z[i], torch.zeros_like(i)) for i, one in parts])
        return results[torch.cat([i for i, _ in parts]).argsort()]

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """`z`: N x z_dim, `y`: int64, N; gives N x C x H x W in [-1, 1]."""
        return self.by_class(lambda one, z, y: one(z, y), z, y)

    def attention_maps(self, z: Tensor, y: Tensor) -> list[Tensor]:
        """Return the three SPAMs' S for these inputs, as `Generator.attention_maps`."""
        n_maps = len(self.generators[0].attention_maps(z[:1], y[:1] * 0))
        return [self.by_class(lambda one, z, y, i=i: one.attention_maps(z, y)[i], z, y) for i in range(n_maps)]


class Discriminator(nn.Module):
    """Four convolutions: an image and a label to the logit of the probability that the image is real.

    With w = `width`, for images of 28 (32) pixels a side:
        image              N x C x 28 x 28   (32 x 32)
        Conv 1, LeakyReLU  N x w x 14 x 14   (16 x 16)
        Conv 2, norm, ...  N x 2w x 7 x 7    (8 x 8)
        Conv 3, norm, ...  N x 4w x 4 x 4
        Conv 4             N x 1 x 1 x 1
    The label enters by projection (Miyato and Koyama 2018): its embedding times the features' sum. The norm
    is batch norm (`d_norm`: `batch`) or none; with `spectral` every weight is divided by its largest singular
    value (Miyato et al. 2018).
    """

    def __init__(self, config: GanConfig, n_classes: int):
        super().__init__()
        w, data = config.width, config.data
        # batch norm makes an image's logit depend on its batch
        self.sees_the_batch = config.d_norm == "batch"
        norm = nn.BatchNorm2d if self.sees_the_batch else nn.Identity
        bias = not self.sees_the_batch  # batch norm has its own shift
        self.features = nn.Sequential(
            nn.Conv2d(data.channels, w, 4, 2, 1),
            nn.LeakyReLU(0.2),
            Conv2d(w, 2 * w, 4, 2, 1, bias=bias),
            norm(2 * w),
            nn.LeakyReLU(0.2),
            Conv2d(2 * w, 4 * w, 3 if data.size == 28 else 4, 2, 1, bias=bias),
            norm(4 * w),
            nn.LeakyReLU(0.2),
        )
        self.conv4 = ConvToPoint(4 * w, 1, 4)
        self.embedding = nn.Embedding(n_classes, 4 * w)
        self.apply(dcgan_init)
        if config.d_norm == "spectral":
            for layer in [*self.features, self.conv4, self.embedding]:
                if hasattr(layer, "weight"):
                    spectral_norm(layer)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """`x`: N x C x H x W in [-1, 1], `y`: int64, N; gives logits, N."""
        h = self.features(x)
        return self.conv4(h).flatten() + (self.embedding(y) * h.sum((2, 3))).sum(1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Batch norm by what it has learned, in full precision, without gradients; then each module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(next(model.parameters()).device.type, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True


def dcgan_init(module: nn.Module) -> None:
    """Draw normal weights of deviation 0.02, as in DCGAN (Radford et al. 2016)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.normal_(module.weight, 1, 0.02)
