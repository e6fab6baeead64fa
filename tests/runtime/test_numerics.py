"""What both loops share."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from rag_lib.runtime.numerics import batch_indices, pick_precision, rng, seed_of
from rag_lib.runtime.optim import lr_at, update_average
from rag_lib.settings.config import GanConfig


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (3, 8)])
def test_batches_cover_each_image_once_an_epoch_in_other_orders(n, batch_size):
    stream = torch.cat([batch_indices(n, batch_size, seed=0, step=t) for t in range(5)])
    epochs = stream[: len(stream) // n * n].reshape(-1, n)
    assert (epochs.sort().values == torch.arange(n)).all()
    assert len(epochs.unique(dim=0)) > 1
    assert not torch.equal(stream, torch.cat([batch_indices(n, batch_size, seed=1, step=t) for t in range(5)]))


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (GanConfig(), {0: 1e-4, 2_499: 1e-4, 2_500: 0.85e-4, 5_000: 0.7225e-4}),  # the paper's
        (GanConfig(schedule="cosine", steps=100, lr=1.0), {0: 0.1, 9: 1.0, 10: 1.0, 55: 0.5, 99: 0.0003}),
        (GanConfig(schedule="triangle", steps=100, lr=1.0), {0: 0.05, 19: 1.0, 20: 1.0, 60: 0.5, 99: 0.0125}),
    ],
    ids=["step", "cosine", "triangle"],
)
def test_each_schedule_has_its_rates(config, rates):
    assert {step: lr_at(config, step) for step in rates} == pytest.approx(rates, abs=1e-5)


def test_seeds_of_different_parts_are_unrelated_and_always_the_same():
    seeds = {seed_of(a, b) for a in range(20) for b in ("z", "step")}
    assert len(seeds) == 40
    assert seed_of(1, "z") == 1035343949871299123
    assert torch.equal(torch.rand(3, generator=rng(1, "z")), torch.rand(3, generator=rng(1, "z")))


@pytest.mark.parametrize("decay", [0.75, 0.0])
def test_the_average_follows_weights_and_batch_norms_statistics(decay):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average = copy.deepcopy(model)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    nn.init.constant_(model[0].weight, 5.0)
    model(torch.randn(8, 3))  # moves the running statistics
    update_average(average, model, decay)
    for name, value in average.state_dict().items():
        now = model.state_dict()[name]
        expected = decay * before[name] + (1 - decay) * now if now.is_floating_point() else now
        torch.testing.assert_close(value, expected)


def test_a_requested_precision_is_kept_and_auto_chooses_one():
    cpu, cpuinfo = torch.device("cpu"), Path("/proc/cpuinfo")
    assert [pick_precision(requested, cpu) for requested in ("fp32", "bf16")] == ["fp32", "bf16"]
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""  # what the processor says of itself, on Linux and x86
    assert pick_precision("auto", cpu) == ("bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32")
