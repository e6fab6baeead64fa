"""What a machine of a Ray cluster does with one job of a study, and how runs travel: as the bytes of their files."""

import contextlib
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from rag_lib.runtime.files import locked, room_for, write_whole
from rag_lib.runtime.store import discard_checkpoints, finished, lock_of, run_folder
from rag_lib.study.plan import Job, compute

Files = dict[str, bytes]  # what is in a run's folder, by path


def compute_there(job: Job, threads: int, device: str, images: list[Any], needed: dict[str, Any]) -> Files:
    """What a machine of the cluster does: the files of the job's finished run.

    `threads`, `device`: what it computes on; `images`: the reference to the real images of its replicate; `needed`:
    references to the files of the runs that it needs, by their ids.
    """
    import ray

    torch.set_num_threads(threads)
    place = place_of_process()
    os.environ |= {"RAG_RESULTS": str(place), "RAG_DEVICE": device}
    try:
        for id, reference in needed.items():
            write_run(id, ray.get(reference))
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # the driver's line tells of it
            run = compute(job, [finished(id) for id in needed], fetched(images[0]))
        return files_of(run.folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)  # where it is not, there is a better error


@lru_cache(maxsize=1)
def place_of_process() -> Path:
    """The same for all runs of a process, so that images generated for one serve the next (arms.synthetic)."""
    return Path(tempfile.mkdtemp(prefix="rag_lib-"))


@lru_cache(maxsize=2)  # a process computes run after run on the same images
def fetched(reference: Any) -> Any:
    import ray

    return ray.get(reference)


def files_of(folder: Path) -> Files:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_run(id: str, files: Files) -> None:
    """Puts a finished run into `results`: it is there only with its last file, metrics.json."""
    folder = run_folder(id)
    with room_for(f"{id} in {folder}"), locked(lock_of(id), f"another process writes {id}; waiting for it"):
        if finished(id):
            return
        for name in sorted(files, key=lambda name: name == "metrics.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, files[name])
        discard_checkpoints(folder)  # of a training that was interrupted here
