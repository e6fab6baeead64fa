"""One folder a run, named by its config's hash: a finished run is never computed again."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from rag_lib.base import UserError, results_dir
from rag_lib.runtime.files import locked, read_json, room_for, sha256, sweep, write_json
from rag_lib.runtime.provenance import attempts_at, earlier_attempts, environment, merged
from rag_lib.settings.checked import Checked
from rag_lib.settings.config import NUMERICS, as_dict, from_dict

# of a finished run, by its kind
WEIGHTS = {"gan": "generator.safetensors", "classifier": "classifier.safetensors"}


@dataclass(frozen=True)
class Run:
    """A finished run: `folder` has config.json, env.json and what its kind leaves; `metrics` is metrics.json."""

    id: str
    folder: Path
    metrics: dict[str, Any]
    reused: bool  # whether it was already finished

    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "history.csv")

    def confusion(self) -> pd.DataFrame:
        """Return counts of images: rows the true or requested class, columns the predicted one."""
        # names such as 007 or NA are names, not numbers or gaps
        counts = pd.read_csv(self.folder / "confusion.csv", dtype={0: str}, keep_default_na=False)
        return counts.set_index(counts.columns[0]).rename_axis(None)

    def closest(self) -> pd.DataFrame:
        """Each class's closest pair (of a quality run): indices of the generated and of the train image, distance."""
        return pd.read_csv(self.folder / "closest.csv")

    def environment(self) -> dict[str, Any]:
        """Commit, versions, device and the like, of all attempts at this run (`provenance.merged`)."""
        return merged(attempts_at(self.folder))


def run_id(kind: str, config: Checked) -> str:
    """`kind` and twelve digits of the hash of the config's identity and `NUMERICS`."""
    text = json.dumps([NUMERICS, identity(config)], sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def identity(config: Checked) -> dict[str, Any]:
    """Return the config as a dictionary, without the fields that were added later and stand at their defaults."""
    values = as_dict(config)
    for f in fields(config):
        value = getattr(config, f.name)
        if isinstance(value, Checked):
            values[f.name] = identity(value)
        elif f.metadata.get("added") and value == f.default:
            del values[f.name]
    return values


def names_itself(name: str, saved: dict[str, Any]) -> bool:
    """Whether this version of the code gives the run of a saved config the name `name`."""
    kind = name.partition("-")[0]
    try:
        return run_id(kind, from_dict(kind, saved)) == name
    except (KeyError, TypeError, UserError):
        return False


def run_folder(name: str) -> Path:
    """Return the folder of the run of this name; raise `UserError` for one that leads out of `results/runs`."""
    if not name or Path(name).name != name or name in (".", ".."):
        raise UserError(f"{name!r} is not the name of a run; `python -m rag_lib runs` lists them")
    return results_dir() / "runs" / name


@contextmanager
def opened(kind: str, config: Checked, gan: Run | None = None) -> Iterator[Run]:
    """Give the run of this config: finished (`reused`), or a folder to fill, and `metrics` to fill last.

        with opened("gan", config) as run:
            if not run.reused:
                run.metrics.update(train_gan(config, images, run.folder))

    metrics.json is written at the end and atomically: where it stands, the run is whole. Of several processes that
    ask at once one computes, the others wait for it. `gan`: whose images it sees; env.json names the weights, since
    another training with the same config may give others. Raises `UserError` where the disk is full, and for a
    run that has seen images of other weights, finished or not.
    """
    name = run_id(kind, config)
    folder, run = run_folder(name), finished(name)
    lock = nullcontext() if run else locked(lock_of(name), f"another process computes {name}; waiting for it")
    with lock:
        if run := run or finished(name):
            check_seen(run, gan)
            yield run
            return
        weights = digest_of(gan)
        with room_for(f"{name} in {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            write_json(folder / "config.json", as_dict(config))
            attempts = earlier_attempts(folder)
            _check_weights(folder, attempts, weights)
            # the surroundings of the moment it started, not of its end
            now = environment(config.precision) | ({"generator": weights} if weights else {})
            attempts.append(now | {"seconds": 0.0})
            write_json(folder / "env.json", {"attempts": attempts})
            start, run = time.monotonic(), Run(name, folder, {}, reused=False)
            yield run
            attempts[-1]["seconds"] = time.monotonic() - start
            write_json(folder / "env.json", {"attempts": attempts})
            write_json(folder / "metrics.json", run.metrics)
        discard_checkpoints(folder)


def digest_of(gan: Run | None) -> str | None:
    """Return the first twelve digits of the SHA-256 of a generator's weights."""
    return gan and sha256(gan.folder / "generator.safetensors")[:12]


def check_seen(run: Run, gan: Run | None) -> None:
    """Raise `UserError` where a finished run has seen images of another training than `gan`."""
    _check_weights(run.folder, attempts_at(run.folder), digest_of(gan))


def _check_weights(folder: Path, attempts: list[dict[str, Any]], weights: str | None) -> None:
    """Raise `UserError` where one of these attempts at a run has seen images of another generator than `weights`."""
    for seen in (attempt.get("generator") for attempt in attempts):
        if seen not in (None, weights):
            raise UserError(
                f"{folder.name} has seen images of another training of its generator (weights {seen}, now {weights}); "
                "`python -m rag_lib runs --clean` removes all such runs; then they are computed again"
            )


def finished(name: str) -> Run | None:
    """Return the run if it is whole: with its metrics, config, surroundings and weights."""
    folder = run_folder(name)
    weights = folder / WEIGHTS.get(name.partition("-")[0], "")
    metrics = read_json(folder / "metrics.json")
    whole = metrics and read_json(folder / "config.json") and attempts_at(folder) and weights.exists()
    return Run(name, folder, metrics, reused=True) if whole else None


def lock_of(name: str) -> Path:
    return results_dir() / "runs" / ".locks" / name


def discard_checkpoints(folder: Path) -> None:
    for path in folder.glob("checkpoint-*"):
        path.unlink()
