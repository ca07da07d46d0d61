"""Gumbel-softmax: the right distribution, the right gradient, the published schedules."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from limner.draws import Draws
from limner.quantize import (
    GumbelCodebook,
    cosine_annealed,
    exponentially_annealed,
    gumbel_softmax,
    kl_from_uniform,
)

EULER = 0.5772156649


class Zeros(Draws):
    """Streams that draw the one number whose logarithm is infinite."""

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.zeros(len(self), *shape)


def test_noise_is_gumbel():
    noise = Draws(list(range(8))).gumbel(5000)
    assert float(noise.mean()) == pytest.approx(EULER, abs=0.02)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.03)
    assert Zeros([0]).gumbel(3).isfinite().all()


def test_noise_belongs_to_the_row():
    assert torch.equal(Draws([5, 6]).gumbel(4)[1:], Draws([6]).gumbel(4))


def test_the_largest_is_drawn_with_softmax_probability():
    """The Gumbel-max trick, at any temperature."""
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    noise = Draws([0]).gumbel(40_000, 4)[0]
    for temperature in (0.1, 1.0, 5.0):
        drawn = gumbel_softmax(logits.expand_as(noise), noise, temperature=temperature, hard=True)
        assert torch.allclose(drawn.mean(0), logits.softmax(0), atol=0.01)


@given(seed=st.integers(0, 10**6), temperature=st.floats(0.05, 10))
def test_soft_points_lie_on_the_simplex_and_hard_ones_at_its_corners(seed, temperature):
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    noise = Draws([seed]).gumbel(6, 5)[0]
    soft = gumbel_softmax(logits, noise, temperature=temperature, hard=False)
    hard = gumbel_softmax(logits, noise, temperature=temperature, hard=True)
    assert torch.allclose(soft.sum(-1), torch.ones(6))
    assert torch.equal(hard, F.one_hot(soft.argmax(-1), 5).float())


def test_straight_through_has_the_soft_gradient():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    noise, weight = Draws([0]).gumbel(3, 4)[0], torch.arange(12.0).reshape(3, 4)
    gradients = [
        torch.autograd.grad(
            (gumbel_softmax(logits, noise, temperature=0.7, hard=hard) * weight).sum(), logits
        )[0]
        for hard in (False, True)
    ]
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


def test_cold_is_hard_and_hot_is_even():
    logits, noise = torch.tensor([[0.3, 0.1]]), torch.zeros(1, 2)
    assert torch.allclose(
        gumbel_softmax(logits, noise, temperature=1e-3, hard=False), torch.tensor([[1.0, 0.0]])
    )
    assert torch.allclose(
        gumbel_softmax(logits, noise, temperature=1e4, hard=False), torch.tensor([0.5]), atol=1e-4
    )
    with pytest.raises(ValueError, match=r"temperature: 0\.0; give a positive number"):
        gumbel_softmax(logits, noise, temperature=0.0, hard=False)


def test_divergence_from_uniform():
    assert kl_from_uniform(torch.zeros(2, 8192)).tolist() == pytest.approx([0, 0], abs=1e-5)
    certain = torch.full((8192,), -1e4).index_fill(0, torch.tensor([3]), 0.0)
    assert float(kl_from_uniform(certain)) == pytest.approx(9.0109133473)
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    known = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits), torch.distributions.Categorical(logits=torch.zeros(7))
    )
    assert torch.allclose(kl_from_uniform(logits), known, atol=1e-6)


def test_published_schedules():
    def wav2vec(step: int, end: float) -> float:
        return exponentially_annealed(step, start=2.0, end=end, factor=0.999995)

    assert wav2vec(0, 0.5) == 2.0
    assert wav2vec(100_000, 0.5) == pytest.approx(1.2130598031)
    assert wav2vec(277_258, 0.5) > 0.5 == wav2vec(277_259, 0.5)
    assert wav2vec(599_144, 0.1) > 0.1 == wav2vec(599_145, 0.1)

    def dalle(step: int) -> float:
        return cosine_annealed(step, start=1.0, end=1 / 16, steps=150_000)

    assert (dalle(0), dalle(150_000), dalle(10**7)) == pytest.approx((1.0, 1 / 16, 1 / 16))
    assert dalle(75_000) == pytest.approx((1 + 1 / 16) / 2)
    assert dalle(1000) > dalle(1001)


def test_a_codebook_mixes_in_training_and_chooses_otherwise():
    torch.manual_seed(0)
    book = GumbelCodebook(codes=6, width=3)
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    noise = Draws([7, 8]).gumbel(4, 6)
    soft = book(logits, temperature=0.5, draws=Draws([7, 8]))
    assert torch.allclose(soft.vectors, ((logits + noise) / 0.5).softmax(-1) @ book.codes)
    hard = book(logits, temperature=0.5, draws=Draws([7, 8]), hard=True)
    assert torch.allclose(hard.vectors, book.codes[(logits + noise).argmax(-1)])
    for out in (soft, hard, book.eval()(logits)):
        assert torch.equal(out.ids, logits.argmax(-1))
        assert float(out.loss) == pytest.approx(float(kl_from_uniform(logits).mean()))
        assert int(out.usage.counts.sum()) == 8
    assert torch.equal(book(logits).vectors, book.codes[logits.argmax(-1)])
    with pytest.raises(ValueError, match="training needs both"):
        book.train()(logits)
    with pytest.raises(ValueError, match="logits: for 5 codes, but there are 6"):
        book(logits[..., :5])
