"""Who looks at a GAN while it trains: what goes wrong, in a line with what to try."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from rag_lib.config import GanConfig
from rag_lib.progress import to_set

# called with the rows of the history so far and the folder of the samples
Watch = Callable[[Sequence[dict[str, float]], Path], None]

FEWEST = 10  # rows of the history before anything is said: all GANs begin badly
D_WINS = 0.8  # D(x) - D(G(z)), as probabilities
DIVERGES = 10.0  # a mean loss in nats: D is wrong by a factor of e^10
COLLAPSED = 0.3  # diversity: `train_gan.diversity`
ONE_COLLAPSED = 0.15  # the lowest one of a class, which rests on few pairs


def findings(history: pd.DataFrame, config: GanConfig) -> dict[str, str]:
    """What is wrong in the last tenth of this history, by name, each with what to try; empty where nothing is.

    Looks for a discriminator that has won, losses that run away, and a generator that has collapsed.
    """
    if len(history) < FEWEST:
        return {}
    last = history.tail(max(5, len(history) // 10)).mean()
    found = {}
    augment = [] if config.diff_augment else [to_set("gan.diff_augment", True)]  # nothing that is there already
    if config.loss != "hinge" and last["d_real"] - last["d_fake"] > D_WINS:  # hinge makes no probabilities
        remedies = augment if config.d_norm == "spectral" else [to_set("gan.d_norm", "spectral")]
        found["D wins"] = (
            f"it takes real images for real with {last['d_real']:.2f}, generated ones with "
            f"{last['d_fake']:.2f}, so G may learn little; try {' or '.join([*remedies, 'a smaller gan.lr'])}"
        )
    if max(abs(last["loss_d"]), abs(last["loss_g"])) > DIVERGES:
        found["the losses run away"] = (
            f"D's is {last['loss_d']:.1f}, G's {last['loss_g']:.1f}; try a smaller gan.lr or {to_set('gan.beta1', 0.0)}"
        )
    remedies = " or ".join([*augment, "a smaller gan.lr", "more real images"])
    if last.get("diversity", 1.0) < COLLAPSED:  # histories of older versions have none
        found["samples collapse"] = (
            f"images of a class differ {last['diversity']:.2f} times as much as real ones do; try {remedies}"
        )
    elif last.get("diversity_lowest", 1.0) < ONE_COLLAPSED:
        found["a class collapses"] = (
            f"its images differ {last['diversity_lowest']:.2f} times as much as real ones do; the samples show which; "
            f"try {remedies}"
        )
    return found


class Warnings:
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
                tqdm.write(f"step {step:,}: {name}: {text}", file=sys.stderr)  # beside a bar, not into it
                self.said.add(name)
