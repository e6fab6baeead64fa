"""The training as a figure that moves, where somebody looks on in JupyterLab."""

import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import DisplayHandle, Image
from matplotlib.figure import Figure

from rag_lib.config import GanConfig
from rag_lib.plots import gan_curves, step_of
from rag_lib.progress import live_front_end
from rag_lib.watch import Warnings

SECONDS_BETWEEN = 3.0  # two drawings at least, and more where
MAX_SHARE = 0.05  # of the time would go into them


def watcher(config: GanConfig) -> Warnings:
    """A figure that moves in JupyterLab; elsewhere progress and warnings as lines, and the figure at the end."""
    return LiveFigure(config) if live_front_end() else Warnings(config)


class LiveFigure(Warnings):
    """The curves so far and the newest samples; `show` puts the figure of the whole training in their place."""

    def __init__(self, config: GanConfig):
        super().__init__(config)
        self.handle: DisplayHandle | None = None  # a run that is there already moves nothing
        self.due = 0.0

    def __call__(self, history: Sequence[dict[str, float]], samples: Path) -> None:
        super().__call__(history, samples)
        start = time.monotonic()
        if start >= self.due:
            # a run that goes on from a checkpoint may have left later ones
            so_far = [p for p in samples.glob("step-*.png") if step_of(p) <= history[-1]["step"]]
            newest = max(so_far, default=None)
            self._put(gan_curves(pd.DataFrame(history), newest))
            now = time.monotonic()
            self.due = now + max(SECONDS_BETWEEN, (now - start) / MAX_SHARE)

    def show(self, figure: Figure) -> None:
        if self.handle is not None:
            self._put(figure)

    def _put(self, figure: Figure) -> None:
        png = BytesIO()
        figure.savefig(png, format="png", dpi=100, bbox_inches="tight")
        plt.close(figure)  # so that the notebook does not draw it once more
        if self.handle is None:
            self.handle = DisplayHandle()
            self.handle.display(Image(png.getvalue()))
        else:
            self.handle.update(Image(png.getvalue()))
