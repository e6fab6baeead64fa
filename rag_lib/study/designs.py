"""The designs of a study as settings."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from rag_lib.base import UserError, check_value
from rag_lib.settings.config import Settings
from rag_lib.settings.presets import PRESETS
from rag_lib.study.overrides import check_overrides
from rag_lib.study.plan import ids_of, needs_gan
from rag_lib.study.resolve import settings_for

LOW_DATA_ARMS = ("original_plain", "original", "mixed_add", "generated")

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
    "recipe": {
        "as the preset": {},
        "spectral norm": {"gan.d_norm": "spectral"},
        "no norm": {"gan.d_norm": "none"},  # in D, as in the next three
        "R1 of 0.1": {"gan.d_norm": "none", "gan.r1": 0.1},
        "R1 of 1": {"gan.d_norm": "none", "gan.r1": 1.0},
        "R1 of 0.1, no momentum": {"gan.d_norm": "none", "gan.r1": 0.1, "gan.beta1": 0.0, "gan.beta2": 0.99},
        "hinge loss, two rates": {  # as SAGAN's discriminator (Zhang et al. 2019)
            "gan.loss": "hinge",
            "gan.d_norm": "spectral",
            "gan.lr": 2.5e-4,
            "gan.d_lr_factor": 4.0,
            "gan.beta1": 0.0,
            "gan.beta2": 0.9,
        },
        "half D's rate": {"gan.d_lr_factor": 0.5},
        "rate 5e-4": {"gan.lr": 5e-4},
        "rate 2e-4": {"gan.lr": 2e-4},
        "batches of 128": {"gan.batch_size": 128},
        "conditional norm": {"gan.g_norm": "conditional"},
        "DiffAugment": {"gan.diff_augment": True},
        "EMA of 0.999": {"gan.ema": 0.999},
        "values of best": {k: v for k, v in PRESETS["best"].items() if k.startswith("gan.") and k != "gan.steps"},
    },
}


def low_data(n_real: Sequence[int], make: Callable[..., Settings] = settings_for, **parameters: Any) -> list[Settings]:
    """Return the study of `make(**parameters)` with that many real images in total, one of each size."""
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
    """Return the study of `make(**parameters)` with each level of these factors of the GAN, in one arm."""
    if isinstance(factors, str) or not isinstance(factors, Sequence) or not factors:
        raise UserError(f"factors = {factors!r} must be a list such as {list(ABLATION)[:2]}")
    for factor in factors:
        check_value("factors", factor, str, choices=tuple(ABLATION))
    given = {"arms": ("generated",)} | {k: v for k, v in parameters.items() if v is not None}
    unvaried = make(**given)
    if len(unvaried.arms) != 1 or not needs_gan(unvaried):
        raise UserError(f'arms = {list(unvaried.arms)} must be one arm with generated images, such as ["generated"]')
    if len(unvaried.classifiers) != 1:
        raise UserError("the ablation compares by one classifier; set classifiers={'cnn': 2}")
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
    """Return a file name's part that tells these studies, together, from all others: `mnist5k-short-1a2b3c`."""
    names = [study.name for study in studies]
    digits = hashlib.sha256("\n".join(names).encode()).hexdigest()[:6]
    return names[0] if len(names) == 1 else f"{names[0].removesuffix('-' + studies[0].variant)}-{digits}"


def _unvaried(parameters: Mapping[str, Any], varied: set[str]) -> dict[str, Any]:
    """Return the overrides among these parameters; raise `UserError` for one that the plan itself varies."""
    overrides = check_overrides(parameters.get("overrides"))
    for key in sorted(varied & set(overrides)):
        raise UserError(f"override {key!r} is what this plan varies; leave it out")
    return dict(overrides)


def by_level(table: pd.DataFrame, levels: Mapping[tuple[str, str], Settings], kind: str) -> pd.DataFrame:
    """Return the rows of each level under its name; a row that several factors share is repeated.

    `kind`: `classifier` or `quality`, whose run ids the table has.
    """
    rows = table.set_index("run_id", drop=False)
    parts = []
    for (factor, level), settings in levels.items():
        ids = [name for name in ids_of([settings])[kind] if name in rows.index]
        parts.append(rows.loc[ids].assign(factor=factor, level=level))
    return pd.concat(parts, ignore_index=True)
