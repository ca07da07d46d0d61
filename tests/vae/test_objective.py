"""The bound in closed form: on a model whose evidence is known, it is reached and never passed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.draws import Draws
from limner.vae import (
    Pictures,
    Posterior,
    Reconstruction,
    Vae,
    VaeConfig,
    bits_per_dimension,
    kl_to_normal,
    vae_objective,
)

CONFIG = VaeConfig(resolution=8, widths=(4,), blocks=0, hidden=6, latent=3, sigma=0.5)


def pictures(rows: int = 4) -> Tensor:
    return torch.rand(rows, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Fixed(Vae):
    """A VAE that says what it is told to."""

    def __init__(self, answer: Reconstruction) -> None:
        super().__init__(CONFIG)
        self.answer = answer
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, pictures: Tensor, noise: Tensor) -> Reconstruction:
        self.asked.append((pictures, noise))
        return self.answer


@pytest.mark.parametrize(
    ("mean", "log_variance", "nats"),
    [(1.0, 0.0, 0.5), (0.0, -1.0, 0.18393972), (0.0, 0.0, 0.0), (-2.0, 1.0, 0.5 * (math.e + 4 - 2))],
)
def test_golden_kl(mean, log_variance, nats):
    found = kl_to_normal(Posterior(torch.full((1, 2), mean), torch.full((1, 2), log_variance)))
    assert found.tolist() == [pytest.approx([nats, nats], abs=1e-6)]


@given(mean=st.floats(-3, 3), log_variance=st.floats(-4, 2))
def test_kl_equals_torchs_own(mean, log_variance):
    q = torch.distributions.Normal(mean, math.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    found = kl_to_normal(Posterior(torch.tensor([[mean]]), torch.tensor([[log_variance]])))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_pixels_are_summed_and_rows_averaged(beta):
    x = pictures()
    said = Reconstruction(x + 0.1, Posterior(torch.ones(4, 3), torch.zeros(4, 3)))
    model = Fixed(said)
    loss = vae_objective(beta=beta)(model, Pictures(x), Draws(range(4)))
    ((shown, noise),) = model.asked
    assert shown is x
    assert torch.equal(noise, Draws(range(4)).normal(3))
    # 192 colour values, each off by 0.1, at σ = 0.5; three latent numbers of half a nat.
    assert loss.total.item() == pytest.approx(192 * 0.01 / 0.5 + beta * 1.5, rel=1e-5)
    assert loss.report["kl"].item() == pytest.approx(1.5)
    assert loss.report["error"].item() == pytest.approx(0.01, rel=1e-4)
    assert loss.report["in_use"].item() == 3
    alone = (x - x.mean(dim=0)).square().flatten(1).sum(dim=1).mean() / 0.5
    assert loss.baseline == pytest.approx(alone.item(), rel=1e-5)


def test_the_bound_holds_and_is_reached():
    """x = a z + σ ε with z, ε normal: the evidence is N(0, a² + σ²), the true posterior is known.

    Monte Carlo over the objective's own terms, in nats and with the Gaussian's constant.
    """
    a, sigma, x = 0.8, 0.5, torch.tensor(0.7, dtype=torch.float64)
    evidence = -torch.distributions.Normal(0.0, math.sqrt(a * a + sigma * sigma)).log_prob(x)
    variance = sigma**2 / (a * a + sigma**2)
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def bound(mean: float, log_variance: float) -> float:
        z = mean + math.exp(0.5 * log_variance) * noise
        misfit = ((x - a * z).square() / (2 * sigma**2)).mean()
        posterior = Posterior(torch.tensor([[mean]]), torch.tensor([[log_variance]]))
        nats = misfit + kl_to_normal(posterior).sum()
        # One dimension, and levels so wide (e^0 = 1) that the bits are the density's.
        return float(bits_per_dimension(nats, dimensions=1, sigma=sigma, level=1.0)) * math.log(2)

    best = bound(a * float(x) / (a * a + sigma**2), math.log(variance))
    assert best == pytest.approx(float(evidence), abs=0.005)
    assert bound(0.0, math.log(variance)) > best + 0.1
    assert bound(a * float(x) / (a * a + sigma**2), 0.0) > best + 0.1


@pytest.mark.parametrize("sigma", [0.05, 0.2, 1.0])
def test_bits_of_pictures_drawn_from_the_model(sigma):
    """A Gaussian rounded to 8-bit levels: the bits are the entropy of what comes out, counted."""
    noise = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nats = noise.square().sum() / 2
    found = bits_per_dimension(nats, dimensions=len(noise), sigma=sigma)
    shares = torch.bincount((noise * sigma * 255 / 2).round().long() + 10_000).double() / len(noise)
    entropy = torch.special.entr(shares).sum() / math.log(2)
    assert float(found) == pytest.approx(float(entropy), abs=0.01)


def test_beta_trains_and_the_report_stays_the_bound():
    x, draws = pictures(), [1, 2, 3, 4]
    torch.manual_seed(0)
    model = Vae(CONFIG)
    one, four = (vae_objective(beta=beta)(model, Pictures(x), Draws(draws)) for beta in (1.0, 4.0))
    assert one.report["bits"].item() == four.report["bits"].item()
    assert (four.total - one.total).item() == pytest.approx(3 * one.report["kl"].item(), rel=1e-4)
    assert not one.report["bits"].requires_grad


def test_a_model_that_says_the_mean_scores_the_baseline():
    x = pictures()
    mean = x.mean(dim=0, keepdim=True).expand_as(x)
    said = Reconstruction(mean, Posterior(torch.zeros(4, 3), torch.zeros(4, 3)))
    loss = vae_objective(beta=1.0)(Fixed(said), Pictures(x), Draws(range(4)))
    assert loss.total.item() == pytest.approx(loss.baseline, rel=1e-5)


def test_only_a_vae_is_trained():
    with pytest.raises(TypeError, match="expected Vae, got Identity"):
        vae_objective(beta=1.0)(nn.Identity(), Pictures(pictures()), Draws(range(4)))
