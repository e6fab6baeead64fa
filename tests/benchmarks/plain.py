"""The rivals: the loops that one would write first, on the same models, batches and images.

Images come from torchvision's datasets through PIL transforms and a DataLoader, everything is fp32. The GAN's
step is that of PyTorch's DCGAN tutorial, the classifiers' that of torchvision's reference training.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as transforms

from rag_lib.config import ClassifierConfig, DataConfig, GanConfig
from rag_lib.images import Images
from rag_lib.models import convolution
from rag_lib.models.gan import Discriminator, Generator
from rag_lib.train_classifier import build


def dataset(images: Images, config: DataConfig) -> Dataset:
    """torchvision's own dataset, which makes a PIL image of each array, with the paper's preprocessing."""
    steps = [transforms.RandomCrop(config.size)] if config.size < config.stored_size else []
    steps += [
        transforms.RandomRotation(config.rotation, transforms.InterpolationMode.BICUBIC),
        transforms.RandomAutocontrast(p=1.0),
        transforms.ToImage(),
        transforms.ToDtype(torch.float32, scale=True),
        transforms.Normalize([0.5], [0.5]),
    ]
    kind = torchvision.datasets.MNIST if config.channels == 1 else torchvision.datasets.CIFAR10
    result = kind.__new__(kind)  # without its constructor, which looks for files
    result.transform, result.target_transform = transforms.Compose(steps), None
    result.targets = images.y.tolist()
    result.data = images.x[:, 0] if config.channels == 1 else images.x.permute(0, 2, 3, 1).numpy()
    return result


def batches(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def best_loader(images: Images, config: DataConfig, batch_size: int, step: Callable) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches from a DataLoader with 0, 1 or 2 workers, whichever makes `step` fastest."""
    data, timed = dataset(images, config), {}
    for workers in (0, 1, 2):
        loader = DataLoader(
            data, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
        )
        stream = batches(loader)
        for _ in range(2):
            step(*next(stream))
        start = time.perf_counter()
        for _ in range(8):
            step(*next(stream))
        timed[time.perf_counter() - start] = stream
    return timed[min(timed)]


def gan(images: Images, config: GanConfig) -> Iterator[None]:
    """One iteration of the DCGAN tutorial's loop for each `next`."""
    G, D = Generator(config, len(images.classes)), Discriminator(config, len(images.classes))
    for module in [*G.modules(), *D.modules()]:  # torch's own layers, in place of ours that compute the same faster
        if type(module).__module__ == convolution.__name__:
            base = nn.ConvTranspose2d if isinstance(module, nn.ConvTranspose2d) else nn.Conv2d
            module.forward = partial(base.forward, module)
    criterion = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(config.batch_size), torch.zeros(config.batch_size)
    adam_g, adam_d = (
        torch.optim.Adam(net.parameters(), config.lr, (config.beta1, config.beta2), weight_decay=config.weight_decay)
        for net in (G, D)
    )

    def step(real: Tensor, y: Tensor) -> None:
        D.zero_grad()
        loss_real = criterion(D(real, y), ones)
        loss_real.backward()
        fake = G(torch.randn(len(real), config.z_dim), y)
        loss_fake = criterion(D(fake.detach(), y), zeros)
        loss_fake.backward()
        adam_d.step()
        G.zero_grad()
        criterion(D(fake, y), ones).backward()
        adam_g.step()

    return run(step, images, config)


def classifier(images: Images, config: ClassifierConfig) -> Iterator[None]:
    """One iteration of torchvision's reference loop for each `next`."""
    model = build(config, len(images.classes)).train()
    criterion = nn.CrossEntropyLoss()
    adam = torch.optim.Adam(model.parameters(), config.lr, weight_decay=config.weight_decay)

    def step(x: Tensor, y: Tensor) -> None:
        loss = criterion(model(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()

    return run(step, images, config)


def ignite_classifier(images: Images, config: ClassifierConfig) -> Iterator[None]:
    """The same from PyPI: one iteration of pytorch-ignite's supervised trainer for each `next`."""
    from ignite.engine import create_supervised_trainer

    model = build(config, len(images.classes)).train()
    adam = torch.optim.Adam(model.parameters(), config.lr, weight_decay=config.weight_decay)
    trainer = create_supervised_trainer(model, adam, nn.CrossEntropyLoss())
    return run(lambda x, y: trainer.run([(x, y)], max_epochs=1), images, config)


def run(step: Callable, images: Images, config: GanConfig | ClassifierConfig) -> Iterator[None]:
    stream = best_loader(images, config.data, config.batch_size, step)
    while True:
        yield step(*next(stream))
