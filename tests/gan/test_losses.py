"""Eq. 1 on logits against the formula on probabilities."""

import numpy as np
import pytest
import torch

from rag_lib.gan.losses import LOSSES

REAL = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
FAKE = torch.tensor([-3.0, 0.0, 1.5], dtype=torch.float64)


def d(logits: torch.Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.numpy()))


MINUS_EQ_1 = -np.log(d(REAL)).mean() - np.log(1 - d(FAKE)).mean()


@pytest.mark.parametrize(
    ("name", "of_d", "of_g"),
    [
        ("minimax", MINUS_EQ_1, np.log(1 - d(FAKE)).mean()),
        ("non_saturating", MINUS_EQ_1, -np.log(d(FAKE)).mean()),
        # real logits: 0, 2 and 0.5 short of 1; generated ones: 0, 1 and 2.5 above -1
        ("hinge", 2.5 / 3 + 3.5 / 3, 0.5),
    ],
)
def test_losses_are_those_of_equation_1_and_the_hinge_loss(name, of_d, of_g):
    discriminator_loss, generator_loss = LOSSES[name]
    assert discriminator_loss(REAL, FAKE).item() == pytest.approx(of_d)
    assert generator_loss(FAKE).item() == pytest.approx(of_g)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay_finite_where_a_probability_would_round_to_0_or_1(name, logit):
    discriminator_loss, generator_loss = LOSSES[name]
    logits = torch.tensor([logit], requires_grad=True)
    for loss in (discriminator_loss(logits, logits), generator_loss(logits)):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(torch.cat([loss[None], gradient])).all()
