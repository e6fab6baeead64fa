"""A study as a plan: its runs, what each needs, what computes one of them, and how long the rest will take."""

import math
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from rag_lib.base import results_dir
from rag_lib.classifiers.train import train_classifier
from rag_lib.data.datasets import Splits
from rag_lib.gan.train import join, per_class, train_gan
from rag_lib.gan.watch import Alarm, Watch
from rag_lib.runtime.files import read_json
from rag_lib.runtime.numerics import threads
from rag_lib.runtime.store import Run, finished, names_itself, opened, run_id
from rag_lib.settings.arms import ARMS, label_of, parse_arm
from rag_lib.settings.checked import Checked
from rag_lib.settings.config import DataConfig, GanConfig, QualityConfig, Settings, from_dict
from rag_lib.study.arms import images_for
from rag_lib.study.resolve import configs, replicate
from rag_lib.synthetic.quality import assess


@dataclass(frozen=True)
class Job:
    """One run of a study: what any machine can compute by itself once the runs in `needs` are finished."""

    kind: str  # gan, classifier or quality
    config: Checked
    data: DataConfig  # the real images of its replicate
    needs: tuple[str, ...] = ()  # runs, in the order that `compute` takes them
    title: str = ""  # of its progress
    threads: int = 1  # by its kind, whatever computes it, since a CPU's last digits depend on them

    @cached_property
    def id(self) -> str:
        return run_id(self.kind, self.config)


def jobs(studies: Sequence[Settings]) -> list[Job]:
    """Return the runs of these studies, replicate by replicate: each once, and after those that it needs."""
    cells = replicates_of(studies)
    planned: list[Job] = []
    for number, cell in enumerate(cells, 1):
        of_study = f"{number} of {len(cells)}: " if len(cells) > 1 else ""
        of_gan = jobs_of_gan(cell) if needs_gan(cell) else {}
        planned += of_gan.values()
        gan = (of_gan["gan"].id,) if of_gan else ()
        classifiers = configs(cell)
        for i, config in enumerate(classifiers, 1):
            arm = label_of(config.arm, config.share, config.times)
            title = f"{of_study}[{i}/{len(classifiers)}] {config.model}, {arm}, seed {config.seed}"
            planned.append(job_of(cell, "classifier", config, gan if config.gan else (), title))
    first = {job.id: job for job in reversed(planned)}  # a judge may be one of the compared classifiers, too
    return [job for job in planned if first[job.id] is job]


def jobs_of_gan(cell: Settings) -> dict[str, Job]:
    """Return what a replicate's generator takes, in order: `labeller` if it has one, `gan`, `judge` and `quality`."""
    labeller = cell.gan.labeller
    found = {"labeller": job_of(cell, "classifier", labeller, title="labeller")} if labeller else {}
    gan = job_of(cell, "gan", cell.gan, tuple(job.id for job in found.values()))
    judge = job_of(cell, "classifier", cell.quality.judge, title="judge")
    quality = job_of(cell, "quality", cell.quality, (gan.id, judge.id))
    return found | {"gan": gan, "judge": judge, "quality": quality}


def job_of(cell: Settings, kind: str, config: Checked, needs: tuple[str, ...] = (), title: str = "") -> Job:
    return Job(kind, config, cell.data, needs, title, cell.engine.threads(kind))


def replicates_of(studies: Sequence[Settings]) -> list[Settings]:
    """Every replicate of these studies, the first of each before the second of any."""
    n = max(study.replicates for study in studies)
    return [replicate(study, r) for r in range(n) for study in studies if r < study.replicates]


def needs_gan(settings: Settings) -> bool:
    return any(ARMS[parse_arm(spec)[0]].gan for spec in settings.arms)


def ids_of(studies: Sequence[Settings]) -> dict[str, list[str]]:
    """Return the runs that have a row in these studies' tables, by kind (`classifier`, `quality`), each once."""
    cells = replicates_of(studies)
    ids = {
        "classifier": [run_id("classifier", config) for cell in cells for config in configs(cell)],
        "quality": [run_id("quality", cell.quality) for cell in cells if needs_gan(cell)],
    }
    return {kind: list(dict.fromkeys(of_kind)) for kind, of_kind in ids.items()}


def compute(job: Job, needed: Sequence[Run], splits: Splits, watch: Watch | None = None) -> Run:
    """Return the finished run of a job, computed unless it is finished already.

    `needed` are the runs that it needs, `splits` the real images of its replicate; `watch`: who looks at a GAN's
    training (gan/watch.py); by default who prints what goes wrong.
    """
    gan = next((run for run in needed if run.id.startswith("gan-")), None)
    with threads(job.threads), opened(job.kind, job.config, gan) as run:
        if not run.reused:
            run.metrics.update(_fill(job, needed, splits, run.folder, watch))
    return run


def _fill(job: Job, needed: Sequence[Run], splits: Splits, folder: Path, watch: Watch | None) -> dict[str, float]:
    config = job.config
    if job.kind == "quality":
        return assess(config, *needed, splits.train, splits.val, folder)
    if job.kind == "classifier":
        return train_classifier(config, images_for(config, splits, *needed), folder, job.title)
    watch = watch or Alarm(config)
    if config.labels != "per_class":
        return train_gan(config, splits.train, folder, *(run.folder for run in needed), watch=watch)
    parts = []  # a run for each class, so that one that is cut off loses no finished one
    for part in per_class(config, len(splits.train.classes)):
        of_class = splits.train.only(part.only_class)
        parts.append(compute(replace(job, config=part), (), replace(splits, train=of_class), watch))
    return join(config, parts, splits.train.classes, folder)


def outlook(planned: Sequence[Job]) -> pd.DataFrame:
    """How far a plan is, a row for each kind of run: `runs`, `finished`, and `minutes` that the others will take.

    By the finished runs of the same kind under `results/runs`, one after another, each on what these had of a machine;
    not a number where there is none.
    """
    seconds: dict[Hashable, list[float]] = {}  # an iteration
    for path in (results_dir() / "runs").glob("*-*/metrics.json"):
        name = path.parent.name
        saved = read_json(path.parent / "config.json")
        if names_itself(name, saved) and (run := finished(name)):
            config = from_dict(name.partition("-")[0], saved)
            each = run.environment()["seconds"] / getattr(config, "steps", 1)  # a quality run has no iterations
            seconds.setdefault(likeness(config), []).append(each)
    rows = []
    for job in planned:
        there = finished(job.id) is not None
        known = seconds.get(likeness(job.config), [math.nan])
        minutes = 0.0 if there else statistics.median(known) * getattr(job.config, "steps", 1) / 60
        rows.append((getattr(job.config, "model", job.kind), 1, int(there), minutes))
    table = pd.DataFrame(rows, columns=["kind", "runs", "finished", "minutes"])
    return table.groupby("kind", sort=False).agg(lambda column: column.sum(skipna=False))


def likeness(config: Checked) -> Hashable:
    """Return what runs have in common that take the same time an iteration."""
    if isinstance(config, QualityConfig):
        return likeness(config.gan), config.generated, config.compared
    images = (config.data.channels, config.data.size, config.batch_size)
    if isinstance(config, GanConfig):
        return images, config.width, config.attention, config.d_norm, config.diff_augment, config.r1 > 0
    return images, config.model, config.stem
