"""What noise does, how outputs are read, and what the losses weigh."""

import inspect
import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.diffusion.process import (
    Network,
    Prediction,
    denoiser,
    discretised_log_likelihood,
    log_variance,
    min_snr,
    posterior_mean,
    q_sample,
    simple_loss,
    target,
    to_eps,
    to_x0,
    variance_loss,
    vlb_term,
)
from limner.diffusion.schedule import Schedule, cosine, linear

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
COSINE, LINEAR = cosine(1000), linear(1000)


def picture(seed: int, rows: int = 4, channels: int = 3) -> Tensor:
    return torch.randn(
        rows, channels, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize("level", [0, 100, 500, 999])
@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_noised_rows_have_the_moments_of_q(schedule: Schedule, level: int) -> None:
    noise = torch.randn(1, 40_000, generator=torch.Generator().manual_seed(level), dtype=torch.float64)
    x_t = q_sample(schedule, torch.full_like(noise, 0.7), torch.tensor([level]), noise)
    alpha_bar = schedule.alpha_bar[level].item()
    sigma = math.sqrt(1 - alpha_bar)
    assert x_t.mean().item() == pytest.approx(0.7 * math.sqrt(alpha_bar), abs=5 * sigma / 200)
    assert x_t.std().item() == pytest.approx(sigma, rel=5 / math.sqrt(2 * 40_000))


def test_each_row_has_its_own_level() -> None:
    x0, noise, index = picture(0), picture(1), torch.tensor([999, 0, 3, 500])
    together = q_sample(COSINE, x0, index, noise)
    for row in range(4):
        one = slice(row, row + 1)
        assert torch.equal(together[one], q_sample(COSINE, x0[one], index[one], noise[one]))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(index=st.lists(st.integers(0, 999), min_size=4, max_size=4), seed=st.integers(0, 1000))
def test_every_prediction_is_read_back(prediction: Prediction, index: list[int], seed: int) -> None:
    x0, noise, rows = picture(seed), picture(seed + 1), torch.tensor(index)
    alpha_bar = COSINE.alpha_bar[rows]
    x_t = q_sample(COSINE, x0, rows, noise)
    output = target(prediction, x0, noise, alpha_bar)
    torch.testing.assert_close(to_x0(prediction, output, x_t, alpha_bar), x0, rtol=0, atol=1e-10)
    torch.testing.assert_close(to_eps(x_t, x0, alpha_bar), noise, rtol=0, atol=1e-10)


@given(index=st.integers(0, 999), seed=st.integers(0, 1000))
def test_a_wrong_guess_means_the_same_in_every_language(index: int, seed: int) -> None:
    """Not only true pairs: any (x_t, x̂_0), said as ε, x_0 or v, reads as that x̂_0."""
    x_t, guess = picture(seed), picture(seed + 1)
    alpha_bar = COSINE.alpha_bar[index].expand(4)
    eps = to_eps(x_t, guess, alpha_bar)
    for prediction in PREDICTIONS:
        output = target(prediction, guess, eps, alpha_bar)
        torch.testing.assert_close(to_x0(prediction, output, x_t, alpha_bar), guess, rtol=0, atol=1e-10)


def test_posterior_mean_of_the_cleanest_level_is_the_guess() -> None:
    index = torch.zeros(4, dtype=torch.long)
    torch.testing.assert_close(posterior_mean(LINEAR, index, picture(0), picture(1)), picture(0))


@pytest.mark.parametrize("schedule", [LINEAR, COSINE, COSINE.respace("27")])
def test_learned_variance_reaches_both_ends(schedule: Schedule) -> None:
    index = torch.tensor([0, 1, 13, len(schedule) - 1])
    like = torch.ones(4, 3, 2, 2, dtype=torch.float64)
    small = log_variance(-like, schedule, index)[:, 0, 0, 0]
    large = log_variance(like, schedule, index)[:, 0, 0, 0]
    middle = log_variance(0 * like, schedule, index)[:, 0, 0, 0]
    torch.testing.assert_close(small, schedule.posterior_log_variance[index])
    torch.testing.assert_close(small[1:].exp(), schedule.posterior_variance[index][1:])
    torch.testing.assert_close(large, schedule.betas[index].log())
    torch.testing.assert_close(middle, (small + large) / 2)


def always(output: Tensor) -> Network:
    return lambda _x, _t: output


def test_denoiser_reads_prediction_and_variance() -> None:
    x0, noise, index = picture(0), picture(1), torch.tensor([10, 400, 800, 900])
    x_t = q_sample(COSINE, x0, index, noise)
    fraction = picture(2)
    denoise = denoiser(
        lambda _, t: torch.cat([noise, fraction], dim=1) * (t == index).all(),
        COSINE,
        "eps",
        learned_variance=True,
    )
    denoised = denoise(x_t, index.double())
    torch.testing.assert_close(denoised.x0, x0, rtol=0, atol=1e-10)
    assert denoised.variance is not None
    assert torch.equal(denoised.variance, fraction)


def test_denoiser_at_a_time_between_levels() -> None:
    levels = COSINE.log_snr_spaced(7)
    for t, alpha_bar in zip(levels.t, levels.alpha_bar, strict=True):
        x0, noise = picture(0), picture(1)
        x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
        denoised = denoiser(always(noise), COSINE, "eps")(x_t, t.expand(4))
        torch.testing.assert_close(denoised.x0, x0, rtol=0, atol=1e-9)
        assert denoised.variance is None


def test_denoiser_clips_the_guess_and_leaves_the_variance() -> None:
    def network(x: Tensor, _t: Tensor) -> Tensor:
        return torch.cat([5 * x, 5 * x], dim=1)

    denoised = denoiser(network, COSINE, "x0", learned_variance=True, clip=1.0)(picture(0), torch.zeros(4))
    assert denoised.x0.abs().max() == 1
    assert denoised.variance is not None
    assert torch.equal(denoised.variance, 5 * picture(0))


def test_denoiser_computes_in_the_type_of_x_t() -> None:
    """A half-precision network at the noisiest level: √ᾱ = 5e-5 must not meet half precision."""
    x_t = picture(0).float()
    read = denoiser(lambda x, _: x.to(torch.bfloat16), COSINE, "eps")(x_t, torch.full((4,), 999.0)).x0
    expected = to_x0("eps", x_t.to(torch.bfloat16).float(), x_t, COSINE.alpha_bar[999].expand(4))
    assert read.dtype == torch.float32
    torch.testing.assert_close(read, expected)


def test_denoiser_refuses_a_wrong_number_of_channels() -> None:
    with pytest.raises(ValueError, match="twice as many"):
        denoiser(lambda x, _: x, COSINE, "eps", learned_variance=True)(picture(0), torch.zeros(4))
    with pytest.raises(ValueError, match="network gave shape"):
        denoiser(lambda x, _: torch.cat([x, x], 1), COSINE, "eps")(picture(0), torch.zeros(4))


def test_simple_loss_is_a_mean_for_each_row() -> None:
    output = torch.zeros(2, 3, 2)
    truth = torch.tensor([1.0, 3.0]).reshape(2, 1, 1).expand(2, 3, 2)
    assert simple_loss(output, truth).tolist() == [1.0, 9.0]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("gamma", [1.0, 5.0, 1e9])
def test_min_snr_weighs_every_prediction_alike(prediction: Prediction, gamma: float) -> None:
    """w · ‖output − target‖² = min(SNR, γ) · ‖x̂_0 − x_0‖², whatever the output is."""
    index = torch.tensor([5, 300, 600, 900])
    alpha_bar = COSINE.alpha_bar[index]
    x0, noise, output = picture(0), picture(1), picture(2)
    x_t = q_sample(COSINE, x0, index, noise)

    def error(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean(dim=(1, 2, 3))

    weighted = min_snr(prediction, alpha_bar, gamma) * error(output, target(prediction, x0, noise, alpha_bar))
    snr = alpha_bar / (1 - alpha_bar)
    expected = snr.clamp(max=gamma) * error(to_x0(prediction, output, x_t, alpha_bar), x0)
    torch.testing.assert_close(weighted, expected)


def test_vlb_term_is_the_divergence_of_two_gaussians_in_bits() -> None:
    index = torch.tensor([1, 20, 500, 999])
    x0, x0_hat, fraction = picture(0), picture(1), torch.tanh(picture(2))
    x_t = q_sample(LINEAR, x0, index, picture(3))
    term = vlb_term(LINEAR, index, x0=x0, x_t=x_t, x0_hat=x0_hat, fraction=fraction)
    true = torch.distributions.Normal(
        posterior_mean(LINEAR, index, x0, x_t),
        LINEAR.posterior_variance[index].sqrt().reshape(4, 1, 1, 1).expand_as(x0),
    )
    model = torch.distributions.Normal(
        posterior_mean(LINEAR, index, x0_hat, x_t), (0.5 * log_variance(fraction, LINEAR, index)).exp()
    )
    nats = torch.distributions.kl_divergence(true, model).mean(dim=(1, 2, 3))
    torch.testing.assert_close(term, nats / math.log(2))


def test_vlb_term_of_a_perfect_guess_is_nothing() -> None:
    index, x0 = torch.tensor([1, 20, 500, 999]), picture(0)
    x_t = q_sample(COSINE, x0, index, picture(1))
    term = vlb_term(COSINE, index, x0=x0, x_t=x_t, x0_hat=x0, fraction=-torch.ones_like(x0))
    torch.testing.assert_close(term, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


def test_vlb_term_at_the_cleanest_level_is_the_cost_of_the_pixels() -> None:
    index = torch.zeros(4, dtype=torch.long)
    x0 = (picture(0).clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    x_t, fraction = q_sample(LINEAR, x0, index, picture(1)), torch.tanh(picture(2))
    term = vlb_term(LINEAR, index, x0=x0, x_t=x_t, x0_hat=x_t, fraction=fraction)
    mean = posterior_mean(LINEAR, index, x_t, x_t)
    cost = -discretised_log_likelihood(x0, mean, log_variance(fraction, LINEAR, index))
    torch.testing.assert_close(term, cost.mean(dim=(1, 2, 3)) / math.log(2))


@pytest.mark.parametrize("mean", [-2.0, -1.0, -0.3, 0.0, 0.9961, 1.5])
@pytest.mark.parametrize("log_var", [-9.0, -4.0, 0.0])
def test_pixel_bins_share_the_whole_mass(mean: float, log_var: float) -> None:
    values = torch.arange(256, dtype=torch.float64)[None] / 127.5 - 1
    log_mass = discretised_log_likelihood(
        values, torch.full_like(values, mean), torch.full_like(values, log_var)
    )
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-9)
    if log_var < 0:  # Else the endless bins at the ends hold the most.
        assert values[0, log_mass.argmax()].item() == pytest.approx(max(-1, min(1, mean)), abs=0.5 / 127.5)


def test_pixel_mass_far_from_the_mean_keeps_its_digits_on_both_sides() -> None:
    x = torch.tensor([[-0.5, 0.5]])
    log_mass = discretised_log_likelihood(x, torch.zeros(1, 2), torch.full((1, 2), -5.0))
    bins = x[0].double()
    normal = torch.distributions.Normal(torch.tensor(0.0).double(), math.exp(-2.5))
    left = (normal.cdf(bins[0] + 1 / 255) - normal.cdf(bins[0] - 1 / 255)).log().item()
    assert log_mass[0].tolist() == pytest.approx([left, left], rel=1e-5)


def test_variance_loss_teaches_the_variance_only_and_scales_with_the_steps() -> None:
    index, x0 = torch.tensor([0, 20, 500, 999]), picture(0).clamp(-1, 1)
    x_t = q_sample(COSINE, x0, index, picture(1))
    x0_hat = picture(2).requires_grad_()
    fraction = torch.tanh(picture(3)).requires_grad_()
    loss = variance_loss(COSINE, index, x0=x0, x_t=x_t, x0_hat=x0_hat, fraction=fraction)
    term = vlb_term(COSINE, index, x0=x0, x_t=x_t, x0_hat=x0_hat, fraction=fraction)
    torch.testing.assert_close(loss, term)
    loss.sum().backward()
    assert x0_hat.grad is None
    assert fraction.grad is not None
    assert fraction.grad.isfinite().all()
    assert fraction.grad.abs().amax(dim=(1, 2, 3)).gt(0).all()
    longer = cosine(4000)
    x_t = q_sample(longer, x0, index, picture(1))
    four = variance_loss(longer, index, x0=x0, x_t=x_t, x0_hat=x0_hat, fraction=fraction)
    one = vlb_term(longer, index, x0=x0, x_t=x_t, x0_hat=x0_hat, fraction=fraction)
    torch.testing.assert_close(four, 4 * one)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (target, (picture(0), picture(0), COSINE.alpha_bar[:4])),
        (to_x0, (picture(0), picture(0), COSINE.alpha_bar[:4])),
        (min_snr, (COSINE.alpha_bar[:4], 5.0)),
    ],
)
def test_unknown_prediction(function: Any, arguments: tuple[object, ...]) -> None:
    # The type checks that tests switch on would answer first; users meet the check inside.
    with pytest.raises(ValueError, match="prediction is 'noise'"):
        inspect.unwrap(function)("noise", *arguments)
