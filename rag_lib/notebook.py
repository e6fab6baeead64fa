"""What the notebooks need: their parameters, checked, as settings; their figures; and who executes them, headless."""

import ast
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from IPython import get_ipython
from IPython.display import DisplayHandle, Markdown, display
from matplotlib.figure import Figure

from rag_lib.analysis.published import Study
from rag_lib.analysis.statistics import MIN_FOR_INTERVAL, contrasts, intervals
from rag_lib.base import ROOT, UserError, check_value, pretrained_names
from rag_lib.figures import charts, style
from rag_lib.runtime.files import LESS_MEMORY, write_whole
from rag_lib.runtime.progress import live_front_end
from rag_lib.study.resolve import settings_for

Made = TypeVar("Made")

# the line with which papermill heads the cell that it writes its parameters into
_INJECTED = "# Parameters\n"

ACCURACY = "accuracy on real test images (%)"


def settings(make: Callable[..., Made] = settings_for, /, **parameters: Any) -> Made:
    """Return what `make` gives for the notebook's parameters, one study's settings or those of several; set the style.

    `pretrained`, the name of a generator that comes with the study, is checked and goes no further.
    """
    shell = get_ipython()
    check_injected(shell.user_ns.get("In", []) if shell else [], parameters)
    if (pretrained := parameters.pop("pretrained", None)) is not None:
        check_value("pretrained", pretrained, str, choices=pretrained_names())
    style.use_style()
    pd.options.display.max_colwidth = None  # a comparison is told whole
    Markdown.__repr__ = lambda text: text.data  # what logs and scripts print of it
    return make(**parameters)


def check_injected(cells: Sequence[str], known: Collection[str]) -> None:
    """Look at papermill's cell where it is the last of these, a session's inputs, that sets parameters.

    Tell whoever looks on what it sets otherwise than the first cell, which may have been edited since. papermill only
    warns of a parameter that the notebook does not have; here it is a `UserError`.
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
    other = [f"{name} = {value}" for name, value in given.items() if first.get(name, value) != value]
    if other and live_front_end():  # who runs it headless has just written that cell
        print(f"papermill's cell sets {', '.join(other)}; delete it to use what the first cell says")


def assigned(cell: str) -> dict[str, str]:
    """Return the variables that a cell assigns, each with its value's source; none where it is not Python."""
    with suppress(SyntaxError, ValueError):
        assignments = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
        pairs = [(target, node.value) for node in assignments for target in node.targets]
        return {target.id: ast.unparse(value) for target, value in pairs if isinstance(target, ast.Name)}
    return {}


def show(figure: Figure, name: str, alt: str, picture: bool = False, handle: DisplayHandle | None = None) -> None:
    """Save a figure as `style.save` does, close it, and display it with a text for those who do not see it.

    `handle`: of a display that the figure replaces.
    """
    style.save(figure, name, picture)
    put = display if handle is None else handle.update
    put(style.shown(figure, alt, picture))


def execute(name: str, output: Path, parameters: Mapping[str, Any]) -> None:
    """Run the notebook `notebooks/<name>.ipynb` with those of the parameters that it has; `output`: the executed one.

    Raises `UserError` where a cell fails.
    """
    import nbformat
    import papermill  # a second to import, and absent where only the library is used
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    source = ROOT / "notebooks" / f"{name}.ipynb"
    if not source.exists():
        raise UserError(f"{source} does not exist; it comes with the repository: pip install --editable")
    known = papermill.inspect_notebook(source)
    given = {name: value for name, value in parameters.items() if name in known}
    if "engine" not in known and "overrides" in given:  # it computes its runs itself
        given["overrides"] = {k: v for k, v in given["overrides"].items() if not k.startswith("engine.")}
    try:
        executed = papermill.execute_notebook(
            source, output, given, progress_bar=False, stdout_file=sys.stdout, stderr_file=sys.stderr
        )
    except PapermillExecutionError as e:
        raise UserError(f"{e.ename}: {e.evalue} (in {output}, cell {e.exec_count})") from e
    except DeadKernelError as e:
        raise UserError(
            f"{name}: its kernel died, as it does where memory runs out; {LESS_MEMORY}, or let the same command go on"
        ) from e
    for key in ("input_path", "output_path"):  # folders tell of a machine, not of the study
        executed.metadata.papermill[key] = Path(executed.metadata.papermill[key]).name
    write_whole(output, nbformat.writes(executed).encode())


def figure_of(studied: Study) -> Figure | None:
    """Draw a study's effects against the number of real images or of steps, or its accuracies.

    None where there are too few replicates for intervals, or nothing to compare: the table says as much.
    """
    rows = studied.rows
    alone = rows["arm"].nunique() == 1 and studied.design != "ablation"
    if alone or rows["replicate"].nunique() < MIN_FOR_INTERVAL:
        return None
    if studied.design == "ablation":
        return charts.levels(intervals(rows, ["factor", "level"]), ACCURACY)
    for over, found in (("data.n_real", rows), ("step", studied.on_the_way)):
        if found[over].nunique() < 2 or found["classifier"].nunique() > 1:
            continue
        effects = contrasts(found, ["classifier", over])
        if asked := dict.fromkeys(zip(effects["arm"], effects["baseline"], strict=True)):
            return charts.effects(effects, {arm: f"{arm} against {baseline}" for arm, baseline in asked}, over)
    found = intervals(rows[rows["arm"] != "generated_shuffled"], ["classifier", "arm"])  # that is at chance
    return charts.levels(found.assign(factor=found["classifier"], level=found["arm"]), ACCURACY)
