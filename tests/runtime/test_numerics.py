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


def test_a_batch_depends_on_seed_and_step_alone():
    wanted = batch_indices(1_000, 64, seed=1, step=37)
    batch_indices(1_000, 64, seed=2, step=500)
    assert torch.equal(batch_indices(1_000, 64, seed=1, step=37), wanted)
    assert not torch.equal(batch_indices(1_000, 64, seed=2, step=37), wanted)


def test_the_papers_schedule_decays_by_gamma_every_2500_iterations():
    paper = GanConfig()
    assert [lr_at(paper, step) for step in (0, 2_499, 2_500, 5_000)] == pytest.approx([1e-4, 1e-4, 0.85e-4, 0.7225e-4])


def test_the_cosine_schedule_warms_up_peaks_and_ends_near_zero():
    config = GanConfig(schedule="cosine", steps=100, lr=1.0)
    rates = [lr_at(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001


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
