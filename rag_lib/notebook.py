"""What the notebooks need: their parameters, checked, as settings; and their figures, with a text for each."""

import ast
from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import DisplayHandle, Image, display
from matplotlib.figure import Figure

from rag_lib.base import UserError
from rag_lib.figures.charts import save, use_style
from rag_lib.study.resolve import settings_for

Made = TypeVar("Made")

# the line with which papermill heads the cell that it writes its parameters into
_INJECTED = "# Parameters\n"


def settings(make: Callable[..., Made] = settings_for, /, **parameters: Any) -> Made:
    """What `make` gives for the notebook's parameters (one study's settings, or a plan of several); the figures' style.

    papermill only warns of a parameter that the notebook does not have; here it is a `UserError`.
    """
    shell = get_ipython()
    cells = shell.user_ns.get("In", []) if shell else []
    for name in injected_names(cells):
        if name not in parameters:
            raise UserError(f"parameter {name!r} is unknown; this notebook has {', '.join(parameters)}")
    use_style()
    pd.options.display.max_colwidth = None  # a comparison is told whole
    return make(**parameters)


def injected_names(cells: list[str]) -> list[str]:
    """The variables that papermill's cell among these (a session's inputs, in order) assigns."""
    sources = [cell for cell in cells if cell.startswith(_INJECTED)]
    assignments = (node for cell in sources for node in ast.parse(cell).body if isinstance(node, ast.Assign))
    return [target.id for node in assignments for target in node.targets if isinstance(target, ast.Name)]


def show(figure: Figure, name: str, alt: str, picture: bool = False, handle: DisplayHandle | None = None) -> None:
    """Save a figure as `plots.save` does, close it, and display it with a text for those who do not see it.

    `handle`: of a display that the figure replaces.
    """
    shown = image(figure, name, alt, picture)
    if handle is None:
        display(shown)
    else:
        handle.update(shown)


def image(figure: Figure, name: str, alt: str, picture: bool = False) -> Image:
    """Save and close a figure; return what displays it, at half of the saved one's resolution."""
    save(figure, name, picture)
    png = BytesIO()
    figure.savefig(png, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)  # so that the notebook does not draw it once more
    return Image(png.getvalue(), alt=alt)
