"""The latent space under one's fingers: dropdowns and sliders in JupyterLab."""

from io import BytesIO

import ipywidgets as widgets
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from rag_lib import notebook
from rag_lib.gan.networks import Generator, OnePerClass
from rag_lib.runtime.progress import live_front_end
from rag_lib.synthetic import latent
from rag_lib.synthetic.generate import to_pil

SEEDS = 1_000
PIXELS = 336  # a side of the picture


def show(generator: Generator | OnePerClass, stand_in: Figure, name: str, alt: str) -> None:
    """Show the explorer where a front end has widgets; elsewhere `stand_in`, which is saved under its name."""
    picture = notebook.image(stand_in, name, alt, picture=True)
    if live_front_end():
        # whoever opens the saved notebook without its kernel sees the stand-in
        data, metadata = picture._repr_mimebundle_()
        display(explorer(generator)._repr_mimebundle_() | data, metadata=metadata, raw=True)
    else:
        display(picture)


def explorer(generator: Generator | OnePerClass) -> widgets.HBox:
    """The picture and the controls that lead to it, as an ipywidgets box of the CSS class `rag-explorer`."""
    classes = [(name, c) for c, name in enumerate(latent.names(generator))]
    # -1, since a list takes None for nothing chosen
    maps = [("none", -1)] + [(f"S of SPAM {i + 1}", i) for i in range(latent.n_maps(generator))]
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
        spam = None if spam < 0 else spam
        image.value = as_png(latent.picture(generator, *latent.point(generator, **at), spam))
        words.value = f"<code>{in_code(**at) if generator.labeller is None else ''}</code>"

    for control in controls.values():
        control.observe(update, "value")
    update()
    box = widgets.HBox([image, widgets.VBox([*controls.values(), words])])
    box.add_class("rag-explorer")
    return box


def in_code(label: int, seed: int, to_label: int, to_seed: int, t: float) -> str:
    """How to get this image without the explorer."""
    if t == 0:
        return f"synthetic.sample(generator, [{label}], seed={seed})"
    ends = f"{label}, {seed}, {to_label}, {to_seed}, {t:.2f}"
    return f"latent.picture(generator, *latent.point(generator, {ends}))"


def as_png(x: Tensor) -> bytes:
    """A uint8 image, C x H x W, enlarged, as the bytes of a PNG file."""
    png = BytesIO()
    to_pil(x).resize((PIXELS, PIXELS), Image.Resampling.NEAREST).save(png, "PNG", compress_level=1)
    return png.getvalue()
