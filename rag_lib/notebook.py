"""What the notebooks' first cell needs: their parameters, checked, as settings."""

import ast
from collections.abc import Callable
from typing import Any, TypeVar

from IPython import get_ipython

from rag_lib.errors import UserError
from rag_lib.plots import use_style
from rag_lib.study import settings_for

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
    return make(**parameters)


def injected_names(cells: list[str]) -> list[str]:
    """The variables that papermill's cell among these (a session's inputs, in order) assigns."""
    sources = [cell for cell in cells if cell.startswith(_INJECTED)]
    assignments = (node for cell in sources for node in ast.parse(cell).body if isinstance(node, ast.Assign))
    return [target.id for node in assignments for target in node.targets if isinstance(target, ast.Name)]
