"""How good the generated set is: right labels, likeness, variety, and whether it repeats what it was shown.

Distances between sets are taken in the features of a classifier trained on the same real images, so they are no
Inception scores: `frechet_distance`, not `fid`. Real images that no training saw (`val`) are scored in the same way,
as many as generated ones, for what images that are certainly real get. It is no bound: generated images can lie
nearer to the train images, in the features of a judge that was trained on these, than unseen real ones do. Where
classes are of unequal size the distances say less: generated images come in equal numbers, real ones do not.
"""

import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from rag_lib.classifiers.train import confusion, evaluate, load_classifier, predict, share_right
from rag_lib.data.images import Images, stratified_split
from rag_lib.runtime.numerics import seed_of
from rag_lib.runtime.store import Run
from rag_lib.settings.config import ClassifierConfig, QualityConfig
from rag_lib.synthetic.generate import generate, load_generator

HELD_OUT_SEED = 1  # of generated images that no classifier was trained on
DUPLICATE_QUANTILE = 0.01
NEIGHBOURS = 5


def assess(config: QualityConfig, gan: Run, judge: Run, train: Images, val: Images, folder: Path) -> dict[str, float]:
    """Return the quality of the GAN's images.

    `gan_test_accuracy` (Shmelkov et al. 2018), in [0, 1], how often the judge sees the label that was asked
    for, over all generated images, and the judge's own accuracy on the real test images, `judge_test_accuracy`; the
    `distances` of generated images from `train`, and, named `val_...`, of as many val images; `memorisation`; the
    `centre_spread` of generated and of val images.
    `folder` gets confusion.csv (counts: rows requested, columns seen) and closest.csv (pairs of images).
    """
    model = load_classifier(judge, config.judge)
    images = generate(load_generator(gan.folder), config.generated, HELD_OUT_SEED).padded_to(train.x.shape[-1])
    seen = predict(model, images.x, config.judge)
    confusion(images, seen).to_csv(folder / "confusion.csv")

    of_train, of_val, of_generated = (features(model, i.x, config.judge) for i in (train, val, images))
    n = min(len(train), len(val), len(images), config.compared)
    some, _ = stratified_split(train.y, (n,), seed=0)
    likeness = distances(of_train[some], of_generated[:n])
    best, _ = stratified_split(val.y, (n,), seed=0)
    of_best = {f"val_{name}": value for name, value in distances(of_train[some], of_val[best]).items()}
    memorised, closest = memorisation(of_train, of_val, of_generated, images.y)
    closest.to_csv(folder / "closest.csv", index=False, lineterminator="\n")
    accuracies = {"gan_test_accuracy": share_right(images, seen), "judge_test_accuracy": judge.metrics["test_accuracy"]}
    spreads = {"centre_spread": centre_spread(images), "val_centre_spread": centre_spread(val)}
    return accuracies | likeness | of_best | memorised | spreads | {"images_compared": n}


def centre_spread(images: Images) -> float:
    """Return how far from their mean the centres of mass lie: standard deviation of row and column, pixels."""
    return float(images.centres().std(0).square().mean().sqrt())


def look(judge: Run, config: ClassifierConfig, images: Images, train: Images) -> pd.DataFrame:
    """Return what the judge sees in each of these images, of the size of `train`: one row an image.

    Columns: `asked`, its label; `seen`, the class that the judge sees; `confidence`, the judge's probability (softmax)
    of the label, in [0, 1]; `nearest`, the index of the train image that is nearest in the judge's features.
    """
    model = load_classifier(judge, config)
    logits = evaluate(model, images.x, config).float()
    _, index = nearest(features(model, images.x, config), features(model, train.x, config))
    confidence = logits.softmax(1).gather(1, images.y[:, None])[:, 0]
    columns = {"asked": images.y, "seen": logits.argmax(1), "confidence": confidence, "nearest": index}
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def features(model: nn.Module, x: Tensor, config: ClassifierConfig) -> Tensor:
    """Return what reaches the last layer of a `cnn`, for uint8 images N x C x H x W: float32, N x features."""
    but_last = nn.Sequential(*list(model)[:-1])
    return evaluate(but_last, x, replace(config, precision="fp32"))  # distances are differences of near numbers


def distances(real: Tensor, other: Tensor) -> dict[str, float]:
    """Measure how far the set `other` is from the set `real`, both N x features.

    Frechet distance (Heusel et al. 2017) and the unbiased kernel distance (Binkowski et al. 2018), 0 for equal
    distributions; precision and recall (Kynkaanniemi et al. 2019), coverage, in [0, 1], and density, at or above 0
    (both Naeem et al. 2020), about 1 for equal distributions, over the nearest `NEIGHBOURS`.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    def measured(metric) -> Tensor | tuple[Tensor, Tensor]:
        metric.update(real, real=True)
        metric.update(other, real=False)
        return metric.compute()

    as_they_are = nn.Identity()  # the features are computed already
    as_they_are.num_features = real.shape[1]
    frechet = measured(FrechetInceptionDistance(feature=as_they_are))
    n = min(len(real), len(other))
    torch.manual_seed(seed_of("kernel distance"))  # it draws subsets
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        kernel, _ = measured(KernelInceptionDistance(feature=as_they_are, subsets=20, subset_size=min(n, 1_000)))
    found = {"frechet_distance": float(frechet), "kernel_distance": float(kernel)}
    return found | neighbourhoods(real, other, min(NEIGHBOURS, n - 1))


def neighbourhoods(real: Tensor, other: Tensor, k: int) -> dict[str, float]:
    """Return precision, recall, density and coverage: whose images lie within whose distance to its k-th neighbour."""
    of_real, of_other = (torch.cdist(x, x).kthvalue(k + 1).values for x in (real, other))  # the first is itself
    between = torch.cdist(real, other)
    in_real = between <= of_real[:, None]
    return {
        "precision": float(in_real.any(0).double().mean()),
        "recall": float((between <= of_other[None]).any(1).double().mean()),
        "density": float(in_real.sum(0).double().mean() / k),
        "coverage": float(in_real.any(1).double().mean()),
    }


def memorisation(train: Tensor, val: Tensor, generated: Tensor, y: Tensor) -> tuple[dict[str, float], pd.DataFrame]:
    """Measure whether generated images lie nearer to train images than unseen real ones do; N x features each.

    `nearest_generated` and `nearest_val`: median distance to the nearest train image. `duplicate_rate`: share of
    generated images that are nearer to one than 99% of the val images are; `duplicate_rate_unseen`: the share of
    further unseen real images that are, on average; a little above 1%, more where val images are few. More than that
    speaks for copies; less says no more than that generated images lie further from the train images.
    Beside them each class's (`y`, of the generated images) closest pair: indices of the generated and of the train
    image, and their distance. Overall, the closest would all be of the class that varies least.
    """
    of_val, _ = nearest(val, train)
    of_generated, which = nearest(generated, train)
    limit = of_val.quantile(DUPLICATE_QUANTILE)
    order = of_generated.argsort(stable=True)
    first = torch.stack([order[y[order] == c][0] for c in y.unique()])
    closest = {"generated": first, "train": which[first], "distance": of_generated[first]}
    metrics = {
        "nearest_generated": float(of_generated.median()),
        "nearest_val": float(of_val.median()),
        "duplicate_rate": float((of_generated < limit).double().mean()),
        "duplicate_rate_unseen": (DUPLICATE_QUANTILE * (len(val) - 1) + 1) / (len(val) + 1),
    }
    return metrics, pd.DataFrame({name: column.tolist() for name, column in closest.items()})


def nearest(x: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each row of `x` the distance to the nearest row of `others`, and that row's index."""
    index = torch.cat([torch.cdist(part, others).argmin(1) for part in x.split(500)])
    # cdist's products are a few hundredths off, which is much for a copy, whose distance is 0
    return (x - others[index]).norm(dim=1), index
