"""Eq. 1 on logits against the formula on probabilities."""

import numpy as np
import pytest
import torch

from rag_lib.gan.losses import (
    discriminator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    minimax_loss,
    non_saturating_loss,
)

REAL = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
FAKE = torch.tensor([-3.0, 0.0, 1.5], dtype=torch.float64)


def d(logits: torch.Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.numpy()))


def test_losses_are_equation_1():
    assert discriminator_loss(REAL, FAKE).item() == pytest.approx(-np.log(d(REAL)).mean() - np.log(1 - d(FAKE)).mean())
    assert minimax_loss(FAKE).item() == pytest.approx(np.log(1 - d(FAKE)).mean())
    assert non_saturating_loss(FAKE).item() == pytest.approx(-np.log(d(FAKE)).mean())


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_losses_and_gradients_stay_finite_where_a_probability_would_round_to_0_or_1(logit):
    logits = torch.tensor([logit], requires_grad=True)
    for loss in (discriminator_loss(logits, logits), minimax_loss(logits), non_saturating_loss(logits)):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient)


def test_only_the_non_saturating_form_has_a_gradient_where_the_fakes_are_bad():
    logits = torch.tensor([-20.0], requires_grad=True)
    (fading,) = torch.autograd.grad(minimax_loss(logits), logits)
    (steady,) = torch.autograd.grad(non_saturating_loss(logits), logits)
    assert abs(fading.item()) < 1e-6
    assert steady.item() == pytest.approx(-1, abs=1e-6)


def test_the_hinge_loss_by_hand():
    """Real logits 2, -1, 0.5: 0, 2 and 0.5 short of 1; generated ones -3, 0, 1.5: 0, 1 and 2.5 above -1."""
    assert hinge_discriminator_loss(REAL, FAKE).item() == pytest.approx(2.5 / 3 + 3.5 / 3)
    assert hinge_generator_loss(FAKE).item() == pytest.approx(0.5)
