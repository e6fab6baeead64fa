"""The training as a figure that moves, where somebody looks on in JupyterLab."""

import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import DisplayHandle, Image
from matplotlib.figure import Figure

from rag_lib.config import GanConfig
from rag_lib.galleries import below, step_of
from rag_lib.plots import drawn, gan_curves
from rag_lib.progress import live_front_end
from rag_lib.watch import Warnings

SECONDS_BETWEEN = 3.0  # two drawings at least, and more where
MAX_SHARE = 0.05  # of the time would go into them


def watcher(config: GanConfig) -> Warnings:
    """A figure that moves in JupyterLab; elsewhere progress and warnings as lines, and the figure at the end."""
    return LiveFigure(config) if live_front_end() else Warnings(config)


class LiveFigure(Warnings):
    """Draw the curves so far and the newest samples, where `handle` is; `notebook.show` puts the whole there."""

    def __init__(self, config: GanConfig):
        super().__init__(config)
        self.due = 0.0

    def __call__(self, history: Sequence[dict[str, float]], samples: Path) -> None:
        super().__call__(history, samples)
        start = time.monotonic()
        if start >= self.due:
            # a run that goes on from a checkpoint may have left later ones
            so_far = [p for p in samples.glob("step-*.png") if step_of(p) <= history[-1]["step"]]
            figure = gan_curves(pd.DataFrame(history))
            if so_far:
                below(figure, max(so_far))
            self._put(figure)
            now = time.monotonic()
            self.due = now + max(SECONDS_BETWEEN, (now - start) / MAX_SHARE)

    def _put(self, figure: Figure) -> None:
        png = drawn(figure, dpi=100)
        plt.close(figure)  # so that the notebook does not draw it once more
        image = Image(png, alt="The losses so far, and the newest generated images.")
        if self.handle is None:
            self.handle = DisplayHandle()
            self.handle.display(image)
        else:
            self.handle.update(image)
