"""Every setting of the study as a field of a frozen dataclass; the defaults are the paper's recipe.

Wrong types and values out of range raise `UserError` with one clear line. Datasets (data/datasets.py)
and presets (presets.py) are short lists of deltas from these defaults.
"""

import os
import re
from dataclasses import dataclass, fields
from typing import Any

from rag_lib.base import UserError
from rag_lib.settings.arms import ARMS, MOST_TIMES, SHARE, TIMES
from rag_lib.settings.checked import Checked, setting

# Bumped with any change of the numbers that a config gives, so that old runs are not reused.
NUMERICS = 2

PAPER_CLASSIFIERS = ("cnn", "resnet18", "resnet34", "resnet50", "resnet101")
CLASSIFIERS = (*PAPER_CLASSIFIERS, "fast_cnn")
LABELLED = ("pseudo", "relabelled")  # the `gan.labels` that come from a classifier


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which images, how they are split, and the paper's preprocessing (section 1.2)."""

    dataset: str = "mnist5k"  # a name of DATASETS, or folder:PATH
    content: str = ""  # hash of an own image folder's content; empty for the named datasets
    channels: int = setting(1, choices=(1, 3))  # grey or colour
    stored_size: int = setting(28, choices=(28, 32))  # pixels a side before the crop
    size: int = setting(28, choices=(28, 32))  # pixels a side after the crop
    rotation: float = setting(10.0, low=0, high=180)  # degrees: uniform in +-rotation, in training only
    contrast: bool = True  # stretch each image to the full range, in training and test alike
    split_seed: int = setting(0, low=0, high=2**63 - 1)  # of the draw of train, val and test images
    n_real: int = setting(0, low=0, added=True)  # real training images in total, drawn by split_seed; 0: all
    translation: int = setting(0, low=0, high=8, added=True)  # pixels: uniform shift up to it, in training only
    flip: bool = setting(False, added=True)  # each image mirrored left to right at random, in training only

    def __post_init__(self):
        super().__post_init__()
        if self.size > self.stored_size:
            raise UserError(f"data.size = {self.size} is larger than data.stored_size = {self.stored_size}")


@dataclass(frozen=True)
class GanConfig(Checked):
    """The generator, the discriminator and their training (sections 1.1 and 2.1)."""

    data: DataConfig = DataConfig()
    seed: int = setting(0, low=0)  # of the weights, the order of images and z
    z_dim: int = setting(100, low=1)  # random values that an image is made from
    width: int = setting(64, low=4)  # channels of the generator's third and the discriminator's first layer
    attention: str = setting("spam", choices=("spam", "spam_per_channel", "none", "cbam", "se"))  # after three DConvs
    residual: bool = setting(True, added=True)  # S * X + X (Eq. 3); False: S * X
    d_norm: str = setting("batch", choices=("batch", "spectral", "none"))  # in the discriminator
    g_norm: str = setting("batch", choices=("batch", "conditional"), added=True)  # in the generator
    loss: str = setting("non_saturating", choices=("non_saturating", "minimax", "hinge"))  # Eq. 1, or the hinge loss
    r1: float = setting(0.0, low=0, added=True)  # weight of half the squared gradient of D's logit at real images
    oversample: bool = setting(False, added=True)  # images of rare classes are seen as often as those of frequent ones
    diff_augment: bool = setting(False, added=True)  # D sees moved and recoloured images, real and generated alike
    # how generated images get labels: an input of both networks; a generator a class; or `labeller`, a classifier
    # trained on the same real images, labels what an unconditional (pseudo) or a conditional (relabelled) one draws
    labels: str = setting("conditional", choices=("conditional", "per_class", "pseudo", "relabelled"), added=True)
    labeller: "ClassifierConfig | None" = setting(None, added=True)  # noqa: RUF009
    only_class: int = setting(-1, low=-1, added=True)  # one of the generators of `per_class`; -1: all classes
    steps: int = setting(50_000, low=1)  # iterations
    batch_size: int = setting(64, low=2)  # images an iteration
    lr: float = setting(1e-4, low=0)  # the highest, with `step` that of the start
    d_lr_factor: float = setting(1.0, low=0, added=True)  # D's rate divided by G's: two time scales
    schedule: str = setting("step", choices=("step", "cosine", "triangle"))  # how the rate falls
    lr_step: int = setting(2_500, low=1)  # iterations between two decays; the paper gives gamma only
    lr_gamma: float = setting(0.85, low=0, high=1)  # what each decay multiplies the rate by
    weight_decay: float = setting(1e-4, low=0)  # L2, inside Adam as the paper's PyTorch does it
    beta1: float = setting(0.5, low=0, high=0.999)  # of Adam
    beta2: float = setting(0.999, low=0, high=0.9999)  # of Adam
    ema: float = setting(0.0, low=0, high=0.99999)  # decay of the generator's moving average; 0: none
    precision: str = setting("auto", choices=("auto", "fp32", "bf16"))  # auto: bf16 where the processor computes in it

    def __post_init__(self):
        super().__post_init__()
        if (self.labels in LABELLED) != (self.labeller is not None):
            raise UserError(f"gan.labels = {self.labels!r} and gan.labeller = {self.labeller} do not go together")
        if self.oversample and self.labels in ("per_class", "pseudo"):
            raise UserError(f"gan.oversample = True does nothing with gan.labels = {self.labels!r}; leave it out")
        if self.r1 > 0 and self.d_norm == "batch":
            raise UserError(f"gan.r1 = {self.r1} wants each image seen by itself; set gan.d_norm to spectral or none")
        check_same_images(self.data, self.labeller, "gan.labeller")


@dataclass(frozen=True)
class ClassifierConfig(Checked):
    """One classifier trained on one group (arm) of images (sections 2.1 and 2.3)."""

    data: DataConfig = DataConfig()
    gan: GanConfig | None = None  # the generator of the arm's synthetic images; None: the arm needs none
    arm: str = setting("original", choices=tuple(ARMS))  # the group of images it learns from
    share: float = setting(SHARE, low=0, high=1, added=True)  # of generated images in the arm `mixed`
    # generated images a real one in `generated`, `mixed_add` and `mixed_add_centred`
    times: int = setting(TIMES, low=1, high=MOST_TIMES, added=True)
    model: str = "cnn"  # one of CLASSIFIERS, or timm:NAME
    stem: str = setting("imagenet", choices=("imagenet", "cifar"))  # of a ResNet: stride 4, or 3 x 3 at full size
    seed: int = setting(0, low=0)  # of the weights and the order of images
    steps: int = setting(50_000, low=1)
    batch_size: int = setting(64, low=2)
    label_smoothing: float = setting(0.0, low=0, high=0.5, added=True)  # share of a label spread over all classes
    optimizer: str = setting("adam", choices=("adam", "sgd"), added=True)  # sgd: Nesterov's, momentum beta1
    lr: float = setting(1e-4, low=0)
    schedule: str = setting("step", choices=("step", "cosine", "triangle"))
    lr_step: int = setting(2_500, low=1)
    lr_gamma: float = setting(0.85, low=0, high=1)
    weight_decay: float = setting(1e-4, low=0)
    beta1: float = setting(0.9, low=0, high=0.999)
    beta2: float = setting(0.999, low=0, high=0.9999)
    precision: str = setting("auto", choices=("auto", "fp32", "bf16"))

    def __post_init__(self):
        super().__post_init__()
        if ARMS[self.arm].gan == (self.gan is None):
            raise UserError(f"classifier.arm = {self.arm!r} and classifier.gan = {self.gan} do not go together")
        if self.arm == "balanced" and self.gan.labels in LABELLED:
            raise UserError(
                "arm = 'balanced' wants a generator whose images have the class that is asked for; with "
                f"gan.labels = {self.gan.labels!r} not all have it"
            )
        check_same_images(self.data, self.gan, "classifier.gan")


def check_same_images(data: DataConfig, other: "GanConfig | ClassifierConfig | None", name: str) -> None:
    """Raise `UserError` unless `other` was trained on the very images of `data`."""
    if other is not None and other.data != data:
        differing = [f.name for f in fields(data) if getattr(data, f.name) != getattr(other.data, f.name)]
        raise UserError(f"{name} was trained on other real images: {', '.join(f'data.{n}' for n in differing)} differ")


@dataclass(frozen=True)
class QualityConfig(Checked):
    """A generator and the classifier, trained on the same real images only, that judges it."""

    gan: GanConfig
    judge: ClassifierConfig
    generated: int = setting(10_000, low=2)  # images
    compared: int = setting(5_000, low=2)  # images of each kind that distances compare, at most

    def __post_init__(self):
        super().__post_init__()
        check_same_images(self.gan.data, self.judge, "quality.judge")

    @property
    def precision(self) -> str:
        return self.judge.precision


@dataclass(frozen=True)
class EngineConfig(Checked):
    """Where the runs of a study are computed, and what one of each kind takes of a machine."""

    name: str = setting("local", choices=("local", "ray"))  # this machine, or a Ray cluster
    workers: int = setting(0, low=0)  # local: processors that runs take together; 0: all, as far as memory allows
    address: str = "auto"  # ray: of its head, as in 10.0.0.1:6379; auto: the one that this machine is in
    # processors; rounded down, also the run's threads, on which last digits depend
    gan_cpus: float = setting(2.0, low=0.01)
    classifier_cpus: float = setting(1.0, low=0.01)
    quality_cpus: float = setting(1.0, low=0.01)
    gan_gpus: float = setting(0.0, low=0)  # ray: 0.25: four share one
    classifier_gpus: float = setting(0.0, low=0)
    quality_gpus: float = setting(0.0, low=0)

    def __post_init__(self):
        super().__post_init__()
        of_other = ("workers",) if self.name == "ray" else ("address", "gan_gpus", "classifier_gpus", "quality_gpus")
        for f in fields(self):
            if f.name in of_other and getattr(self, f.name) != f.default:
                other = "local" if self.name == "ray" else "ray"
                raise UserError(f"engine.{f.name} = {getattr(self, f.name)!r} goes with engine = {other!r} only")

    def threads(self, kind: str) -> int:
        return max(1, int(getattr(self, f"{kind}_cpus")))


# by a run's kind, and by the name of the field that holds one
CONFIGS = {"data": DataConfig, "gan": GanConfig, "classifier": ClassifierConfig, "judge": ClassifierConfig}
CONFIGS |= {"labeller": ClassifierConfig, "quality": QualityConfig}


def as_dict(config: Checked) -> dict[str, Any]:
    """Every field, configs within it likewise; an own folder by its name, since its content has a hash of its own."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    values = {name: as_dict(value) if isinstance(value, Checked) else value for name, value in values.items()}
    if str(values.get("dataset", "")).startswith("folder:"):
        values["dataset"] = "folder:" + os.path.basename(values["dataset"].removeprefix("folder:").rstrip("/"))
    return values


def from_dict(kind: str, values: dict[str, Any]) -> Checked:
    """Return the config of this kind whose `as_dict` this is, also where an older version lacked some fields.

    Raises `TypeError` for a field that is unknown or missing, `UserError` for a value that is not allowed.
    """
    gone = ("pretrained", "")  # a field of earlier versions, empty for whatever was trained
    given = {n: from_dict(n, v) if isinstance(v, dict) else v for n, v in values.items() if (n, v) != gone}
    return CONFIGS[kind](**given)


@dataclass(frozen=True)
class Settings:
    """A whole study: its data, its GAN, its classifiers with the number of seeds each, and the judge."""

    dataset: str
    preset: str
    variant: str  # tells other seeds and overrides from the preset itself; empty for that
    data: DataConfig
    gan: GanConfig
    classifiers: tuple[tuple[ClassifierConfig, int], ...]
    quality: QualityConfig  # of the GAN's images, and who judges them
    arms: tuple[str, ...]
    replicates: int  # draws of the real images, each with a GAN of its own
    engine: EngineConfig = EngineConfig()  # who computes the runs; no part of what they are

    @property
    def name(self) -> str:
        """A file name's part that tells this study from the others, e.g. `mnist-quick`, `folder_birds-quick-1a2b3c`."""
        kind, _, path = self.dataset.partition(":")
        dataset = f"{kind}_{os.path.basename(path.rstrip('/'))}" if path else kind
        return re.sub(r"[^\w.-]+", "_", "-".join(part for part in (dataset, self.preset, self.variant) if part))
