"""The designs of a study as settings, and how long their runs take."""

import hashlib
import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from rag_lib.checked import Checked, check_value
from rag_lib.config import REAL_ARMS, GanConfig, QualityConfig, Settings, from_dict
from rag_lib.errors import UserError
from rag_lib.jobs import Job, ids_of
from rag_lib.overrides import check_arms, check_overrides
from rag_lib.paths import results_dir
from rag_lib.progress import to_set
from rag_lib.runs import finished, names_itself
from rag_lib.storage import read_json
from rag_lib.study import settings_for

LOW_DATA_ARMS = ("original_plain", "original", "mixed_add", "generated")
ABLATION_ARMS = ("generated",)

# factor: level: what it is in the GAN; of every factor the first level is what the others are compared with
ABLATION: dict[str, dict[str, dict[str, Any]]] = {
    "attention": {
        "SPAM": {"gan.attention": "spam"},
        "SPAM per channel": {"gan.attention": "spam_per_channel"},
        "CBAM": {"gan.attention": "cbam"},
        "SE": {"gan.attention": "se"},
        "none": {"gan.attention": "none"},
    },
    "output": {"S * X + X": {"gan.residual": True}, "S * X": {"gan.residual": False}},
    "labels": {
        "conditional": {"gan.labels": "conditional"},
        "per class": {"gan.labels": "per_class"},
        "pseudo": {"gan.labels": "pseudo"},
    },
    "EMA": {"on": {"gan.ema": 0.995}, "off": {"gan.ema": 0.0}},
    "DiffAugment": {"off": {"gan.diff_augment": False}, "on": {"gan.diff_augment": True}},
}


def low_data(n_real: Sequence[int], make: Callable[..., Settings] = settings_for, **parameters: Any) -> list[Settings]:
    """The study of `make(**parameters)` with that many real images in total, one of each size."""
    if isinstance(n_real, str) or not isinstance(n_real, Sequence) or not n_real:
        raise UserError(f"n_real = {n_real!r} must be a list such as [100, 600]")
    for n in n_real:
        check_value("n_real", n, int, low=1)
    if len(set(n_real)) < len(n_real):
        raise UserError(f"n_real = {list(n_real)} names a size twice")
    overrides = _unvaried(parameters, {"data.n_real"})
    given = {"arms": LOW_DATA_ARMS} | {k: v for k, v in parameters.items() if v is not None}
    content = make(**given).data.content
    return [make(**given | {"overrides": overrides | {"data.n_real": n}, "content": content}) for n in n_real]


def ablation(
    factors: Sequence[str], make: Callable[..., Settings] = settings_for, **parameters: Any
) -> dict[tuple[str, str], Settings]:
    """The study of `make(**parameters)` with each level of these factors of the GAN, in one arm."""
    if isinstance(factors, str) or not isinstance(factors, Sequence) or not factors:
        raise UserError(f"factors = {factors!r} must be a list such as {list(ABLATION)[:2]}")
    for factor in factors:
        check_value("factors", factor, str, choices=tuple(ABLATION))
    given = {"arms": ABLATION_ARMS} | {k: v for k, v in parameters.items() if v is not None}
    arms = check_arms(given["arms"])
    if len(arms) != 1 or arms[0] in REAL_ARMS:
        raise UserError(f'arms = {list(arms)} must be one arm with generated images, such as ["generated"]')
    unvaried = make(**given)
    if len(unvaried.classifiers) != 1:
        raise UserError(f"the ablation compares by one classifier, as in {to_set('classifiers', {'cnn': 2})}")
    varied = {key for factor in factors for deltas in ABLATION[factor].values() for key in deltas}
    overrides = _unvaried(parameters, varied)
    return {
        (factor, level): make(**given | {"overrides": overrides | deltas, "content": unvaried.data.content})
        for factor in factors
        for level, deltas in ABLATION[factor].items()
    }


# by name, what gives a study's parts: settings by what tells them apart
DESIGNS: dict[str, Callable[..., dict[tuple, Settings]]] = {
    "classify": lambda make, **parameters: {(): make(**parameters)},
    "low-data": lambda n_real, make, **parameters: {(s.data.n_real,): s for s in low_data(n_real, make, **parameters)},
    "ablation": ablation,
}


def name_of(studies: Sequence[Settings]) -> str:
    """A file name's part that tells these studies, together, from all others: `mnist5k-short-1a2b3c`."""
    names = [study.name for study in studies]
    digits = hashlib.sha256("\n".join(names).encode()).hexdigest()[:6]
    return names[0] if len(names) == 1 else f"{names[0].removesuffix('-' + studies[0].variant)}-{digits}"


def _unvaried(parameters: Mapping[str, Any], varied: set[str]) -> dict[str, Any]:
    """The overrides among these parameters; raises `UserError` for one that the plan itself varies."""
    overrides = check_overrides(parameters.get("overrides"))
    for key in sorted(varied & set(overrides)):
        raise UserError(f"override {key!r} is what this plan varies; leave it out")
    return dict(overrides)


def by_level(table: pd.DataFrame, levels: Mapping[tuple[str, str], Settings], kind: str) -> pd.DataFrame:
    """The rows of each level under its name: a row that several factors share stands there for each of them.

    `kind`: `classifier` or `quality`, whose run ids the table has.
    """
    rows = table.set_index("run_id", drop=False)
    parts = []
    for (factor, level), settings in levels.items():
        ids = [id for id in ids_of([settings])[kind] if id in rows.index]
        parts.append(rows.loc[ids].assign(factor=factor, level=level))
    return pd.concat(parts, ignore_index=True)


def outlook(planned: Sequence[Job]) -> pd.DataFrame:
    """How far a plan is, a row for each kind of run: `runs`, `finished`, and `minutes` that the others will take.

    By the finished runs of the same kind under `results/runs`, one after another, each on what these had of a machine;
    not a number where there is none.
    """
    seconds: dict[Hashable, list[float]] = {}  # an iteration
    for path in (results_dir() / "runs").glob("*-*/metrics.json"):
        id = path.parent.name
        saved = read_json(path.parent / "config.json")
        if names_itself(id, saved) and (run := finished(id)):
            config = from_dict(id.partition("-")[0], saved)
            seconds.setdefault(likeness(config), []).append(run.environment()["seconds"] / steps(config))
    rows = []
    for job in planned:
        there = finished(job.id) is not None
        known = seconds.get(likeness(job.config), [math.nan])
        minutes = 0.0 if there else statistics.median(known) * steps(job.config) / 60
        rows.append((getattr(job.config, "model", job.kind), 1, int(there), minutes))
    table = pd.DataFrame(rows, columns=["kind", "runs", "finished", "minutes"])
    return table.groupby("kind", sort=False).agg(lambda column: column.sum(skipna=False))


def likeness(config: Checked) -> Hashable:
    """What runs have in common that take the same time an iteration."""
    if isinstance(config, QualityConfig):
        return likeness(config.gan), config.generated, config.compared
    images = (config.data.channels, config.data.size, config.batch_size)
    if isinstance(config, GanConfig):
        return images, bool(config.pretrained), config.width, config.attention, config.d_norm, config.diff_augment
    return images, config.model, config.stem


def steps(config: Checked) -> int:
    """The iterations of a training; 1 where nothing is trained."""
    return 1 if getattr(config, "pretrained", "") else getattr(config, "steps", 1)
