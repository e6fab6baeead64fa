"""Progress that every place can show: a bar in JupyterLab and on a terminal, plain lines elsewhere."""

import html
import io
import os
import sys
import time
from contextlib import contextmanager, suppress

from tqdm import tqdm

from rag_lib.base import UserError

# A kernel that somebody looks at has one of these; one that papermill or nbval starts there has inherited it.
_LIVE_FRONT_ENDS = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD", "COLAB_RELEASE_TAG")


class _Lines:
    """tqdm's numbers as plain lines, one every ten seconds and one at the end."""

    seconds_between = 10.0

    def __init__(self, total: int, desc: str, initial: int, unit: str):
        self.total, self.desc, self.n, self.initial, self.unit = total, desc, initial, initial, unit
        self.postfix = ""
        self.start = self.last = time.monotonic()

    def update(self, n: int) -> None:
        self.n += n
        now = time.monotonic()
        if now - self.last >= self.seconds_between or self.n == self.total:
            self.last = now
            line = tqdm.format_meter(
                self.n, self.total, now - self.start, prefix=self.desc, unit=f" {self.unit}",
                postfix=self.postfix, initial=self.initial,
                bar_format="{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}{postfix}, {remaining} left",
            )  # fmt: skip
            self.show(line.replace("s/ ", "s/"))  # tqdm's unit has a space before it

    def show(self, line: str) -> None:
        with suppress(OSError):  # a log without room, or a reader who has gone, ends no training
            print(line, flush=True)

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        self.postfix = text

    def close(self) -> None:
        pass


class _Bar(_Lines):
    """The same line beside a bar: one for all the trainings of a cell, since JupyterLab hides a cell's 51st output.

    At the end the line alone stays, as text that a saved notebook can show.
    """

    seconds_between = 0.5
    cell = handle = None  # the number of the cell that shows them, and where

    def __init__(self, total: int, desc: str, initial: int, unit: str):
        from IPython import get_ipython
        from IPython.display import DisplayHandle

        super().__init__(total, desc, initial, unit)
        if (number := get_ipython().execution_count) != _Bar.cell:
            _Bar.cell, _Bar.handle = number, DisplayHandle()
            _Bar.handle.display({"text/plain": desc}, raw=True)
        self.show(desc)

    def show(self, line: str) -> None:
        self.line = line
        bar = f'<progress value="{self.n}" max="{self.total}"></progress> {html.escape(line)}'
        _Bar.handle.update({"text/html": bar, "text/plain": line}, raw=True)

    def close(self) -> None:
        _Bar.handle.update({"text/plain": self.line}, raw=True)


def print_any_letter() -> None:
    """Have the console show ? for a letter that its encoding does not have, which otherwise ends a training."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def progress_mode() -> str:
    """`RAG_PROGRESS`: auto or text; raises `UserError` for anything else."""
    mode = os.environ.get("RAG_PROGRESS") or "auto"
    if mode not in ("auto", "text"):
        raise UserError(f"RAG_PROGRESS = {mode!r} is unknown; choose auto or text")
    return mode


def in_kernel() -> bool:
    return type(sys.stdout).__module__.startswith("ipykernel")


def live_front_end() -> bool:
    """Whether somebody looks at this kernel in a front end with widgets, and has not asked for plain lines."""
    if progress_mode() != "auto" or not in_kernel() or not any(name in os.environ for name in _LIVE_FRONT_ENDS):
        return False
    from IPython import get_ipython

    request = get_ipython().kernel.get_parent()
    return bool(request.get("content", {}).get("allow_stdin"))  # where nobody looks on, nobody can be asked


@contextmanager
def progress(total: int, title: str, done: int = 0, unit: str = "steps"):
    """Give a counter of `total` steps, `done` of them before, with tqdm's `update(n)` and `set_postfix_str(text)`.

    `RAG_PROGRESS=text` in the environment asks for plain lines everywhere; the default, `auto`, looks
    where it is shown.
    """
    print_any_letter()
    if live_front_end():
        counter = _Bar(total, title, done, unit)
    elif progress_mode() == "auto" and not in_kernel() and sys.stderr.isatty():
        counter = tqdm(total=total, desc=title, unit=f" {unit}", initial=done)
    else:
        counter = _Lines(total, title, done, unit)
    try:
        yield counter
    finally:
        counter.close()
