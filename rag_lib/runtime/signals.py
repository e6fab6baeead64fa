"""Signals that wait until a step is done."""

import signal
import threading
from typing import Any


class HeldBack:
    """Hold SIGINT (Ctrl-C, Jupyter's interrupt) and SIGTERM back until `deliver`, or until the context ends.

    A second one takes effect at once, unless both are SIGTERM.
    """

    def __init__(self):
        self.pending: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "HeldBack":
        self._hold()
        return self

    def __exit__(self, *error: Any) -> None:
        self._restore()
        if error[0] is None:
            self._raise()

    def deliver(self) -> None:
        """Let a signal that waits take effect, and hold the next ones back where its handler returns."""
        if self.pending is not None:
            self._restore()
            self._raise()
            self._hold()

    def _on_signal(self, number: int, frame: Any) -> None:
        if number == self.pending == signal.SIGTERM:  # of a group whose parent has ended by it, too (study/engines.py)
            return
        if self.pending is not None:
            self._restore()
            signal.raise_signal(number)
        self.pending = number

    def _raise(self) -> None:
        number, self.pending = self.pending, None
        if number is not None:
            signal.raise_signal(number)

    def _hold(self) -> None:
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (None, signal.SIG_IGN):  # nohup's wish to be left alone is kept
                    self._handlers[number] = signal.signal(number, self._on_signal)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
