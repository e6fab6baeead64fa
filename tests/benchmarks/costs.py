"""What a step of each workload is made of: operations and data."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from plain import classifier_step  # beside this file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rag_lib.classifiers.networks import build
from rag_lib.data.images import Images
from rag_lib.data.preprocess import draw_preprocessing, preprocess
from rag_lib.gan import train as train_gan
from rag_lib.gan.losses import LOSSES
from rag_lib.gan.networks import Discriminator, Generator
from rag_lib.runtime.numerics import autocast, batch_indices, keep_freed_memory, pick_device, pick_precision, rng
from rag_lib.runtime.optim import adam
from rag_lib.settings.config import ClassifierConfig, DataConfig, GanConfig

MNIST = DataConfig(dataset="mnist")
CIFAR = DataConfig(dataset="cifar10", channels=3, stored_size=32)


def workloads(precision: str = "auto") -> dict[str, GanConfig | ClassifierConfig]:
    """What is measured, by the name that the table gives it; `precision`: fp32, bf16 or auto."""
    found: dict[str, GanConfig | ClassifierConfig] = {}
    for shapes, data in (("MNIST", MNIST), ("CIFAR-10", CIFAR)):
        found[f"GAN, {shapes}"] = GanConfig(data=data, ema=0.995)
        found[f"GAN, D with spectral norm, {shapes}"] = GanConfig(data=data, ema=0.995, d_norm="spectral")
        found[f"cnn, {shapes}"] = ClassifierConfig(data=data)
    for name in ("resnet18", "resnet34", "resnet50", "resnet101"):
        found[f"{name}, imagenet stem, MNIST"] = ClassifierConfig(data=MNIST, model=name)
    for name in ("resnet18", "resnet34"):
        found[f"{name}, cifar stem, CIFAR-10"] = ClassifierConfig(data=CIFAR, model=name, stem="cifar")
    return {name: replace(config, precision=precision) for name, config in found.items()}


def random_images(config: DataConfig) -> Images:
    n = 60_000 if config.channels == 1 else 50_000
    shape = (n, config.channels, config.stored_size, config.stored_size)
    return Images(torch.randint(0, 256, shape, dtype=torch.uint8), torch.arange(n) % 10, tuple("0123456789"))


def synchronize() -> None:
    """Waits until the device has done what it was given."""
    if pick_device().type == "cuda":
        torch.cuda.synchronize()


def median_seconds(function, repeats: int) -> float:
    function(), function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak(precision: str) -> float:
    """Floating-point operations a second of a 1024 x 1024 matrix product in this precision."""
    a = torch.randn(1024, 1024, device=pick_device(), dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return 2 * 1024**3 / median_seconds(lambda: a @ a, 50)


def bare_step(config: GanConfig | ClassifierConfig) -> Callable[[], None]:
    """The step alone, always on the same batch: what is computed, without what feeds and records it."""
    device = pick_device()
    precision = pick_precision(config.precision, device)

    def on_device(network: nn.Module) -> nn.Module:
        return network.to(device, memory_format=torch.channels_last)

    x = torch.rand(config.batch_size, config.data.channels, config.data.size, config.data.size, device=device) * 2 - 1
    x, y = x.contiguous(memory_format=torch.channels_last), torch.arange(config.batch_size, device=device) % 10
    if isinstance(config, GanConfig):
        G, D = on_device(Generator(config, 10)), on_device(Discriminator(config, 10))
        adam_g, adam_d = adam(G, config), adam(D, config)
        z = torch.randn(config.batch_size, config.z_dim, device=device)

        def step() -> None:
            with autocast(precision, device):
                train_gan.gan_step(G, D, adam_g, adam_d, x, y, z, LOSSES["non_saturating"])

        return step
    model = on_device(build(config, 10)).train()
    return partial(classifier_step(model, adam(model, config), precision), x, y)


def operations(config: GanConfig | ClassifierConfig) -> float:
    """Floating-point operations of one step: its convolutions and matrix products, each counted once."""
    config = replace(config, precision="fp32")  # where all of them are operations that the counter knows
    step = bare_step(config)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def data_seconds(config: GanConfig | ClassifierConfig) -> float:
    """What a step spends on drawing and preprocessing its batch."""
    keep_freed_memory()
    images = random_images(config.data)
    steps = iter(range(1_000_000))

    def draw() -> None:
        step = next(steps)
        batch = images[batch_indices(len(images), config.batch_size, 0, step)]
        drawn = draw_preprocessing(len(batch), config.data, rng(0, step))
        preprocess(batch.x, config.data, **drawn).contiguous(memory_format=torch.channels_last)

    return median_seconds(draw, 200)
