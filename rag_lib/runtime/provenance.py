"""What a run's numbers may depend on beside its config, over all attempts at it."""

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torchvision

from rag_lib import __version__
from rag_lib.base import ROOT
from rag_lib.runtime.files import newest, read_json
from rag_lib.runtime.numerics import pick_device, pick_precision


def commit_of_code() -> str:
    """Return the commit of this clone, `+changes` where `rag_lib` differs from it; `unknown` where it is none.

    `RAG_COMMIT`: what it is where only a copy of the code has travelled to (study/cluster.py).
    """
    if travelled := os.environ.get("RAG_COMMIT"):
        return travelled
    if not (ROOT / ".git").exists():  # installed somewhere below another repository
        return "unknown"
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "rag_lib"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed.stdout.strip() else "")


def processor() -> str:
    """Model of the CPU and its vector instructions: from one to another, the last digits of a sum differ."""
    cpuinfo = Path("/proc/cpuinfo")  # where Linux names it, at least on x86
    models = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return f"{models[0] if models else platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def environment(precision: str) -> dict[str, Any]:
    """Return what a run's numbers may depend on beside its config: commit, versions, device, threads, precision."""
    device = pick_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "commit": commit_of_code(),
        "rag_lib": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": f"{sys.platform} {name}",
        "device": device.type,
        "threads": torch.get_num_threads(),
        "precision": pick_precision(precision, device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def attempts_at(folder: Path) -> list[dict[str, Any]]:
    """All attempts at the run in this folder: of each its surroundings, and its seconds (0 where it was killed)."""
    attempts = read_json(folder / "env.json").get("attempts")
    return attempts if isinstance(attempts, list) else []


def earlier_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return the attempts that an unfinished run's checkpoint comes from, each with its seconds; none without one."""
    kept, attempts = newest(folder), attempts_at(folder)
    if kept is None or not attempts:
        return []
    if not attempts[-1]["seconds"]:  # it was killed
        started = datetime.fromisoformat(attempts[-1]["started"]).timestamp()
        # 0 where the checkpoint is of an earlier attempt, or too old to tell its time
        attempts[-1]["seconds"] = max(0.0, kept.get("saved", 0.0) - started)
    return attempts


def merged(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """One description of all `attempts` at a run: where they differ, in the commit or the device, all values in turn.

    `seconds`: wall time of all of them, of one that was killed up to its last checkpoint.
    """
    result: dict[str, Any] = {}
    for key in attempts[-1]:
        values = list(dict.fromkeys(attempt[key] for attempt in attempts if key in attempt))
        result[key] = values[0] if len(values) == 1 else ", then ".join(map(str, values))
    seconds = round(sum(attempt["seconds"] for attempt in attempts), 1)
    return result | {"started": attempts[0]["started"], "seconds": seconds, "attempts": len(attempts)}
