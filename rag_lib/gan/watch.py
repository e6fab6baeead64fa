"""Who looks at a GAN while it trains: how diverse its images are, what goes wrong, in a line with what to try."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from rag_lib.settings.config import GanConfig

# called with the rows of the history so far and the folder of the samples
Watch = Callable[[Sequence[dict[str, float]], Path], None]

FEWEST = 10  # rows of the history before anything is said: all GANs begin badly
D_WINS = 0.8  # D(x) - D(G(z)), as probabilities
DIVERGES = 10.0  # a mean loss in nats: D is wrong by a factor of e^10
COLLAPSED = 0.3  # diversity
ONE_COLLAPSED = 0.15  # the lowest one of a class, which rests on few pairs


def findings(history: pd.DataFrame, config: GanConfig) -> dict[str, str]:
    """Return what is wrong in the last tenth of a history, by name, each with what to try; empty where nothing is."""
    if len(history) < FEWEST:
        return {}
    last = history.tail(max(5, len(history) // 10)).mean()
    found = {}
    augment = [] if config.diff_augment else ["gan.diff_augment=True"]  # nothing that is there already
    if config.loss != "hinge" and last["d_real"] - last["d_fake"] > D_WINS:  # hinge makes no probabilities
        remedies = augment if config.d_norm == "spectral" else ["gan.d_norm=spectral"]
        found["D wins"] = (
            f"it takes real images for real with {last['d_real']:.2f}, generated ones with "
            f"{last['d_fake']:.2f}, so G may learn little; try {' or '.join([*remedies, 'a smaller gan.lr'])}"
        )
    if max(abs(last["loss_d"]), abs(last["loss_g"])) > DIVERGES:
        found["the losses run away"] = (
            f"D's is {last['loss_d']:.1f}, G's {last['loss_g']:.1f}; try a smaller gan.lr or gan.beta1=0.0"
        )
    remedies = " or ".join([*augment, "a smaller gan.lr", "more real images"])
    if last["diversity"] < COLLAPSED:
        found["samples collapse"] = (
            f"images of a class differ {last['diversity']:.2f} times as much as real ones do; try {remedies}"
        )
    elif last["diversity_saved"] < COLLAPSED:
        found["what is saved collapses"] = (
            f"images of a class from the generator that is saved differ {last['diversity_saved']:.2f} times as much as "
            f"real ones do; try {' or '.join(['more gan.steps', *(['a smaller gan.ema'] if config.ema else [])])}"
        )
    elif last["diversity_lowest"] < ONE_COLLAPSED:
        found["a class collapses"] = (
            f"its images differ {last['diversity_lowest']:.2f} times as much as real ones do; the samples show which; "
            f"try {remedies}"
        )
    return found


class Alarm:
    """Prints each thing that goes wrong once a training, on stderr."""

    handle = None  # IPython's, of a figure that moved: where there is one, the figure of the whole training replaces it

    def __init__(self, config: GanConfig):
        self.config = config
        self.said: set[str] = set()
        self.step = 0

    def __call__(self, history: Sequence[dict[str, float]], samples: Path) -> None:
        step = history[-1]["step"]
        if step < self.step:  # another class's generator
            self.said = set()
        self.step = step
        for name, text in findings(pd.DataFrame(history), self.config).items():
            if name not in self.said:
                where = f"GAN of seed {self.config.seed}, step {step:,}"
                tqdm.write(f"{where}: {name}: {text}", file=sys.stderr)  # beside a bar, not into it
                self.said.add(name)


def diversity(real: Tensor, fake: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """How far apart generated images of a class lie, over how far real ones do: 0 where each class is one image.

    Summed distances, pixel by pixel, of the pairs of a batch that share a label; `real` and `fake` N x C x H x W, with
    the labels `y`. Two scalars, of all classes together and the lowest of any; near 1 for a good generator (the lowest
    0.76 for other real images of CIFAR-10, in batches of 64), larger for noise; not a number where no label comes
    twice, or real images of a label do not differ.
    """
    same = (y[:, None] == y).triu(1)
    # a quarter of the pixels says as much, and keeps this below a hundredth of a step's time
    pixels = (x.float()[..., ::2, ::2].flatten(1) for x in (fake, real))
    of_fake, of_real = ((torch.cdist(x, x) * same).sum(1) for x in pixels)
    together = torch.where(of_real.sum() > 0, of_fake.sum() / of_real.sum(), torch.nan)
    members = (y[:, None] == y).to(of_real.dtype)  # a row an image: each has its class's ratio
    fake_of_class, real_of_class = members @ of_fake, members @ of_real
    lowest = torch.where(real_of_class > 0, fake_of_class / real_of_class, torch.inf).min()
    return together, torch.where(lowest.isinf(), torch.nan, lowest)
