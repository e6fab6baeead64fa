"""The rivals: the loops that one would write first, on the same models, batches and images.

Images come from torchvision's datasets through PIL transforms and a DataLoader. The GAN's step is that of
PyTorch's DCGAN tutorial, the classifiers' that of torchvision's reference training; both in fp32, as they are
there, and in bf16 by autocast, which tells what precision brings from what the rest does.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as transforms

from rag_lib.classifiers.networks import build
from rag_lib.data.images import Images
from rag_lib.gan import fast_convolution
from rag_lib.gan.networks import Discriminator, Generator
from rag_lib.runtime.numerics import autocast, pick_device
from rag_lib.settings.config import ClassifierConfig, DataConfig, GanConfig

TRIAL_SECONDS = 2.0  # for each number of workers


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


class Batches:
    """An endless stream from a DataLoader with 0, 1 or 2 workers, whichever makes `step` fastest."""

    def __init__(self, images: Images, config: GanConfig | ClassifierConfig, step: Callable):
        data, device = dataset(images, config.data), pick_device()
        timed = {}
        for workers in (0, 1, 2):
            loader = DataLoader(
                data, config.batch_size, shuffle=True, drop_last=True, num_workers=workers,
                persistent_workers=workers > 0,
            )  # fmt: skip
            self.ahead, self.stream = workers * (loader.prefetch_factor or 0), self._endless(loader, device)
            step(*next(self.stream))
            self.settle()
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < TRIAL_SECONDS:
                step(*next(self.stream))
                steps += 1
            timed[(time.perf_counter() - start) / steps] = self.ahead, self.stream
        self.ahead, self.stream = timed[min(timed)]

    @staticmethod
    def _endless(loader: DataLoader, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for x, y in loader:
                yield x.to(device), y.to(device)

    def settle(self) -> None:
        """Throws away what the workers have fetched ahead while nobody took the time."""
        for _ in range(self.ahead):
            next(self.stream)


def gan_step(config: GanConfig, n_classes: int, precision: str) -> Callable[[Tensor, Tensor], None]:
    """One iteration of the DCGAN tutorial."""
    device = pick_device()
    G, D = Generator(config, n_classes).to(device), Discriminator(config, n_classes).to(device)
    for module in [*G.modules(), *D.modules()]:  # torch's own layers, in place of ours that compute the same faster
        if type(module).__module__ == fast_convolution.__name__:
            base = nn.ConvTranspose2d if isinstance(module, nn.ConvTranspose2d) else nn.Conv2d
            module.forward = partial(base.forward, module)
    criterion = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(config.batch_size, device=device), torch.zeros(config.batch_size, device=device)
    adam_g, adam_d = (
        torch.optim.Adam(net.parameters(), config.lr, (config.beta1, config.beta2), weight_decay=config.weight_decay)
        for net in (G, D)
    )

    def judged(images: Tensor, y: Tensor, target: Tensor) -> Tensor:
        with autocast(precision, device):
            logits = D(images, y)
        return criterion(logits.float(), target)

    def step(real: Tensor, y: Tensor) -> None:
        D.zero_grad()
        judged(real, y, ones).backward()
        with autocast(precision, device):
            fake = G(torch.randn(len(real), config.z_dim, device=device), y)
        judged(fake.detach(), y, zeros).backward()
        adam_d.step()
        G.zero_grad()
        judged(fake, y, ones).backward()
        adam_g.step()

    return step


def classifier_parts(config: ClassifierConfig, n_classes: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = build(config, n_classes).to(pick_device()).train()
    return model, torch.optim.Adam(model.parameters(), config.lr, weight_decay=config.weight_decay)


def classifier_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, precision: str
) -> Callable[[Tensor, Tensor], None]:
    """One iteration of torchvision's reference training."""

    def step(x: Tensor, y: Tensor) -> None:
        with autocast(precision, x.device):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def plain(images: Images, config: GanConfig | ClassifierConfig, count: Callable, precision: str = "fp32") -> None:
    """Trains for ever; `count(settle)` is called after every step."""
    n_classes = len(images.classes)
    if isinstance(config, GanConfig):
        step = gan_step(config, n_classes, precision)
    else:
        step = classifier_step(*classifier_parts(config, n_classes), precision)
    batches = Batches(images, config, step)
    while True:
        step(*next(batches.stream))
        count(batches.settle)


def plain_bf16(images: Images, config: GanConfig | ClassifierConfig, count: Callable) -> None:
    plain(images, config, count, "bf16")


def ignite(images: Images, config: ClassifierConfig, count: Callable) -> None:
    """The classifier's rival from PyPI: pytorch-ignite's supervised trainer."""
    from ignite.engine import Events, create_supervised_trainer

    trainer = create_supervised_trainer(*classifier_parts(config, len(images.classes)), F.cross_entropy)
    batches = Batches(images, config, lambda x, y: trainer.run([(x, y)], max_epochs=1))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: count(batches.settle))
    trainer.run(batches.stream, max_epochs=1, epoch_length=10**9)
