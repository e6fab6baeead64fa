"""What the notebooks need: their parameters, checked, as settings; and their figures, with a text for each."""

import ast
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import DisplayHandle, Image, Markdown, display
from matplotlib.figure import Figure

from rag_lib.errors import UserError
from rag_lib.plots import drawn, save, use_style
from rag_lib.study import settings_for

Made = TypeVar("Made")

# the line with which papermill heads the cell that it writes its parameters into
_INJECTED = "# Parameters\n"


def settings(make: Callable[..., Made] = settings_for, /, **parameters: Any) -> Made:
    """What `make` gives for the notebook's parameters (one study's settings, or a plan of several); sets the style."""
    shell = get_ipython()
    check_injected(shell.user_ns.get("In", []) if shell else [], parameters)
    use_style()
    pd.options.display.max_colwidth = None  # a comparison is told whole
    Markdown.__repr__ = lambda text: text.data  # what logs and scripts print of it
    return make(**parameters)


def check_injected(cells: Sequence[str], known: Collection[str]) -> None:
    """Look at papermill's cell where it is the last of these, a session's inputs, that sets parameters.

    Prints what it sets otherwise than the first cell, which may have been edited since. papermill only warns of a
    parameter that the notebook does not have; here it is a `UserError`.
    """
    setting = [cell for cell in cells if cell.startswith(_INJECTED) or assigned(cell).keys() & set(known)]
    if not setting or not setting[-1].startswith(_INJECTED):
        return
    given = assigned(setting[-1])
    for name in given:
        if name not in known:
            raise UserError(
                f"parameter {name!r} is unknown; this notebook has {', '.join(known)}; once papermill's cell is mended "
                "or deleted, run all cells again"
            )
    first = assigned(next((cell for cell in reversed(setting) if not cell.startswith(_INJECTED)), ""))
    if other := [f"{name} = {value}" for name, value in given.items() if first.get(name, value) != value]:
        print(f"papermill's cell sets {', '.join(other)}; delete it to use what the first cell says")


def assigned(cell: str) -> dict[str, str]:
    """The variables that a cell assigns, each with its value's source; none where it is not Python."""
    with suppress(SyntaxError, ValueError):
        assignments = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
        pairs = [(target, node.value) for node in assignments for target in node.targets]
        return {target.id: ast.unparse(value) for target, value in pairs if isinstance(target, ast.Name)}
    return {}


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
    png = drawn(figure, dpi=100)
    plt.close(figure)  # so that the notebook does not draw it once more
    return Image(png, alt=alt)
