"""Figures that move in JupyterLab: the latent space under one's fingers, and a training while it runs."""

import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
from IPython.display import DisplayHandle, display
from matplotlib.figure import Figure
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from rag_lib.figures.charts import gan_curves
from rag_lib.figures.galleries import below, step_of
from rag_lib.figures.style import save, shown
from rag_lib.gan.networks import Generator, OnePerClass
from rag_lib.gan.watch import Alarm
from rag_lib.runtime.progress import live_front_end
from rag_lib.settings.config import GanConfig
from rag_lib.synthetic import latent
from rag_lib.synthetic.generate import attention_maps

SEEDS = 1_000
PIXELS = 336  # a side of the picture

SECONDS_BETWEEN = 3.0  # two drawings at least, and more where
MAX_SHARE = 0.05  # of the time would go into them


def show(generator: Generator | OnePerClass, stand_in: Figure, name: str, alt: str) -> None:
    """Show the explorer where a front end has widgets; elsewhere `stand_in`, which is saved under its name."""
    save(stand_in, name, picture=True)
    picture = shown(stand_in, alt, picture=True)
    if live_front_end():
        # whoever opens the saved notebook without its kernel sees the stand-in
        data, metadata = picture._repr_mimebundle_()
        display(explorer(generator)._repr_mimebundle_() | data, metadata=metadata, raw=True)
    else:
        display(picture)


def explorer(generator: Generator | OnePerClass) -> widgets.HBox:
    """Return the picture and the controls that lead to it, as a box of the CSS class `rag-explorer`."""
    classes = [(name, c) for c, name in enumerate(latent.names(generator))]
    # -1, since a list takes None for nothing chosen
    n_maps = len(attention_maps(generator, 1, seed=0))
    maps = [("none", -1)] + [(f"S of SPAM {i + 1}", i) for i in range(n_maps)]
    wide = {"layout": widgets.Layout(width="32em")}
    controls = {
        "label": widgets.Dropdown(options=classes, description="class", **wide),
        "seed": widgets.IntSlider(0, max=SEEDS - 1, description="seed", **wide),
        "t": widgets.FloatSlider(min=0, max=1, step=0.02, description="on the way", **wide),
        "to_label": widgets.Dropdown(options=classes, index=min(1, len(classes) - 1), description="to class", **wide),
        "to_seed": widgets.IntSlider(1, max=SEEDS - 1, description="to seed", **wide),
        "spam": widgets.Dropdown(options=maps, description="attention", **wide),
    }
    image = widgets.Image(format="png", width=PIXELS, height=PIXELS)
    words = widgets.HTML()

    def update(_=None) -> None:
        at = {name: control.value for name, control in controls.items()}
        spam = at.pop("spam")
        x = latent.picture(generator, *latent.point(generator, **at), None if spam < 0 else spam)
        png = BytesIO()
        to_pil_image(x).resize((PIXELS, PIXELS), Image.Resampling.NEAREST).save(png, "PNG", compress_level=1)
        image.value = png.getvalue()
        words.value = f"<code>{'' if generator.config.labels == 'pseudo' else in_code(**at)}</code>"

    for control in controls.values():
        control.observe(update, "value")
    update()
    box = widgets.HBox([image, widgets.VBox([*controls.values(), words])])
    box.add_class("rag-explorer")
    return box


def in_code(label: int, seed: int, to_label: int, to_seed: int, t: float) -> str:
    """Say how to get this image without the explorer."""
    if t == 0:
        return f"synthetic.sample(generator, [{label}], seed={seed})"
    ends = f"{label}, {seed}, {to_label}, {to_seed}, {t:.2f}"
    return f"latent.picture(generator, *latent.point(generator, {ends}))"


def watcher(config: GanConfig) -> Alarm:
    """Return what draws a figure that moves in JupyterLab; elsewhere what prints warnings alone."""
    return LiveFigure(config) if live_front_end() else Alarm(config)


class LiveFigure(Alarm):
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
            image = shown(figure, "The losses so far, and the newest generated images.", picture=True)
            if self.handle is None:
                self.handle = DisplayHandle()
                self.handle.display(image)
            else:
                self.handle.update(image)
            now = time.monotonic()
            self.due = now + max(SECONDS_BETWEEN, (now - start) / MAX_SHARE)
