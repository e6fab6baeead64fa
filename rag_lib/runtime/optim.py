"""Optimisers, their rates, and the moving average of weights."""

import math

import torch
from torch import Tensor, nn

from rag_lib.settings.config import ClassifierConfig, GanConfig


def lr_at(config: GanConfig | ClassifierConfig, step: int) -> float:
    """Return the learning rate of iteration `step`.

    `step`: the paper's decay by `lr_gamma` every `lr_step` iterations. `cosine`: up in a line over the
    first tenth of the training, then down to 0 along half a cosine. `triangle`: up in a line over the first fifth,
    then down to 0 in a line.
    """
    if config.schedule == "triangle":
        peak = max(1.0, config.steps / 5)
        return config.lr * min((step + 1) / peak, (config.steps - step) / max(1.0, config.steps - peak), 1.0)
    if config.schedule == "cosine":
        warm_up = math.ceil(config.steps / 10)
        if step < warm_up:
            return config.lr * (step + 1) / warm_up
        return config.lr * (1 + math.cos(math.pi * (step - warm_up) / max(1, config.steps - warm_up))) / 2
    return config.lr * config.lr_gamma ** (step // config.lr_step)


def adam(model: nn.Module, config: GanConfig | ClassifierConfig) -> torch.optim.Adam:
    """Adam with L2 as the paper's PyTorch does it; fused: one pass over all the weights."""
    betas = (config.beta1, config.beta2)
    device = next(model.parameters()).device.type
    return torch.optim.Adam(
        model.parameters(), config.lr, betas, weight_decay=config.weight_decay, fused=device in ("cpu", "cuda")
    )


def optimizer_of(model: nn.Module, config: ClassifierConfig) -> torch.optim.Optimizer:
    """Adam, or stochastic gradient descent with Nesterov's momentum `beta1`."""
    if config.optimizer == "adam":
        return adam(model, config)
    weights = [p for p in model.parameters() if p.requires_grad]
    given = {"momentum": config.beta1, "weight_decay": config.weight_decay, "nesterov": config.beta1 > 0}
    return torch.optim.SGD(weights, config.lr, **given, fused=weights[0].is_cuda)


def set_lr(optimizer: torch.optim.Optimizer, lr: Tensor) -> None:
    """Set the rate, a float64 scalar; on a CUDA device in place, since a graph reads it from where it lies."""
    for group in optimizer.param_groups:
        if lr.is_cuda:
            group["lr"].copy_(lr)
        else:
            group["lr"] = lr.item()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model, batch norm's running statistics included."""
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [(a, m) for a, m in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [m for _, m in floats], 1 - decay)
    for a, m in pairs:
        if not a.is_floating_point():
            a.copy_(m)


@torch.no_grad()
def without_start(average: nn.Module, start: nn.Module, decay: float, steps: int) -> dict[str, Tensor]:
    """Return what is saved of an `average` over `steps` that began as `start`, the untrained net.

    decay**steps of it is still `start`, and is taken out; below 1% it is left where it is.
    """
    weights, left = average.state_dict(), decay**steps
    if left <= 0.01:
        return weights
    floats = {name: value for name, value in start.state_dict().items() if value.is_floating_point()}
    return weights | {name: (weights[name] - left * value) / (1 - left) for name, value in floats.items()}
