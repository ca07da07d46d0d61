"""The game: closed forms, and that each network learns from its own loss alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.dfgan import (
    CaptionedPictures,
    DfGan,
    DfGanConfig,
    adversarial_objective,
    gradient_penalty,
    hinge,
    hinge_of_false,
    noise,
)
from limner.draws import Draws

TINY = DfGanConfig(resolution=16, width=4, noise=6, sentence=5, squashed=True)
ROWS = range(4)


def shaken(seed: int = 0) -> DfGan:
    torch.manual_seed(seed)
    gan = DfGan(TINY)
    with torch.no_grad():
        for parameter in gan.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return gan


def batch(seed: int = 0) -> CaptionedPictures:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.rand(4, 3, 16, 16, generator=generator) * 2 - 1
    return CaptionedPictures(pictures, torch.arange(4)[:, None])


def read(ids: Tensor) -> Tensor:
    said = torch.randn(9, TINY.sentence, generator=torch.Generator().manual_seed(5))
    return said[ids[:, 0]]


# --- hinge ---------------------------------------------------------------------------------------


def test_hinges_at_and_beyond_their_margins():
    scores = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert [float(hinge(s[None])) for s in scores] == [3, 2, 1, 0, 0]
    assert [float(hinge_of_false(s[None])) for s in scores] == [0, 0, 1, 2, 3]
    assert float(hinge(scores)) == pytest.approx(6 / 5)


# --- penalty -------------------------------------------------------------------------------------


@given(scale=st.floats(0.05, 3), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_the_penalty_of_a_linear_discriminator_is_known(scale, share, seed):
    """D = ⟨a, x⟩ + ⟨b, s⟩ has the gradient (a, b) everywhere: 2 (‖a‖² + ‖b‖²)³, however they share it."""
    torch.manual_seed(seed)
    a, b = torch.randn(3, 4, 4).double(), torch.randn(5).double()
    a *= scale * share**0.5 / a.norm()
    b *= scale * (1 - share) ** 0.5 / b.norm()
    x = torch.randn(6, 3, 4, 4).double().requires_grad_()
    s = torch.randn(6, 5).double().requires_grad_()
    scores = (x * a).sum(dim=(1, 2, 3)) + s @ b
    assert float(gradient_penalty(scores, x, s)) == pytest.approx(2 * scale**6, rel=1e-9)


def test_a_joint_norm_of_one_costs_two():
    x, s = torch.zeros(3, 3, 8, 8).requires_grad_(), torch.zeros(3, 5).requires_grad_()
    scores = 0.6 * x[:, 0, 0, 0] + 0.8 * s[:, 2]
    assert float(gradient_penalty(scores, x, s).detach()) == pytest.approx(2.0)


def test_the_penalty_is_the_mean_over_pictures_and_not_of_the_mean_norm():
    x, s = torch.zeros(2, 3, 8, 8).requires_grad_(), torch.zeros(2, 5).requires_grad_()
    scores = torch.tensor([1.0, 2.0]) * x[:, 0, 0, 0] + 0 * s[:, 0]
    assert float(gradient_penalty(scores, x, s).detach()) == pytest.approx((2 * 1 + 2 * 2**6) / 2)


def test_its_slope_is_that_of_the_closed_form_and_finite_where_nothing_changes():
    """Of D = w x: d/dw 2 w⁶ = 12 w⁵, and 0 at w = 0, where a norm would have no slope."""
    for value, slope in ((0.5, 12 * 0.5**5), (0.0, 0.0)):
        w = torch.tensor(value, requires_grad=True)
        x, s = torch.ones(2, 3, 8, 8).requires_grad_(), torch.zeros(2, 5).requires_grad_()
        gradient_penalty(w * x[:, 0, 0, 0] + 0 * s[:, 0], x, s).backward()
        assert float(w.grad) == pytest.approx(slope)


def test_the_penalty_reaches_the_discriminator_alone():
    gan, x = shaken(), batch().pictures.requires_grad_()
    s = read(torch.arange(4)[:, None]).requires_grad_()
    scores = gan(x, s, torch.randn(4, TINY.noise))
    gradient_penalty(scores.real, x, s).backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    reached = [p.grad.abs().sum() for p in gan.discriminator.parameters() if p.grad is not None]
    assert sum(reached) > 0
    # Nothing but a real picture with its own sentence may be held smooth.
    for part in (scores.mismatched, scores.painted, scores.admired):
        assert torch.autograd.grad(part.sum(), s, allow_unused=True, retain_graph=True) == (None,)


# --- a round -------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_scores_of_a_round_are_those_of_the_pairs_they_name():
    gan, x = shaken(), batch().pictures
    s, z = read(torch.arange(4)[:, None]), torch.randn(4, TINY.noise)
    judge, painted = gan.discriminator, gan.generator(z, s)
    scores = gan(x, s, z)
    torch.testing.assert_close(scores.real, judge(x, s))
    torch.testing.assert_close(scores.painted, judge(painted, s))
    torch.testing.assert_close(scores.admired, judge(painted, s))
    for row in range(4):
        other = judge(x[(row + 1) % 4][None], s[row][None])
        torch.testing.assert_close(scores.mismatched[row], other[0])


def test_each_network_gets_the_gradient_of_its_own_loss():
    """In one pass back what two would give, each with the other network left alone."""
    gan = shaken()
    loss = adversarial_objective(read)(gan, batch(), Draws(ROWS))
    loss.total.backward()
    found = {name: p.grad.clone() for name, p in gan.named_parameters()}

    x, s = batch().pictures.requires_grad_(), read(torch.arange(4)[:, None]).requires_grad_()
    z, judge = noise(Draws(ROWS), TINY), gan.discriminator
    real, told = judge(x, s), s.detach()
    by_x, by_s = torch.autograd.grad(real.sum(), (x, s), create_graph=True)
    norms = torch.cat([by_x.flatten(1), by_s.flatten(1)], dim=1).norm(dim=1)
    painted = gan.generator(z, told)
    wrong = judge(x.roll(-1, 0), told)
    discriminator = (
        (1 - real).clamp(min=0).mean()
        + 0.5 * (1 + judge(painted.detach(), told)).clamp(min=0).mean()
        + 0.5 * (1 + wrong).clamp(min=0).mean()
        + 2 * (norms**6).mean()
    )
    generator = -judge(painted, told).mean()
    assert float(loss.total.detach()) == pytest.approx(float(discriminator.detach()), rel=1e-5)
    assert float(loss.report["generator"]) == pytest.approx(float(generator.detach()), rel=1e-5)
    for part, own in (("discriminator", discriminator), ("generator", generator)):
        weights = dict(gan.get_submodule(part).named_parameters())
        wanted = torch.autograd.grad(own, list(weights.values()), retain_graph=True)
        for name, gradient in zip(weights, wanted, strict=True):
            torch.testing.assert_close(found[f"{part}.{name}"], gradient, atol=1e-6, rtol=1e-4)


def test_one_that_knows_nothing_loses_two():
    gan = shaken()
    with torch.no_grad():
        gan.discriminator.judge.weight.zero_()
    loss = adversarial_objective(read)(gan, batch(), Draws(ROWS))
    assert float(loss.total.detach()) == loss.baseline == 2.0
    assert loss.rivals
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in gan.parameters())


def test_a_pair_that_is_alone_is_refused():
    alone = CaptionedPictures(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="batch: 1 pair; give at least 2, or none can be mismatched"):
        adversarial_objective(read)(DfGan(TINY), alone, Draws([0]))
