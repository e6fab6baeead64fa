"""The steps of a training, such that a run that stops at any moment resumes to the very same result."""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from rag_lib.base import UserError
from rag_lib.runtime.files import checkpoints, load_checkpoint, save_checkpoint, write_whole
from rag_lib.runtime.numerics import keep_freed_memory
from rag_lib.runtime.progress import progress
from rag_lib.runtime.signals import HeldBack

SECONDS_BETWEEN = 15.0  # two checkpoints at least, and more where
MAX_SHARE = 0.01  # of the time would go into them
KEPT = 2  # checkpoints: the newest, and the one before it, should the newest be damaged
N_LOGS = 100  # rows of history.csv
EXPLODED = 1e4  # a loss as large as this is past any cross-entropy
BEHIND = ("cuda",)  # devices that run behind Python, and whose losses are fetched only for the history and a checkpoint


class Steps:
    """Iterate over the steps of a training, and keep what is needed to resume after any of them.

        with Steps(folder, 1000, {"model": model, "adam": adam}, "cnn", "try a smaller classifier.lr") as steps:
            for step in steps:
                ...
                steps.log(loss=loss, lr=lr)

    `parts`: everything that a step changes, each with `state_dict` and `load_state_dict`. A step may draw no
    random number but from generators seeded by its own number; so none has a state to keep. If `folder` has
    checkpoints, the newest good one is loaded into `parts` and the iteration begins behind it. Checkpoints
    are written every now and then, and on SIGINT and SIGTERM, which take effect between two steps. At the end
    `folder` gets history.csv. `advice`: what to try when the training diverges, which raises `UserError` at the
    step where it does.
    """

    def __init__(self, folder: Path, total: int, parts: Mapping[str, Any], title: str, advice: str):
        self.folder, self.total, self.parts, self.title, self.advice = folder, total, parts, title, advice
        self.done = 0  # steps
        self.saved: int | None = None  # the step of the newest checkpoint
        self.history: list[dict[str, float]] = []
        self._log_every = math.ceil(total / N_LOGS)
        self._worst: dict[str, Tensor] = {}  # the largest losses since step `_looked`, on their device
        self._looked = 0
        self._entered = ExitStack()

    def __enter__(self) -> "Steps":
        keep_freed_memory()
        self._resume()
        self._looked = self.done
        self._due = time.monotonic() + SECONDS_BETWEEN
        self._bar = self._entered.enter_context(progress(self.total, self.title, self.done))
        self._signals = self._entered.enter_context(HeldBack())
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.__exit__(*error)

    def __iter__(self) -> Iterator[int]:
        while self.done < self.total:
            yield self.done
            self.done += 1
            self._bar.update(1)
            if self._signals.pending is not None:
                self.save()
                self._signals.deliver()
            elif time.monotonic() >= self._due:
                self.save()
        self._state()  # raises where the last step left weights that are not finite
        table = pd.DataFrame(self.history)
        write_whole(self.folder / "history.csv", table.to_csv(index=False, lineterminator="\n").encode())

    def log(self, enter: bool = False, **values: Tensor | float) -> dict[str, float] | None:
        """Look at a step's losses (by name), and every so often, or to `enter` them, put its numbers into the history.

        Returns their row of the history, which may be added to, or None. Tensors are scalars. Raises `UserError` if a
        loss is not finite or has exploded.
        """
        step = self.done + 1
        losses = {name: value.abs() for name, value in values.items() if name.startswith("loss")}
        # the larger of two, and nan where either is
        self._worst = {name: torch.maximum(loss, self._worst.get(name, loss)) for name, loss in losses.items()}
        enters = enter or step % self._log_every == 0 or step == self.total
        if enters or any(loss.device.type not in BEHIND for loss in losses.values()):
            self._look(step)
        if not enters:
            return None
        row = {"step": step} | {name: float(value) for name, value in values.items()}
        self.history.append(row)
        self._bar.set_postfix_str(", ".join(f"{name} {row[name]:.3f}" for name in losses), refresh=False)
        return row

    def _look(self, step: int) -> None:
        """Fetch the largest losses of the steps up to this one, and raise `UserError` where one has diverged."""
        since = f"steps {self._looked + 1} to " if step - self._looked > 1 else "step "
        for name, worst in self._worst.items():
            if not (loss := float(worst)) < EXPLODED:
                raise self._diverged(f"{name} = {loss:g}", f"{since}{step}")
        self._worst, self._looked = {}, step

    def _diverged(self, what: str, where: str) -> UserError:
        kept = "there is no checkpoint yet" if self.saved is None else f"the checkpoint of step {self.saved} is kept"
        return UserError(f"{self.title}: {what} at {where}, the training has diverged; {kept}; {self.advice}")

    def save(self) -> None:
        """Write a checkpoint of the state after `done` steps; without room for it print a line: the old one stays."""
        start = time.monotonic()
        state = self._state() | {"saved": time.time()}  # not the file's date, which a copy changes
        try:
            save_checkpoint(self.folder / f"checkpoint-{self.done:08d}.pt", state)
        except OSError as e:
            older = "none yet" if self.saved is None else f"that of step {self.saved} stays"
            message = f"{self.title}: no checkpoint at step {self.done} ({e.strerror or e}); {older}"
            print(f"{message}, the training continues", file=sys.stderr, flush=True)
        else:
            self.saved = self.done
            for path in checkpoints(self.folder)[KEPT:]:
                path.unlink()
        now = time.monotonic()
        self._due = now + max(SECONDS_BETWEEN, (now - start) / MAX_SHARE)

    def _state(self) -> dict[str, Any]:
        self._look(self.done)
        states = {name: part.state_dict() for name, part in self.parts.items()}
        if not _finite(states):
            raise self._diverged("weights that are not finite", f"step {self.done}")
        return {"run": self.folder.name, "done": self.done, "history": self.history, "parts": states}

    def _resume(self) -> None:
        for path in checkpoints(self.folder):
            try:
                state = load_checkpoint(path)
                if (state.get("run"), state.get("parts", {}).keys()) != (self.folder.name, self.parts.keys()):
                    raise UserError(f"{path} is a checkpoint of another run ({state.get('run')}), or version")
            except UserError as e:
                refused = path.replace(path.with_suffix(".refused"))  # so that it never counts as one of those kept
                print(f"{e}; set aside as {refused.name}", file=sys.stderr, flush=True)
                continue
            try:
                for name, part in self.parts.items():
                    part.load_state_dict(state["parts"][name])
            except (KeyError, RuntimeError, ValueError) as e:
                raise UserError(f"{path} is from another version of rag_lib; delete its folder to start anew") from e
            self.done = self.saved = state["done"]
            self.history = state["history"]
            print(f"{self.title}: resuming from step {self.done} of {self.total}", file=sys.stderr, flush=True)
            return


def _finite(state: Any) -> bool:
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    values = state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ()
    return all(_finite(value) for value in values)
