"""The GAN's training (sections 1.1 and 2.1)."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image
from torch import Tensor

from rag_lib.data.images import Images, concat, topping_up
from rag_lib.data.preprocess import preprocess
from rag_lib.gan.losses import LOSSES, diff_augment
from rag_lib.gan.networks import Discriminator, Generator
from rag_lib.gan.pretrained import adopt
from rag_lib.gan.watch import Watch, diversity
from rag_lib.runtime.files import load_weights, save_weights, write_whole
from rag_lib.runtime.numerics import (
    autocast,
    batch_indices,
    keep_freed_memory,
    pick_device,
    pick_precision,
    rng,
    seed_of,
)
from rag_lib.runtime.optim import adam, lr_at, set_lr, update_average
from rag_lib.runtime.steps import Steps
from rag_lib.runtime.store import Run, cached
from rag_lib.settings.config import GanConfig, as_dict

N_SAMPLES = 10  # sample grids over the training


def train_gan(config: GanConfig, train: Images, labeller: Run | None = None, watch: Watch | None = None) -> Run:
    """The finished run of this GAN, trained on `train` unless it is there already.

    `labeller`: where labels are `pseudo`, the run of `config.labeller`; its weights go into the generator's file.
    `watch(history, samples)` is called for each new row of the history, with all rows so far and the samples' folder.
    The run's folder gets history.csv, samples/step-*.png and generator.safetensors (the moving average
    where `ema` is set); where `pretrained` is set, the last of these alone, and nothing is trained. Raises
    `UserError` if a loss stops being finite.
    """
    if config.pretrained:
        return cached("gan", config, lambda folder: adopt(config, folder))
    if config.labels == "per_class":
        return cached("gan", config, lambda folder: _train_per_class(config, train, folder, watch))
    return cached("gan", config, lambda folder: _train(config, train, folder, labeller, watch))


def gan_step(
    G, D, adam_g, adam_d, real: Tensor, y: Tensor, z: Tensor, losses, augment=lambda x: x
) -> dict[str, Tensor]:
    """One iteration of Eq. 1: D learns to tell `real` from G(z), then G learns to be taken for real.

    `real`: N x C x H x W in [-1, 1]; `y`: the labels of both the real and the generated images; `z`:
    N x z_dim; `losses`: D's and G's, on logits; `augment`: how images reach D. Returns scalars: the two losses, the
    mean probabilities D(x) and D(G(z)), and the `diversity` of the generated images, of all classes and lowest.
    """
    discriminator_loss, generator_loss = losses
    fake = G(z, y)

    real_logits, fake_logits = discriminate(D, augment(real), augment(fake.detach()), y)
    loss_d = discriminator_loss(real_logits, fake_logits)
    adam_d.zero_grad()
    loss_d.backward()
    adam_d.step()

    # G's step needs the gradient through D, not D's own; and D has just changed, so autocast must not take
    # its bf16 copy of D's old weights, which it keeps only of weights that require gradients
    D.requires_grad_(False)
    loss_g = generator_loss(D(augment(fake), y))
    adam_g.zero_grad()
    loss_g.backward()
    adam_g.step()
    D.requires_grad_(True)

    with torch.no_grad():
        watched = {"loss_d": loss_d.detach(), "loss_g": loss_g.detach()}
        watched |= {"d_real": real_logits.sigmoid().mean(), "d_fake": fake_logits.sigmoid().mean()}
        watched["diversity"], watched["diversity_lowest"] = diversity(real, fake, y)
    return watched


def discriminate(D: Discriminator, real: Tensor, fake: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """D's logits of `real` and of `fake`: in one pass, unless batch norm would then mix the two."""
    if D.sees_the_batch:
        return D(real, y), D(fake, y)
    return D(torch.cat([real, fake]), y.repeat(2)).chunk(2)


def _train(
    config: GanConfig, train: Images, folder: Path, labeller: Run | None = None, watch: Watch | None = None
) -> dict:
    keep_freed_memory()
    device = pick_device()
    precision = pick_precision(config.precision, device)
    card = {"config": as_dict(config), "classes": train.classes}
    if config.labels == "pseudo":  # one class, of all images
        train = replace(train, y=torch.zeros_like(train.y), classes=("image",))
    n_classes = len(train.classes)
    if config.oversample:
        train = concat(train, topping_up(train, train))
    train = train.to(device)

    torch.manual_seed(seed_of("gan", config.seed, "weights"))
    G = Generator(config, n_classes).to(device, memory_format=torch.channels_last)
    D = Discriminator(config, n_classes).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(G)
    adam_g, adam_d = adam(G, config), adam(D, config)
    columns = min(n_classes, 10)
    y_shown = torch.arange(columns).repeat(4).to(device)
    z_shown = torch.randn(len(y_shown), config.z_dim, generator=rng("gan", config.seed, "shown")).to(device)
    (folder / "samples").mkdir(exist_ok=True)
    sample_every = math.ceil(config.steps / N_SAMPLES)
    seed = seed_of("gan", config.seed, "order")

    parts = {"G": G, "D": D, "average": average, "adam_g": adam_g, "adam_d": adam_d}
    title = f"GAN {config.data.dataset}" + (f", {train.classes[0]}" if config.only_class >= 0 else "")
    with Steps(folder, config.steps, parts, title, "try a smaller gan.lr") as steps:
        for step in steps:
            batch = train[batch_indices(len(train), config.batch_size, seed, step).to(device)]
            numbers = rng("gan", config.seed, "step", step)
            real = preprocess(batch.x, config.data, numbers).contiguous(memory_format=torch.channels_last)
            z = torch.randn(config.batch_size, config.z_dim, generator=numbers).to(device)
            for optimizer in (adam_g, adam_d):
                set_lr(optimizer, lr_at(config, step))
            augment = partial(diff_augment, generator=numbers) if config.diff_augment else lambda x: x
            with autocast(precision, device):
                values = gan_step(G, D, adam_g, adam_d, real, batch.y, z, LOSSES[config.loss], augment)
            update_average(average, G, config.ema)
            logged = steps.log(lr=lr_at(config, step), **values)

            if (step + 1) % sample_every == 0 or step + 1 == config.steps:
                average.eval()
                with torch.no_grad():
                    grid = torchvision.utils.make_grid((average(z_shown, y_shown) + 1) / 2, nrow=columns)
                png = BytesIO()
                torchvision.utils.save_image(grid, png, format="PNG")
                write_whole(folder / "samples" / f"step-{step + 1:06d}.png", png.getvalue())
            if logged and watch is not None:
                watch(steps.history, folder / "samples")

    weights = average.state_dict()
    if labeller is not None:
        of_labeller, _ = load_weights(labeller.folder / "classifier.safetensors")
        weights |= {f"labeller.{name}": tensor for name, tensor in of_labeller.items()}
    save_weights(folder / "generator.safetensors", weights, card)
    return last_of(steps.history) | {"parameters_g": n_parameters(G), "parameters_d": n_parameters(D)}


def _train_per_class(config: GanConfig, train: Images, folder: Path, watch: Watch | None) -> dict:
    """A run for each class, of an equal part of the steps: together they see as many images as one for all would.

    The schedule's decays and the average's memory are shortened alike.
    """
    k = len(train.classes)
    part = replace(
        config, labels="conditional", steps=max(1, config.steps // k), lr_step=max(1, config.lr_step // k),
        ema=config.ema**k,
    )  # fmt: skip
    runs, weights = [], {}
    for c, name in enumerate(train.classes):
        of_class = train[train.y == c]
        of_class = replace(of_class, y=torch.zeros_like(of_class.y), classes=(name,))
        runs.append(train_gan(replace(part, only_class=c), of_class, watch=watch))
        one, _ = load_weights(runs[-1].folder / "generator.safetensors")
        weights |= {f"generators.{c}.{key}": tensor for key, tensor in one.items()}
    (folder / "samples").mkdir(exist_ok=True)
    for path in sorted((runs[0].folder / "samples").glob("*.png")):
        columns = [np.asarray(Image.open(run.folder / "samples" / path.name)) for run in runs[:10]]
        Image.fromarray(np.concatenate(columns, 1)).save(folder / "samples" / path.name)
    history = pd.concat([run.history() for run in runs]).groupby("step", as_index=False).mean()
    write_whole(folder / "history.csv", history.to_csv(index=False, lineterminator="\n").encode())
    save_weights(folder / "generator.safetensors", weights, {"config": as_dict(config), "classes": train.classes})
    counts = {name: sum(run.metrics[name] for run in runs) for name in ("parameters_g", "parameters_d")}
    return last_of(history.to_dict("records")) | counts


def last_of(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """The last row as metrics: without what is no number, which JSON does not have."""
    return {name: value for name, value in history[-1].items() if math.isfinite(value)}


def n_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
