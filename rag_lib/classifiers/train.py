"""The classifiers' training and evaluation (sections 2.1 and 2.3)."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rag_lib.classifiers.networks import FastCNN, build
from rag_lib.data.images import Images
from rag_lib.data.preprocess import draw_preprocessing, preprocess
from rag_lib.runtime.files import load_weights, save_weights
from rag_lib.runtime.graph import captured, sent_ahead
from rag_lib.runtime.numerics import autocast, batch_indices, pick_device, pick_precision, rng, seed_of
from rag_lib.runtime.optim import lr_at, optimizer_of, set_lr
from rag_lib.runtime.steps import Steps
from rag_lib.runtime.store import Run
from rag_lib.settings.config import ClassifierConfig, as_dict

EVALUATION_BATCH = 250
# steps after which a training by the paper's decaying rate is what a shorter one would have been, and is measured
MILESTONES = (1_000, 2_500, 5_000, 10_000, 25_000, 50_000)
ON_THE_WAY = ("test", "val")  # the sets that it is measured on
N_WHITENING = 5_000  # images whose patches' covariance the first layer of `fast_cnn` undoes


def train_classifier(
    config: ClassifierConfig, images: Mapping[str, Images], folder: Path, title: str
) -> dict[str, float]:
    """Train; return the accuracies, `<set>_accuracy`, in [0, 1].

    `images`: by name, `train` (the arm's images) and the sets to measure the accuracy on after the last step: `val`,
    `test`, and where the arm has synthetic images `generated`. `folder` gets history.csv (with the schedule `step` it
    has the accuracies on `val` and `test` at the `MILESTONES`, too, on which nothing depends), confusion.csv (counts on
    `test`: rows true, columns predicted) and classifier.safetensors.
    """
    device = pick_device()
    precision = pick_precision(config.precision, device)
    train = images["train"].to(device)
    n_classes = len(train.classes)

    torch.manual_seed(seed_of("classifier", config.seed, "weights"))
    model = build(config, n_classes).to(device, memory_format=torch.channels_last).train()
    if isinstance(model, FastCNN):
        some = batch_indices(
            len(train), min(len(train), N_WHITENING), seed_of("classifier", config.seed, "whitening"), 0
        )
        model.whiten(preprocess(train.x[some.to(device)], config.data))
    optimizer = optimizer_of(model, config)
    seed = seed_of("classifier", config.seed, "order")

    def draw(step: int) -> dict[str, Tensor]:
        numbers = rng("classifier", config.seed, "step", step)
        drawn = draw_preprocessing(config.batch_size, config.data, numbers)
        drawn["images"] = batch_indices(len(train), config.batch_size, seed, step)
        return drawn | {"lr": torch.tensor(lr_at(config, step), dtype=torch.float64)}

    def iterate(images: Tensor, lr: Tensor, **preprocessing: Tensor) -> dict[str, Tensor]:
        x = preprocess(train.x[images], config.data, **preprocessing).contiguous(memory_format=torch.channels_last)
        y = train.y[images]
        set_lr(optimizer, lr)
        with autocast(precision, device):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=config.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == y).float().mean()}

    parts = {"model": model, "optimizer": optimizer}
    drawn, iterate = sent_ahead(draw, config.steps, device), captured(iterate, parts, device)
    with Steps(folder, config.steps, parts, title, f"try a smaller {config.model}.lr") as steps:
        for step in steps:
            torch.manual_seed(seed_of("classifier", config.seed, "dropout", step))
            measured = config.schedule == "step" and step + 1 in MILESTONES
            row = steps.log(enter=measured, lr=lr_at(config, step), **iterate(**drawn(step)))
            if measured:
                for name in [name for name in ON_THE_WAY if name in images]:
                    row[f"{name}_accuracy"] = share_right(images[name], predict(model, images[name].x, config))
                model.train()

    card = {"config": as_dict(config), "classes": train.classes}
    save_weights(folder / "classifier.safetensors", model.state_dict(), card)
    metrics = {}
    for name, held_out in images.items():
        if name != "train":
            predicted = predict(model, held_out.x, config)
            metrics[f"{name}_accuracy"] = share_right(held_out, predicted)
            if name == "test":
                confusion(held_out, predicted).to_csv(folder / "confusion.csv")
    return metrics


def load_classifier(run: Run, config: ClassifierConfig) -> nn.Module:
    """Return the trained classifier of a run, ready to predict."""
    weights, card = load_weights(run.folder / "classifier.safetensors")
    model = build(config, len(card["classes"]))
    model.load_state_dict(weights)
    return model.to(pick_device(), memory_format=torch.channels_last)


def predict(model: nn.Module, x: Tensor, config: ClassifierConfig) -> Tensor:
    """Return the predicted class of each uint8 image of `x` (N x C x H x W), int64, N, on the CPU."""
    return evaluate(model, x, config).argmax(1)


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, config: ClassifierConfig) -> Tensor:
    """Return the logits of uint8 images `x` (N x C x H x W), without random preprocessing: N x classes, on the CPU."""
    device = next(model.parameters()).device
    precision = pick_precision(config.precision, device)
    model.eval()
    logits = []
    for part in x.split(EVALUATION_BATCH):
        inputs = preprocess(part.to(device), config.data).contiguous(memory_format=torch.channels_last)
        with autocast(precision, device):
            logits.append(model(inputs).cpu())
    return torch.cat(logits)


def share_right(images: Images, predicted: Tensor) -> float:
    return float((predicted == images.y).double().mean())


def confusion(images: Images, predicted: Tensor) -> pd.DataFrame:
    """Count true (rows) against predicted (columns) classes."""
    k = len(images.classes)
    counts = torch.bincount(images.y * k + predicted, minlength=k * k).reshape(k, k)
    return pd.DataFrame(counts.numpy(), index=list(images.classes), columns=list(images.classes))
