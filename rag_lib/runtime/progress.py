"""Progress that every place can show: a widget in JupyterLab, a bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from contextlib import contextmanager

from tqdm import tqdm

from rag_lib.base import UserError

# A kernel that nobody looks at (papermill, nbval) has none of these; widgets would print nothing there.
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
        print(line, flush=True)

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        self.postfix = text

    def close(self) -> None:
        pass


class _Bar(_Lines):
    """The same line beside a bar: one for all the trainings of a cell, since JupyterLab hides a cell's 51st output."""

    seconds_between = 0.5
    cell = None  # the number of the one that shows them
    bar = words = None

    def __init__(self, total: int, desc: str, initial: int, unit: str):
        import ipywidgets
        from IPython import get_ipython
        from IPython.display import display

        super().__init__(total, desc, initial, unit)
        number = get_ipython().execution_count
        if number != _Bar.cell:
            _Bar.bar, _Bar.words = ipywidgets.IntProgress(layout={"width": "12em"}), ipywidgets.Label()
            display(ipywidgets.HBox([_Bar.bar, _Bar.words]))
            _Bar.cell = number
        _Bar.bar.max, _Bar.bar.value = total, initial  # in this order: a bar clips a value beyond its end
        _Bar.words.value = desc

    def show(self, line: str) -> None:
        _Bar.bar.value, _Bar.words.value = self.n, line


def progress_mode() -> str:
    """`RAG_PROGRESS`: auto or text; raises `UserError` for anything else."""
    mode = os.environ.get("RAG_PROGRESS") or "auto"
    if mode not in ("auto", "text"):
        raise UserError(f"RAG_PROGRESS = {mode!r} is unknown; choose auto or text")
    return mode


def in_kernel() -> bool:
    return "ipykernel" in sys.modules and type(sys.stdout).__module__.startswith("ipykernel")


def live_front_end() -> bool:
    """Whether somebody looks at this kernel in a front end with widgets, and has not asked for plain lines."""
    return progress_mode() == "auto" and in_kernel() and any(name in os.environ for name in _LIVE_FRONT_ENDS)


@contextmanager
def progress(total: int, title: str, done: int = 0, unit: str = "steps"):
    """A counter of `total` steps, `done` of them before, with tqdm's `update(n)` and `set_postfix_str(text)`.

    `RAG_PROGRESS=text` in the environment asks for plain lines everywhere; the default, `auto`, looks
    where it is shown.
    """
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
