"""Notebooks executed with parameters, headless."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag_lib.errors import UserError
from rag_lib.paths import ROOT
from rag_lib.storage import LESS_MEMORY, write_whole


def execute(name: str, output: Path, parameters: Mapping[str, Any]) -> None:
    """Runs the notebook `notebooks/<name>.ipynb` with those of the parameters that it has; `output`: the executed one.

    Raises `UserError` where a cell fails.
    """
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
        papermill.execute_notebook(
            source, output, given, progress_bar=False, stdout_file=sys.stdout, stderr_file=sys.stderr
        )
    except PapermillExecutionError as e:
        raise UserError(f"{e.ename}: {e.evalue} (in {output}, cell {e.exec_count})") from e
    except DeadKernelError as e:
        raise UserError(
            f"{name}: its kernel died, as it does where memory runs out; {LESS_MEMORY}, or let the same command go on"
        ) from e
    forget_paths(output)


def forget_paths(notebook: Path) -> None:
    """Leaves file names alone of the paths that papermill records: folders tell of a machine, not of the study."""
    import nbformat  # papermill's own

    content = nbformat.read(notebook, as_version=4)
    for key in ("input_path", "output_path"):
        content.metadata.papermill[key] = Path(content.metadata.papermill[key]).name
    write_whole(notebook, nbformat.writes(content).encode())
