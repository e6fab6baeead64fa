"""Who computes the runs of a plan: this process, one after another, or a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from rag_lib.runtime.store import Run
from rag_lib.settings.config import EngineConfig
from rag_lib.study.arms import splits_of
from rag_lib.study.plan import Job, compute

# who computes the jobs of a plan, and gives each with its run, in any order that their needs allow
Engine = Callable[[Sequence[Job]], Iterator[tuple[Job, Run]]]


def in_order(planned: Sequence[Job]) -> Iterator[tuple[Job, Run]]:
    """Compute one run after another, in this process; those that are finished are read."""
    runs: dict[str, Run] = {}
    for job in planned:
        runs[job.id] = compute(job, [runs[need] for need in job.needs], splits_of(job.data))
        yield job, runs[job.id]


def engine_of(config: EngineConfig) -> Engine:
    if config.name == "local":
        return in_order
    from rag_lib.study.cluster import on_ray  # with Ray, which one machine needs not

    return partial(on_ray, config)
