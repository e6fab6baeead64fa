"""Files that are whole or absent and tell when a bit has changed, and locks between processes."""

import errno
import hashlib
import io
import json
import os
import pickle
import re
import secrets
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rag_lib.base import UserError

LESS_MEMORY = "make batch_size, gan.width, data.n_real, quality.generated or --images smaller"
_TEMPORARY = ".tmp"  # behind the name of every file that is not whole yet, and 16 hexadecimal digits behind that


def write_whole(path: Path, *content: bytes | memoryview) -> None:
    """Write the parts of `content` to `path`: whole, or the old file stays, whenever the machine stops.

    Beside the file, flushed to disk, then put in its place. Raises `OSError` where that cannot be done, on a
    full disk for one; the old file is then still there.
    """
    # other hosts and containers have processes of the same number
    temporary = path.with_name(f"{path.name}{_TEMPORARY}{secrets.token_hex(8)}")
    try:
        with open(temporary, "wb") as f:
            f.writelines(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def room_for(what: str):
    """Raise `UserError` where something inside finds no room on the disk or in memory, or may not write there."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as e:
        if isinstance(e, MemoryError) or re.search("out of memory|(allocate|enough) memory|ALLOC_FAILED", str(e)):
            raise UserError(f"{what}: memory ran out; {LESS_MEMORY}") from e
        code = getattr(e, "errno", None)
        if code in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                f"{what}: {e.strerror} ({e.filename}); set RAG_RESULTS, or RAG_DATA, to a folder of your own"
            ) from e
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE):
            raise UserError(
                f"{what}: {e.strerror}; make room, or mend the disk, and run again; finished runs are reused"
            ) from e
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=1).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return what `write_json` wrote; empty where the file is missing, or, with a line that names it, damaged."""
    try:
        value = json.loads(path.read_bytes())
        if not (value and isinstance(value, dict)):
            raise ValueError(f"it holds {value!r:.20}")
    except FileNotFoundError:
        return {}
    except (ValueError, IsADirectoryError) as e:
        _say_once(f"{path} is damaged ({e}); its run counts as unfinished")
        return {}
    return value


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Return a table of `results/tables` (`pandas.read_csv`); raise `UserError` where another program changed it."""
    try:
        table = pd.read_csv(path, **options)
        if "run_id" not in table or not isinstance(table.index, pd.RangeIndex):  # a row of more fields shifts the names
            raise ValueError("fields do not fit their names")
    except ValueError as e:
        raise UserError(
            f"{path} is no table with commas and a column run_id (has a spreadsheet saved it?); take it back (git "
            "checkout), or delete it: rows of finished runs are entered again when their study is asked for"
        ) from e
    return table


def sweep(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left in `folder`; nobody else may be writing there."""
    for path in folder.rglob(f"*{_TEMPORARY}{'[0-9a-f]' * 16}"):
        path.unlink(missing_ok=True)


def save_weights(path: Path, weights: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write a safetensors file of these tensors, with `card` (anything that JSON takes) and a SHA-256 of all of it."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # one entry: safetensors writes several in an order of chance, and the same run must give the same bytes
    metadata = json.dumps({"card": card, "sha256": _digest(weights, card)})
    write_whole(path, save(weights, metadata={"rag_lib": metadata}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the card of such a file; raise `UserError` where it is missing or has changed."""
    try:
        with safe_open(path, "pt") as f:
            weights = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (safe_open is no dictionary)
            metadata = json.loads((f.metadata() or {})["rag_lib"])
        card, digest = metadata["card"], metadata["sha256"]
    except FileNotFoundError as e:
        raise UserError(f"{path} does not exist") from e
    except (SafetensorError, KeyError, TypeError, ValueError) as e:
        raise UserError(f"{path} is no file of weights that rag_lib wrote, or a damaged one ({e})") from e
    if digest != _digest(weights, card):
        raise UserError(
            f"{path} is damaged: its SHA-256 is not the one it was written with; delete its run's folder to "
            "compute it again, or take another copy"
        )
    return weights, card


def sha256(path: Path) -> str:
    """Of the whole file, as `sha256sum` prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(weights: dict[str, Tensor], card: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


_MAGIC = b"rag_lib checkpoint, sha256 "


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """`state` (tensors, numbers, text, and lists and dictionaries of them) behind a line with its SHA-256."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    write_whole(path, _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n", content)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote, on the CPU; raise `UserError` where a byte differs, and for hidden code."""
    header, _, content = path.read_bytes().partition(b"\n")
    if header != _MAGIC + hashlib.sha256(content).hexdigest().encode():
        raise UserError(f"{path} is damaged: its SHA-256 is not the one it was written with")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as e:
        raise UserError(f"{path} holds something else than numbers; it is not loaded") from e


@contextmanager
def locked(path: Path, waiting: str):
    """Hold the lock file `path`, alone among all processes; prints `waiting` if another one has it.

    The system frees the lock of a process that dies. The file stays: removing it would let two in. Raises `UserError`
    where the folder is another user's, read-only, or on a file system without locks.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(waiting, file=sys.stderr, flush=True)
            lock.acquire()
    except (OSError, NotImplementedError) as e:
        why = getattr(e, "strerror", None) or e
        raise UserError(
            f"nothing can be locked in {path.parent} ({why}); set RAG_RESULTS to a folder of your own on a local disk"
        ) from e
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock file `path`, by taking it for a moment; False where this user may not ask."""
    if not os.path.exists(path):
        return False
    try:
        FileLock(path).acquire(blocking=False).lock.release()
    except (OSError, NotImplementedError) as e:
        return isinstance(e, Timeout)
    return False


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, the newest first."""
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)


def newest(folder: Path) -> dict[str, Any] | None:
    """Return what the newest whole checkpoint in `folder` holds; None without one."""
    for path in checkpoints(folder):
        try:
            return load_checkpoint(path)
        except UserError:  # `Steps` names it when it sets it aside
            continue
    return None
