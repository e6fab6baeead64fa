"""What of graph.py a CPU can prove: blocks of random numbers, and a warm-up that leaves no trace."""

import pytest
import torch

from rag_lib.gan.networks import Discriminator
from rag_lib.runtime import graph
from rag_lib.runtime.graph import sent_ahead, undone
from rag_lib.runtime.numerics import rng
from rag_lib.runtime.optim import adam, optimizer_of
from rag_lib.settings.config import ClassifierConfig, GanConfig


def draw(step: int) -> dict[str, torch.Tensor]:
    return {"z": torch.randn(3, 2, generator=rng(step)), "lr": torch.tensor(step / 7, dtype=torch.float64)}


def test_blocks_hold_the_numbers_of_each_step_wherever_one_resumes(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda value: value)
    monkeypatch.setattr(torch.Tensor, "to", lambda value, *_, **__: value)
    monkeypatch.setattr(graph, "BLOCK", 4)
    at = sent_ahead(draw, 11, torch.device("cuda"))
    for step in (6, 7, 8, 9, 10, 0):
        for name, value in draw(step).items():
            assert torch.equal(at(step)[name], value)
            assert at(step)[name].dtype == value.dtype


@pytest.mark.parametrize("make", [adam, optimizer_of])
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_warm_up_leaves_no_trace_in_weights_statistics_and_optimiser(make, steps_before):
    """With spectral norm, whose own vectors move in each pass, and momentum that begins at the first step."""
    config = ClassifierConfig(optimizer="sgd") if make is optimizer_of else GanConfig()
    x, y = torch.rand(4, 1, 28, 28), torch.arange(4)

    def trained(warm_up: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = Discriminator(GanConfig(width=4, d_norm="spectral"), 10)
        optimizer = make(model, config)

        def take(steps: int) -> None:
            for _ in range(steps):
                optimizer.zero_grad()
                model(x, y).mean().backward()
                optimizer.step()

        take(steps_before)
        with undone({"model": model, "optimizer": optimizer}):
            take(warm_up)
        take(1)
        return model.state_dict()

    torch.testing.assert_close(trained(graph.WARM_UP), trained(0), rtol=0, atol=0)
