"""The study: settings to runs to tidy tables."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from rag_lib.classifiers.train import ON_THE_WAY
from rag_lib.data.datasets import Splits
from rag_lib.gan.watch import Watch
from rag_lib.runtime.store import Run, run_id
from rag_lib.runtime.tables import collect
from rag_lib.settings.arms import ARMS, label_of
from rag_lib.settings.config import ClassifierConfig, GanConfig, Settings, as_dict
from rag_lib.study.arms import splits_of
from rag_lib.study.plan import Job, compute, ids_of, jobs, jobs_of_gan
from rag_lib.study.scheduler import compute_all

TABLES = {"classifier": "classify", "quality": "quality"}  # by the kind of their runs, under results/tables


def run(studies: Sequence[Settings]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All runs of these studies, replicate by replicate: the tidy tables of the classifiers and of the generators.

    Each row enters `results/tables` as soon as its run is finished.
    """
    for study in studies:  # images that are missing, or too few, are refused before any work
        splits_of(study.data)
    published = ids_of(studies)
    runs: dict[str, Run] = {}
    rows: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in published}
    for job, done in compute_all(studies[0].engine, jobs(studies)):
        runs[job.id] = done
        if job.id in published.get(job.kind, ()):
            rows[job.kind][job.id] = enter(job, runs)
    classifiers, qualities = ([rows[kind][name] for name in ids] for kind, ids in published.items())
    return pd.DataFrame(classifiers), pd.DataFrame(qualities)


def enter(job: Job, runs: Mapping[str, Run]) -> dict[str, Any]:
    """Put the row of a finished job into `results/tables`, and return it; `runs`: by id, its own and those it needs."""
    done = runs[job.id]
    if job.kind == "quality":
        gan = runs[job.needs[0]]
        new, of_row = quality_row(job.config.gan, gan, done), [done, gan]
        history = gan.history().drop(columns="lr").round(4)  # the settings tell the rate
        collect("gan_history", history.assign(run_id=gan.id)[["run_id", *history]], [])
    else:
        new, of_row = classifier_row(job.config, done), [done]
        if len(reached := milestones(done)):
            collect("milestones", reached, [])
    collect(TABLES[job.kind], pd.DataFrame([new]), of_row)
    return new


def run_gan(settings: Settings, splits: Splits, watch: Watch | None = None) -> Run:
    """Compute the study's GAN, and before it the labeller if it has one; they see the train split only.

    `watch`: who looks at the training (gan/watch.py); by default who prints what goes wrong.
    """
    planned = jobs_of_gan(settings)
    labeller = [compute(planned["labeller"], (), splits)] if "labeller" in planned else []
    return compute(planned["gan"], labeller, splits, watch)


def run_judge(settings: Settings, splits: Splits) -> Run:
    """Train the classifier that judges the GAN's images."""
    return compute(jobs_of_gan(settings)["judge"], (), splits)


def run_quality(settings: Settings, splits: Splits) -> Run:
    """Measure the quality of the GAN's images, judged by a classifier trained on the same train split."""
    planned = jobs_of_gan(settings)
    runs: dict[str, Run] = {}
    for job in planned.values():
        runs[job.id] = compute(job, [runs[need] for need in job.needs], splits)
    enter(planned["quality"], runs)
    return runs[planned["quality"].id]


def quality_row(config: GanConfig, gan: Run, run: Run) -> dict[str, Any]:
    """One line of the table of generators: accuracies in percent, the other metrics, every field of the config."""
    data, metrics = as_dict(config.data), dict(run.metrics)
    return {
        "run_id": run.id,
        "gan_run": gan.id,
        "dataset": data.pop("dataset"),
        "replicate": data.pop("split_seed"),
        **{name: round(100 * metrics.pop(name), 4) for name in ("gan_test_accuracy", "judge_test_accuracy")},
        **{name: value if isinstance(value, int) else float(f"{value:.6g}") for name, value in metrics.items()},
        **{name: gan.metrics[name] for name in ("parameters_g", "parameters_d")},
        "gan_seconds": gan.environment()["seconds"],
        **{f"data.{name}": value for name, value in data.items()},
        **gan_columns(config),
    }


def milestones(run: Run) -> pd.DataFrame:
    """Return the accuracies in percent that a classifier had on the way (`classifiers.train.MILESTONES`), if any."""
    columns = ["step", *(f"{name}_accuracy" for name in ON_THE_WAY)]
    found = run.history().reindex(columns=columns).dropna().set_index("step").mul(100).round(4).reset_index()
    return found.assign(run_id=run.id)[["run_id", *columns]]


def gan_columns(config: GanConfig | None) -> dict[str, Any]:
    """Return a table's columns of a GAN's settings, the labeller by its run; empty where there is none."""
    columns = {f"gan.{f.name}": getattr(config, f.name, None) for f in fields(GanConfig) if f.name != "data"}
    labeller = columns["gan.labeller"]
    return columns | {"gan.labeller": labeller and run_id("classifier", labeller)}


def classifier_row(config: ClassifierConfig, run: Run) -> dict[str, Any]:
    """One line of the tidy table: accuracies in percent, then every field of the config and of its GAN's.

    `test_accuracy`: on the real test images. `own_test_accuracy`: on held-out images of the arm's own
    composition, so half real and half generated for `mixed`; none where there are no such (`Arm.share`).
    """
    real, generated = run.metrics["test_accuracy"], run.metrics.get("generated_accuracy", 0.0)
    share = config.share if config.arm == "mixed" else ARMS[config.arm].share
    own = None if share is None else round(100 * ((1 - share) * real + share * generated), 4)
    settings = as_dict(config)
    data = settings.pop("data")
    del settings["gan"], settings["arm"], settings["times"]  # the arm's label says how often
    return {
        "run_id": run.id,
        "dataset": data.pop("dataset"),
        "classifier": settings.pop("model"),
        "arm": label_of(config.arm, config.share, config.times),
        "replicate": data.pop("split_seed"),
        "seed": settings.pop("seed"),
        "val_accuracy": round(100 * run.metrics["val_accuracy"], 4),
        "test_accuracy": round(100 * real, 4),
        "own_test_accuracy": own,
        "test_images": int(run.confusion().to_numpy().sum()),
        **{f"data.{name}": value for name, value in data.items()},
        **{f"classifier.{name}": value for name, value in settings.items()},
        **gan_columns(config.gan),
    }
