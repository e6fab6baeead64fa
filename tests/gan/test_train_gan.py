"""The GAN's loop, run for real at preset smoke."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers import train_gan
from PIL import Image
from safetensors.torch import load_file

from rag_lib import study
from rag_lib.data.images import concat
from rag_lib.data.preprocess import preprocess
from rag_lib.gan import train as gans
from rag_lib.gan.attention import ATTENTION
from rag_lib.gan.losses import LOSSES
from rag_lib.gan.networks import Discriminator, Generator
from rag_lib.gan.train import gan_step
from rag_lib.gan.watch import diversity
from rag_lib.runtime.numerics import rng, threads
from rag_lib.study.resolve import resolve
from rag_lib.synthetic import load_generator

SMOKE = replace(resolve(preset="smoke").gan, precision="fp32")


def weights(run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "generator.safetensors")


def test_numerics_guards_the_gans_numbers(digits):
    """If this fails by intention, the numbers of every config have changed: bump `config.NUMERICS`."""
    metrics = train_gan(SMOKE, digits.train).metrics
    expected = {"loss_d": 1.1119, "loss_g": 1.0682}
    assert {k: metrics[k] for k in expected} == pytest.approx(expected, abs=2e-3)


def test_a_slow_average_of_few_steps_holds_no_untrained_weights(digits):
    """After one step it is the generator itself, and not 99.9% of its start, which draws noise."""
    slow, none = (weights(train_gan(replace(SMOKE, steps=1, ema=ema), digits.train)) for ema in (0.999, 0.0))
    torch.testing.assert_close(slow, none, rtol=0, atol=2e-4)


def test_the_watch_sees_the_diversity_of_what_is_saved(digits):
    """Of four images a class, from the generator that the run leaves."""
    run = train_gan(replace(SMOKE, ema=0.999), digits.train)
    generator, y = load_generator(run.folder), torch.arange(10).repeat(4)
    with torch.no_grad():
        fake = generator(torch.randn(40, SMOKE.z_dim, generator=rng("gan", SMOKE.seed, "shown")), y)
    shown = [int((digits.train.y == c).nonzero()[n]) for n in range(4) for c in range(10)]
    expected, _ = diversity(preprocess(digits.train.x[shown], SMOKE.data), fake, y)
    history = run.history()
    assert history["diversity_saved"].iloc[-1] == pytest.approx(float(expected), rel=1e-3)
    assert history["diversity_saved"].notna().all()


@pytest.mark.parametrize(("d_norm", "r1"), [("batch", 0.0), ("none", 3.0)])
def test_one_step_is_the_plain_textbook_step(d_norm, r1):
    """Against separate backward passes written out, with plain Adam and D's gradients computed in G's step too."""
    config = replace(SMOKE, width=4, d_norm=d_norm)
    torch.manual_seed(0)
    G, D = Generator(config, 10), Discriminator(config, 10)
    for weights_of_d in D.parameters():
        weights_of_d.data *= 5 if r1 else 1  # so that its slope counts
    G2, D2 = copy.deepcopy(G), copy.deepcopy(D)
    real, y, z = torch.rand(8, 1, 28, 28) * 2 - 1, torch.arange(8), torch.randn(8, 100)
    adam = [torch.optim.Adam(m.parameters(), 1e-3, (0.5, 0.999), weight_decay=1e-4) for m in (G, D, G2, D2)]
    gan_step(G, D, adam[0], adam[1], real, y, z, LOSSES["non_saturating"], r1=r1)

    real.requires_grad_()
    fake = G2(z, y)
    logits = D2(real, y)
    slope = torch.autograd.grad(logits, real, torch.ones(8), create_graph=True)[0]
    loss = -logits.sigmoid().log().mean() - (1 - D2(fake.detach(), y).sigmoid()).log().mean()
    (loss + r1 / 2 * (slope**2).sum() / 8).backward()
    adam[3].step()
    adam[2].zero_grad()
    (-D2(fake, y).sigmoid().log().mean()).backward()
    adam[2].step()
    for ours, plain in ((G, G2), (D, D2)):
        torch.testing.assert_close(ours.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-5)


def test_after_a_step_that_was_interrupted_every_parameter_learns():
    """As a CUDA graph's capture may be, after which the plain step goes on."""
    torch.manual_seed(0)
    G, D = Generator(SMOKE, 10), Discriminator(SMOKE, 10)
    adam = [torch.optim.Adam(m.parameters(), 1e-2) for m in (G, D)]
    given = (G, D, *adam, torch.rand(10, 1, 28, 28) * 2 - 1, torch.arange(10), torch.randn(10, 100))
    with pytest.raises(ZeroDivisionError):
        gan_step(*given, (LOSSES["hinge"][0], lambda logits: 1 / 0))
    parameters = [*G.parameters(), *D.parameters()]
    before = [p.detach().clone() for p in parameters]
    gan_step(*given, LOSSES["hinge"])
    assert not any(map(torch.equal, before, parameters))


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "minimax"},
        {"precision": "bf16"},
        {"steps": 13, "batch_size": 16},  # more than there are images
        *({"attention": name} for name in ATTENTION if name != "spam"),
        {"diff_augment": True},
        {"r1": 0.1, "d_norm": "spectral", "diff_augment": True},
        {"r1": 0.1, "d_norm": "none", "precision": "bf16"},
    ],
    ids=str,
)
def test_every_loss_precision_and_attention_trains(digits, changes):
    config = replace(SMOKE, **changes)
    run = train_gan(config, digits.train[:10])
    assert run.environment()["precision"] == config.precision
    assert run.history()["step"].iloc[-1] == config.steps


def test_a_generator_a_class_learns_from_its_class_and_is_joined_in_its_place(digits, tmp_path):
    settings = resolve(preset="smoke", overrides={"gan.labels": "per_class", "gan.steps": 100, "gan.lr": 1e-2})
    joined = study.run_gan(settings, digits)
    threes = digits.train[digits.train.y == 3]
    threes = replace(threes, y=torch.zeros_like(threes.y), classes=("3",))
    with threads(settings.engine.threads("gan")):
        gans.train_gan(gans.per_class(settings.gan, 10)[3], threes, tmp_path)
    for name, weight in load_file(tmp_path / "generator.safetensors").items():
        assert torch.equal(weights(joined)[f"generators.3.{name}"], weight)
    # regression: two frames stood between two columns, and the classes' names beside their columns
    with Image.open(joined.folder / "samples" / "step-000010.png") as samples:
        assert samples.width == 10 * (28 + 2) + 2


def test_the_discriminator_may_have_its_own_rate(digits):
    """D's loss of the first iteration is what it was before D's step, G's is by what D became."""
    config = replace(SMOKE, steps=1, ema=0.0)
    runs = [train_gan(replace(config, d_lr_factor=factor), digits.train[:10]) for factor in (0.0, 1.0, 4.0)]
    assert len({run.metrics["loss_d"] for run in runs}) == 1
    assert len({run.metrics["loss_g"] for run in runs}) == 3


def test_oversampling_shows_rare_classes_as_often_as_frequent_ones(digits):
    few = digits.train[torch.cat([(digits.train.y == c).nonzero().flatten()[: 12 if c else 3] for c in range(10)])]
    zeros = (few.y == 0).nonzero().flatten()
    repeated = concat(few, few[zeros[torch.arange(9) % 3]])
    config = replace(SMOKE, seed=3)
    oversampled = train_gan(replace(config, oversample=True), few)
    torch.testing.assert_close(weights(oversampled), weights(train_gan(config, repeated)), rtol=0, atol=0)
