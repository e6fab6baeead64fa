"""The study: settings to runs to tidy tables."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pandas as pd

from rag_lib.arms import generated_share, label_of
from rag_lib.checked import check_value
from rag_lib.config import ClassifierConfig, EngineConfig, GanConfig, Settings, as_dict
from rag_lib.data import Splits, content_of
from rag_lib.errors import UserError
from rag_lib.jobs import Engine, Job, configs, ids_of, images_for, in_order, jobs, splits_of
from rag_lib.models.attention import attention_module
from rag_lib.overrides import check_overrides
from rag_lib.paths import check_results_dir
from rag_lib.presets import resolve
from rag_lib.pretrained import pretrained_config
from rag_lib.progress import progress_mode
from rag_lib.quality import assess
from rag_lib.runs import Run, collect, run_id
from rag_lib.train_classifier import build, train_classifier
from rag_lib.train_gan import train_gan
from rag_lib.training import pick_device
from rag_lib.watch import Warnings, Watch

TABLES = {"classifier": "classify", "quality": "quality"}  # by the kind of their runs, under results/tables


def settings_for(
    dataset: str = "mnist5k",
    preset: str = "quick",
    seed: int = 0,
    gan_steps: int | None = None,
    classifier_steps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    arms: Sequence[str] | None = None,
    replicates: int = 1,
    pretrained: str | None = None,
    engine: str = "local",
    content: str | None = None,
) -> Settings:
    """`presets.resolve`, with an own folder's content looked at.

    `gan_steps` and `classifier_steps` stand for the overrides `gan.steps` and `classifier.steps`; None
    keeps the preset's, and `engine` for `engine.name`. `pretrained`: the name of a generator that comes with the study
    and takes the place of one to be trained; its data and its settings are then the study's. `content`: an own folder's
    hash (`data.content`), by a caller that has it already; otherwise all of the folder is read. `RAG_SMOKE=1` in the
    environment replaces any preset by `smoke`. Raises `UserError`.
    """
    deltas = check_overrides(overrides) | ({"engine.name": engine} if engine != "local" else {})
    if pretrained is not None:
        given = {"dataset": dataset, "seed": seed, "gan_steps": gan_steps, "arms": arms, "replicates": replicates}
        return _settings_of_pretrained(pretrained, preset, classifier_steps, deltas, given)
    steps = {"gan.steps": gan_steps, "classifier.steps": classifier_steps}
    deltas |= {name: n for name, n in steps.items() if n is not None}
    for check in (progress_mode, check_results_dir):
        check()  # refuses what the environment asks for in vain, even where runs are reused
    check_value("RAG_DEVICE", pick_device().type, str, choices=("cpu", "cuda", "mps"))
    given = {"arms": arms, "replicates": replicates}
    settings = resolve(dataset, preset, seed, deltas, **given)  # names and types first: they cost nothing
    check_value("RAG_SMOKE", os.environ.get("RAG_SMOKE", ""), str, choices=("", "0", "1"))
    if os.environ.get("RAG_SMOKE") == "1":
        preset = "smoke"
    attention_module(settings.gan.attention, 16)  # whether timm is there, where it wants it
    for classifier, _ in settings.classifiers:
        if classifier.model.startswith("timm:"):  # whether timm has it, and for such images, only building it tells
            build(classifier, n_classes=2)
    settings = resolve(dataset, preset, seed, deltas, content_of(dataset) if content is None else content, **given)
    configs(settings)  # refuses an arm that the generator cannot serve
    return settings


# the parameters that a pretrained generator has settled, at their defaults, which count as not given
_SETTLED = {"dataset": "mnist5k", "seed": 0, "gan_steps": None, "arms": None, "replicates": 1}


def _settings_of_pretrained(name, preset, classifier_steps, overrides, given) -> Settings:
    """`settings_for` with the data and the GAN of a pretrained generator; `given` must be as in `_SETTLED`."""
    gan = pretrained_config(name)
    own = gan.data.dataset
    if own.startswith("folder:"):
        raise UserError(f"pretrained = {name!r} was trained on somebody's own images; only load_generator takes it")
    given = {key: value for key, value in given.items() if value != _SETTLED[key]}
    refused = {key: value for key, value in given.items() if (key, value) != ("dataset", own)}
    refused |= {key: value for key, value in overrides.items() if str(key).startswith(("gan.", "data."))}
    for key, value in refused.items():
        raise UserError(f"{key} = {value!r} goes with a generator to be trained; pretrained = {name!r} has its own")
    usual = resolve(own, preset).data
    unusual = [f.name for f in fields(usual) if getattr(usual, f.name) != getattr(gan.data, f.name)]
    overrides = {**overrides, **{f"data.{n}": getattr(gan.data, n) for n in unusual}}
    settings = settings_for(own, preset, classifier_steps=classifier_steps, overrides=overrides)
    variant = "-".join(filter(None, ("pretrained" if name == own else f"pretrained_{name}", settings.variant)))
    return replace(settings, variant=variant, gan=gan, quality=replace(settings.quality, gan=gan))


def run(studies: Sequence[Settings], execute: Engine | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All runs of these studies, replicate by replicate: the tidy tables of the classifiers and of the generators.

    Each row enters `results/tables` as soon as its run is finished. `execute`: who computes the jobs; by default the
    engine of the settings.
    """
    execute = execute or engine_of(studies[0].engine)
    for study in reversed(studies):  # images that are missing, or too few, are refused before any work
        splits_of(study.data)
    published = ids_of(studies)
    runs: dict[str, Run] = {}
    rows: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in published}
    for job, done in execute(jobs(studies)):
        runs[job.id] = done
        if job.id in published.get(job.kind, ()):
            rows[job.kind][job.id] = enter(job, runs)
    classifiers, qualities = ([rows[kind][id] for id in ids] for kind, ids in published.items())
    return pd.DataFrame(classifiers), pd.DataFrame(qualities)


def enter(job: Job, runs: Mapping[str, Run]) -> dict[str, Any]:
    """Put the row of a finished job into `results/tables`, and return it; `runs`: by id, its own and those it needs."""
    done = runs[job.id]
    if job.kind == "quality":
        gan = runs[job.needs[0]]
        new, of_row = quality_row(job.config.gan, gan, done), [done, gan]
    else:
        new, of_row = row(job.config, done), [done]
    collect(TABLES[job.kind], pd.DataFrame([new]), of_row)
    return new


def engine_of(config: EngineConfig) -> Engine:
    if config.name == "local":
        return in_order
    from rag_lib.cluster import on_ray  # with Ray, which one machine needs not

    return partial(on_ray, config)


def run_gan(settings: Settings, splits: Splits, watch: Watch | None = None) -> Run:
    """The study's GAN, and before it the labeller if it has one; they see the train split only.

    `watch`: who looks at the training (watch.py); by default who prints what goes wrong.
    """
    labeller = None
    if settings.gan.labeller and not settings.gan.pretrained:
        labeller = train_classifier(
            settings.gan.labeller, lambda: images_for(settings.gan.labeller, splits), "labeller"
        )
    return train_gan(settings.gan, splits.train, labeller, watch or Warnings(settings.gan))


def run_judge(settings: Settings, splits: Splits) -> Run:
    """The classifier that judges the GAN's images."""
    judge = settings.quality.judge
    return train_classifier(judge, lambda: images_for(judge, splits), "judge")


def run_quality(settings: Settings, splits: Splits, gan: Run) -> Run:
    """The quality of the GAN's images, judged by a classifier trained on the same train split."""
    judge = run_judge(settings, splits)
    run = assess(settings.quality, gan, judge, splits.train, splits.val)
    collect(TABLES["quality"], pd.DataFrame([quality_row(settings.gan, gan, run)]), [run, gan])
    return run


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


def gan_columns(config: GanConfig | None) -> dict[str, Any]:
    """A table's columns of a GAN's settings, the labeller by its run; empty where there is none."""
    columns = {f"gan.{f.name}": getattr(config, f.name, None) for f in fields(GanConfig) if f.name != "data"}
    labeller = columns["gan.labeller"]
    return columns | {"gan.labeller": labeller and run_id("classifier", labeller)}


def row(config: ClassifierConfig, run: Run) -> dict[str, Any]:
    """One line of the tidy table: accuracies in percent, then every field of the config and of its GAN's.

    `test_accuracy`: on the real test images. `own_test_accuracy`: on held-out images of the arm's own
    composition, so half real and half generated for `mixed`; none where there are no such (`generated_share`).
    """
    real, generated = run.metrics["test_accuracy"], run.metrics.get("generated_accuracy", 0.0)
    share = generated_share(config)
    own = None if share is None else round(100 * ((1 - share) * real + share * generated), 4)
    settings = as_dict(config)
    data = settings.pop("data")
    del settings["gan"], settings["arm"], settings["times"]  # the arm's label says how often
    return {
        "run_id": run.id,
        "dataset": data.pop("dataset"),
        "classifier": settings.pop("model"),
        "arm": label_of(config),
        "replicate": data.pop("split_seed"),
        "seed": settings.pop("seed"),
        "val_accuracy": round(100 * run.metrics["val_accuracy"], 4),
        "test_accuracy": round(100 * real, 4),
        "own_test_accuracy": own,
        **{f"data.{name}": value for name, value in data.items()},
        **{f"classifier.{name}": value for name, value in settings.items()},
        **gan_columns(config.gan),
    }
