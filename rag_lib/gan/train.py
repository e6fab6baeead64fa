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
from torch.func import functional_call

from rag_lib.data.images import Images, concat, topping_up
from rag_lib.data.preprocess import draw_preprocessing, preprocess
from rag_lib.gan.losses import LOSSES, diff_augment, draw_augmentation, r1_penalty
from rag_lib.gan.networks import Discriminator, Generator
from rag_lib.gan.watch import Watch, diversity
from rag_lib.runtime.files import load_weights, save_weights, write_whole
from rag_lib.runtime.graph import captured, sent_ahead
from rag_lib.runtime.numerics import autocast, batch_indices, pick_device, pick_precision, rng, seed_of
from rag_lib.runtime.optim import adam, lr_at, set_lr, update_average, without_start
from rag_lib.runtime.steps import Steps
from rag_lib.runtime.store import Run
from rag_lib.settings.config import GanConfig, as_dict

N_SAMPLES = 10  # sample grids over the training
FRAME = 2  # pixels around each of their images
NO_AUGMENTATION = [lambda x: x] * 3


def train_gan(
    config: GanConfig, train: Images, folder: Path, labeller: Path | None = None, watch: Watch | None = None
) -> dict[str, float]:
    """Train on `train`; return the last losses and the like, and the numbers of parameters.

    `labeller`: the folder of `config.labeller`, if there is one; its weights go into the generator's file.
    `watch(history, samples)` is called for each new row of the history, with all rows so far and the samples' folder.
    `folder` gets history.csv, samples/step-*.png and generator.safetensors (the moving average where `ema` is set,
    without the untrained weights that it began with). Raises `UserError` if a loss stops being finite.
    """
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
    start, average = copy.deepcopy(G), copy.deepcopy(G)
    adam_g, adam_d = adam(G, config), adam(D, config)
    columns = min(n_classes, 10)
    y_shown = torch.arange(columns).repeat(4).to(device)
    z_shown = torch.randn(len(y_shown), config.z_dim, generator=rng("gan", config.seed, "shown")).to(device)
    of_class = [(train.y == c).nonzero().flatten() for c in range(columns)]
    compared = torch.isin(y_shown, train.y)  # all, unless some class has no image
    of_shown = torch.stack([i[n % len(i)] for n in range(4) for i in of_class if len(i)])
    real_shown = preprocess(train.x[of_shown], config.data)  # of the labels compared
    (folder / "samples").mkdir(exist_ok=True)
    sample_every = math.ceil(config.steps / N_SAMPLES)
    seed = seed_of("gan", config.seed, "order")

    def draw(step: int) -> dict[str, Tensor]:
        numbers = rng("gan", config.seed, "step", step)
        drawn = {"images": batch_indices(len(train), config.batch_size, seed, step)}
        drawn |= draw_preprocessing(config.batch_size, config.data, numbers)
        drawn["z"] = torch.randn(config.batch_size, config.z_dim, generator=numbers)
        if config.diff_augment:
            augmentations = [draw_augmentation(config.batch_size, config.data.size, numbers) for _ in range(3)]
            drawn["colours"], drawn["shifts"] = map(torch.stack, zip(*augmentations, strict=True))
        return drawn | {"lr": torch.tensor(lr_at(config, step), dtype=torch.float64)}

    def iterate(images: Tensor, z: Tensor, lr: Tensor, colours=(), shifts=(), **preprocessing: Tensor):
        real = preprocess(train.x[images], config.data, **preprocessing).contiguous(memory_format=torch.channels_last)
        set_lr(adam_g, lr)
        set_lr(adam_d, lr * config.d_lr_factor)
        augment = [partial(diff_augment, colour=c, shift=s) for c, s in zip(colours, shifts, strict=True)]
        with autocast(precision, device):
            y, losses = train.y[images], LOSSES[config.loss]
            values = gan_step(G, D, adam_g, adam_d, real, y, z, losses, augment or NO_AUGMENTATION, config.r1)
        update_average(average, G, config.ema)
        return values

    parts = {"G": G, "D": D, "average": average, "adam_g": adam_g, "adam_d": adam_d}
    drawn, iterate = sent_ahead(draw, config.steps, device), captured(iterate, parts, device)
    title = f"GAN {config.data.dataset}" + (f", {train.classes[0]}" if config.only_class >= 0 else "")
    with Steps(folder, config.steps, parts, title, "try a smaller gan.lr") as steps:
        for step in steps:
            row = steps.log(lr=lr_at(config, step), **iterate(**drawn(step)))
            sampled = (step + 1) % sample_every == 0 or step + 1 == config.steps

            if row is not None or sampled:
                average.eval()
                weights = without_start(average, start, config.ema, step + 1)
                with torch.no_grad():
                    shown = functional_call(average, weights, (z_shown, y_shown))
            if sampled:
                png = BytesIO()
                torchvision.utils.save_image((shown + 1) / 2, png, format="PNG", nrow=columns, padding=FRAME)
                write_whole(folder / "samples" / f"step-{step + 1:06d}.png", png.getvalue())
            if row is not None:
                row["diversity_saved"] = float(diversity(real_shown, shown[compared], y_shown[compared])[0])
                if watch is not None:
                    watch(steps.history, folder / "samples")

    weights = without_start(average, start, config.ema, config.steps)
    if labeller is not None:
        of_labeller, _ = load_weights(labeller / "classifier.safetensors")
        weights |= {f"labeller.{name}": tensor for name, tensor in of_labeller.items()}
    save_weights(folder / "generator.safetensors", weights, card)
    return last_of(steps.history) | {"parameters_g": n_parameters(G), "parameters_d": n_parameters(D)}


def gan_step(
    G, D, adam_g, adam_d, real: Tensor, y: Tensor, z: Tensor, losses, augment=NO_AUGMENTATION, r1: float = 0.0
) -> dict[str, Tensor]:
    """One iteration of Eq. 1: D learns to tell `real` from G(z), then G learns to be taken for real.

    `real`: N x C x H x W in [-1, 1]; `y`: the labels of both the real and the generated images; `z`:
    N x z_dim; `losses`: D's and G's, on logits; `augment`: how D's real and generated images, and G's generated ones,
    reach D; `r1`: the weight of `r1_penalty` in D's loss. Returns scalars: the two losses, the mean probabilities D(x)
    and D(G(z)), and the `diversity` of the generated images, of all classes and lowest.
    """
    discriminator_loss, generator_loss = losses
    augment_real, augment_fake, augment_for_g = augment
    D.requires_grad_(True)  # a step that was interrupted leaves it without
    fake = G(z, y)

    if r1 > 0:
        real = real.detach().requires_grad_()
    real_logits, fake_logits = discriminate(D, augment_real(real), augment_fake(fake.detach()), y)
    loss_d = discriminator_loss(real_logits, fake_logits)
    penalty = r1 * r1_penalty(real_logits, real) if r1 > 0 else 0.0
    adam_d.zero_grad()
    (loss_d + penalty).backward()
    adam_d.step()

    # G's step needs the gradient through D, not D's own; and D has just changed, so autocast must not take
    # its bf16 copy of D's old weights, which it keeps only of weights that require gradients
    D.requires_grad_(False)
    loss_g = generator_loss(D(augment_for_g(fake), y))
    adam_g.zero_grad()
    loss_g.backward()
    adam_g.step()

    with torch.no_grad():
        watched = {"loss_d": loss_d.detach(), "loss_g": loss_g.detach()}
        watched |= {"d_real": real_logits.sigmoid().mean(), "d_fake": fake_logits.sigmoid().mean()}
        watched["diversity"], watched["diversity_lowest"] = diversity(real, fake, y)
    return watched


def discriminate(D: Discriminator, real: Tensor, fake: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """D's logits of `real` and of `fake`: in one pass, unless batch norm would then mix the two, or R1 asks of one."""
    if D.sees_the_batch or real.requires_grad:
        return D(real, y), D(fake, y)
    return D(torch.cat([real, fake]), y.repeat(2)).chunk(2)


def per_class(config: GanConfig, classes: int) -> list[GanConfig]:
    """Return a training for each class, of an equal part of the steps: together they see as many images as one for all.

    The schedule's decays and the average's memory are shortened alike.
    """
    steps, lr_step = max(1, config.steps // classes), max(1, config.lr_step // classes)
    part = replace(config, labels="conditional", steps=steps, lr_step=lr_step, ema=config.ema**classes)
    return [replace(part, only_class=c) for c in range(classes)]


def join(config: GanConfig, parts: Sequence[Run], classes: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Put the generators of `per_class` into one file, their samples side by side, and their histories' mean."""
    weights = {}
    for c, run in enumerate(parts):
        one, _ = load_weights(run.folder / "generator.safetensors")
        weights |= {f"generators.{c}.{key}": tensor for key, tensor in one.items()}
    (folder / "samples").mkdir(exist_ok=True)
    for path in sorted((parts[0].folder / "samples").glob("*.png")):
        first, *others = [np.asarray(Image.open(run.folder / "samples" / path.name)) for run in parts[:10]]
        columns = [first, *(column[:, FRAME:] for column in others)]  # one frame between two, as in other grids
        Image.fromarray(np.concatenate(columns, 1)).save(folder / "samples" / path.name)
    history = pd.concat([run.history() for run in parts]).groupby("step", as_index=False).mean()
    write_whole(folder / "history.csv", history.to_csv(index=False, lineterminator="\n").encode())
    save_weights(folder / "generator.safetensors", weights, {"config": as_dict(config), "classes": classes})
    counts = {name: sum(run.metrics[name] for run in parts) for name in ("parameters_g", "parameters_d")}
    return last_of(history.to_dict("records")) | counts


def last_of(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the last row as metrics: without what is no number, which JSON does not have."""
    return {name: value for name, value in history[-1].items() if math.isfinite(value)}


def n_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
