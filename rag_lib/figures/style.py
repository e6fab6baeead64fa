"""The study's look, and a figure as files and as the picture that a notebook shows."""

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from rag_lib.base import results_dir
from rag_lib.runtime.files import room_for, write_whole
from rag_lib.runtime.progress import in_kernel


def use_style() -> None:
    """Set the study's look, whatever the environment says: one size of text, and the same file bytes on every run.

    A kernel shows figures, whatever MPLBACKEND; any other process only saves them.
    """
    if in_kernel():
        from IPython import get_ipython

        get_ipython().enable_matplotlib("inline")
    else:
        plt.switch_backend("agg")
    mpl.rcdefaults()  # of a user's own matplotlibrc, text.usetex wants TeX
    # names of classes may come in any script; the first font that is installed and has the letters is taken
    fonts = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai"]
    fonts += ["Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "PingFang SC", "Hiragino Sans", "Arial Unicode MS"]
    installed = {font.name for font in mpl.font_manager.fontManager.ttflist}
    texts = ["font.size", "figure.titlesize", "axes.titlesize", "legend.fontsize", "legend.title_fontsize"]
    texts += ["axes.labelsize", "xtick.labelsize", "ytick.labelsize"]
    look = dict.fromkeys(texts, 10) | {
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "svg.hashsalt": "rag_lib",
        "font.family": [f for f in fonts if f in installed],
        "text.parse_math": False,  # a class may be named $5
        "figure.constrained_layout.wspace": 0.05,  # between panels, of their width
        "figure.constrained_layout.h_pad": 0.1,  # inches
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    sns.set_theme(style="whitegrid", context="notebook", palette="colorblind", rc=look)


def save(figure: Figure, name: str, picture: bool = False) -> Path:
    """Write `results/figures/<name>.png`, and a chart as `.svg` too; return the path of the first.

    `picture`: the figure is made of images, which an SVG could only enclose.
    """
    path = results_dir() / "figures" / f"{name}.png"
    with room_for(f"the figure {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not picture:
            write_whole(path.with_name(f"{name}.svg"), drawn(figure, format="svg", metadata={"Date": None}))
        write_whole(path, drawn(figure, palette=not picture))
    return path


def drawn(figure: Figure, palette: bool = False, **options: Any) -> bytes:
    """Return the figure's bytes, as PNG unless `options` (of `savefig`) say otherwise.

    `palette`: the PNG has 256 colours, enough for a chart, and a third of the bytes.
    """
    content = BytesIO()
    figure.savefig(content, bbox_inches="tight", **options)
    if palette:
        reduced = Image.open(content).convert("RGB").quantize()
        content = BytesIO()
        reduced.save(content, "PNG", optimize=True)
    return content.getvalue()


def shown(figure: Figure, alt: str, picture: bool = False) -> Any:
    """Return IPython's image of a figure, at half of the saved one's resolution, and close the figure."""
    from IPython import display  # absent where only the library is used

    image = display.Image(drawn(figure, palette=not picture, dpi=100), alt=alt)
    plt.close(figure)  # so that the notebook does not draw it once more
    return image
