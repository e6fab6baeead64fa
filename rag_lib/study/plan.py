"""A study as a plan: its runs, what each needs, and what computes one of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from rag_lib.classifiers.train import train_classifier
from rag_lib.data.datasets import Splits, load
from rag_lib.data.images import Images
from rag_lib.gan.train import train_gan
from rag_lib.gan.watch import Warnings
from rag_lib.runtime.files import sha256
from rag_lib.runtime.store import Run, run_id
from rag_lib.settings.checked import Checked
from rag_lib.settings.config import REAL_ARMS, ClassifierConfig, DataConfig, Settings
from rag_lib.settings.presets import replicate
from rag_lib.study.arms import arm, label_of, n_synthetic, parse_arm, preprocessing
from rag_lib.synthetic.generate import generate, load_generator
from rag_lib.synthetic.quality import HELD_OUT_SEED, assess

TRAIN_SEED = 0  # of the generated images that classifiers are trained on


@dataclass(frozen=True)
class Job:
    """One run of a study: what any machine can compute by itself once the runs in `needs` are finished."""

    kind: str  # gan, classifier or quality
    config: Checked
    data: DataConfig  # the real images of its replicate
    needs: tuple[str, ...] = ()  # runs, in the order that `compute` takes them
    title: str = ""  # of its progress

    @cached_property
    def id(self) -> str:
        return run_id(self.kind, self.config)


# who computes the jobs of a plan, and gives each with its run, in any order that their needs allow
Engine = Callable[[Sequence[Job]], Iterator[tuple[Job, Run]]]


def jobs(studies: Sequence[Settings]) -> list[Job]:
    """The runs of these studies, replicate by replicate: each once, and after those that it needs."""
    cells = replicates_of(studies)
    planned: list[Job] = []
    for number, cell in enumerate(cells, 1):
        of_study = f"{number} of {len(cells)}: " if len(cells) > 1 else ""
        gan = ()
        if needs_gan(cell):
            labeller = cell.gan.labeller if not cell.gan.pretrained else None
            before = [Job("classifier", labeller, cell.data, title="labeller")] if labeller else []
            judge = Job("classifier", cell.quality.judge, cell.data, title="judge")
            gan = (Job("gan", cell.gan, cell.data, tuple(job.id for job in before)),)
            planned += [*before, *gan, judge, Job("quality", cell.quality, cell.data, (gan[0].id, judge.id))]
        classifiers = configs(cell)
        for i, config in enumerate(classifiers, 1):
            title = f"{of_study}[{i}/{len(classifiers)}] {config.model}, {label_of(config)}, seed {config.seed}"
            planned.append(Job("classifier", config, cell.data, tuple(job.id for job in gan if config.gan), title))
    first = {job.id: job for job in reversed(planned)}  # a judge may be one of the compared classifiers, too
    return [job for job in planned if first[job.id] is job]


def replicates_of(studies: Sequence[Settings]) -> list[Settings]:
    """Every replicate of these studies, the first of each before the second of any."""
    n = max(study.replicates for study in studies)
    return [replicate(study, r) for r in range(n) for study in studies if r < study.replicates]


def needs_gan(settings: Settings) -> bool:
    return any(parse_arm(spec)[0] not in REAL_ARMS for spec in settings.arms)


def configs(settings: Settings) -> list[ClassifierConfig]:
    """Every classifier x seed x arm of one replicate."""
    return [
        replace(
            classifier,
            data=preprocessing(name, settings.data),
            gan=None if name in REAL_ARMS else settings.gan,
            arm=name,
            share=share,
            times=times,
            seed=classifier.seed + i,
        )
        for classifier, seeds in settings.classifiers
        for i in range(seeds)
        for name, share, times in map(parse_arm, settings.arms)
    ]


def ids_of(studies: Sequence[Settings]) -> dict[str, list[str]]:
    """The runs that have a row in the tables of these studies, by kind: `classifier` and `quality`; each once."""
    cells = replicates_of(studies)
    ids = {
        "classifier": [run_id("classifier", config) for cell in cells for config in configs(cell)],
        "quality": [run_id("quality", cell.quality) for cell in cells if needs_gan(cell)],
    }
    return {kind: list(dict.fromkeys(of_kind)) for kind, of_kind in ids.items()}


def in_order(planned: Sequence[Job], images: Callable[[DataConfig], Splits] | None = None) -> Iterator[tuple[Job, Run]]:
    """Computes one run after another, in this process; those that are finished are read.

    `images`: what gives a replicate's real images; by default those that its config names.
    """
    runs: dict[str, Run] = {}
    for job in planned:
        runs[job.id] = compute(job, [runs[id] for id in job.needs], (images or splits_of)(job.data))
        yield job, runs[job.id]


def compute(job: Job, needed: Sequence[Run], splits: Splits) -> Run:
    """The finished run of a job; `needed` are the runs that it needs, `splits` the real images of its replicate."""
    if job.kind == "gan":
        return train_gan(job.config, splits.train, *needed, watch=Warnings(job.config))
    if job.kind == "quality":
        return assess(job.config, *needed, splits.train, splits.val)
    return train_classifier(job.config, lambda: images_for(job.config, splits, *needed), job.title, *needed)


def images_for(config: ClassifierConfig, splits: Splits, gan: Run | None = None) -> dict[str, Images]:
    """By name: what a classifier is trained on, `train`, and what it is measured on, as `train_classifier` wants it."""
    real = {"val": splits.val, "test": splits.test}
    if config.gan is None:
        return real | {"train": arm(config, splits.train, None)}
    train = arm(config, splits.train, synthetic(gan.folder, n_synthetic(config, splits.train), TRAIN_SEED))
    held_out = synthetic(gan.folder, len(splits.test), HELD_OUT_SEED).padded_to(train.x.shape[-1])
    return real | {"train": train, "generated": held_out}


@lru_cache(maxsize=2)  # the studies that share their images follow one another
def splits_of(config: DataConfig) -> Splits:
    return load(config)


def synthetic(generator: Path, n: int, seed: int) -> Images:
    """`generate`d by the generator in this folder, and kept until its weights are others."""
    return _synthetic(generator, sha256(generator / "generator.safetensors"), n, seed)


@lru_cache(maxsize=2)  # what a generator's classifiers are trained on, and what they are measured on
def _synthetic(generator: Path, weights: str, n: int, seed: int) -> Images:
    return generate(load_generator(generator), n, seed)
