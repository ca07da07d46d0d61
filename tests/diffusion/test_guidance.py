"""Guidance is a denoiser made of denoisers, and the identities at 0 and 1 are exact."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.diffusion.guidance import (
    classifier_free,
    classifier_free_batched,
    clipped,
    gradient_of,
    steered,
    thresholded,
)
from limner.diffusion.process import Denoised, Denoiser, to_eps, to_x0
from limner.diffusion.samplers import ancestral, ddim, dpm_solver_pp_2m, last
from limner.diffusion.schedule import cosine
from limner.draws import Draws

SCHEDULE = cosine(1000)
T = torch.tensor([10.0, 500.0, 999.0])


def x_t() -> Tensor:
    return torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def conditional(x: Tensor, t: Tensor) -> Denoised:
    return Denoised(x0=torch.sin(2 * x) + t.reshape(-1, 1, 1) / 1000, variance=torch.cos(x))


def unconditional(x: Tensor, t: Tensor) -> Denoised:
    return Denoised(x0=torch.tanh(x) - t.reshape(-1, 1, 1) / 1000, variance=torch.sin(x))


def forbidden(_x: Tensor, _t: Tensor) -> Denoised:
    raise AssertionError("this half is not needed and must not be paid for")


def same(a: Denoised, b: Denoised) -> bool:
    assert a.variance is not None
    assert b.variance is not None
    return torch.equal(a.x0, b.x0) and torch.equal(a.variance, b.variance)


def test_scale_one_is_the_conditional_model_at_its_price() -> None:
    assert same(classifier_free(conditional, forbidden, 1.0)(x_t(), T), conditional(x_t(), T))


def test_scale_zero_is_the_unconditional_model_at_its_price() -> None:
    assert same(classifier_free(forbidden, unconditional, 0.0)(x_t(), T), unconditional(x_t(), T))


@given(st.floats(-3, 10))
def test_guiding_the_picture_is_guiding_the_noise(scale: float) -> None:
    alpha_bar = SCHEDULE.alpha_bar_at(T)
    x = x_t()
    with_condition = to_eps(x, conditional(x, T).x0, alpha_bar)
    without = to_eps(x, unconditional(x, T).x0, alpha_bar)
    expected = to_x0("eps", without + scale * (with_condition - without), x, alpha_bar)
    guided = classifier_free(conditional, unconditional, scale)(x, T)
    torch.testing.assert_close(guided.x0, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_variance_is_the_conditional_one(scale: float) -> None:
    variance = classifier_free(conditional, unconditional, scale)(x_t(), T).variance
    assert variance is not None
    assert torch.equal(variance, torch.cos(x_t()))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_batched_guidance_is_the_same_in_one_call(scale: float) -> None:
    calls: list[int] = []

    def both(x: Tensor, t: Tensor) -> Denoised:
        calls.append(len(x))
        first, second = conditional(x[:3], t[:3]), unconditional(x[3:], t[3:])
        assert first.variance is not None
        assert second.variance is not None
        return Denoised(
            x0=torch.cat([first.x0, second.x0]), variance=torch.cat([first.variance, second.variance])
        )

    batched = classifier_free_batched(both, (scale,))(x_t(), T)
    assert calls == [6]
    apart = classifier_free(conditional, unconditional, scale)(x_t(), T)
    assert torch.equal(batched.x0, apart.x0)
    assert batched.variance is not None
    assert torch.equal(batched.variance, torch.cos(x_t()))


def test_what_is_told_one_after_another_has_a_scale_each() -> None:
    """Brooks et al. 2022, eq. 3, on constants: none 1, one 10, both 100."""

    def every(x: Tensor, t: Tensor) -> Denoised:
        assert len(x) == len(t) == 9
        told = torch.tensor([100.0, 10.0, 1.0], dtype=x.dtype).repeat_interleave(3)
        return Denoised(x0=told[:, None, None].expand_as(x))

    found = classifier_free_batched(every, (2.0, 3.0))(x_t(), T).x0
    torch.testing.assert_close(found, torch.full_like(found, 1 + 2 * 9 + 3 * 90))
    # Equal scales are one scale for both.
    joint = classifier_free_batched(every, (4.0, 4.0))(x_t(), T).x0
    torch.testing.assert_close(joint, torch.full_like(joint, 1 + 4 * 99))


def test_clipping_comes_after_guidance() -> None:
    """Clip first and a scale of 3 still leaves the range; clip last and it cannot."""
    guided = classifier_free(conditional, unconditional, 3.0)
    within = clipped(guided, 1.0)(x_t(), T)
    halves = classifier_free(clipped(conditional, 1.0), clipped(unconditional, 1.0), 3.0)(x_t(), T)
    assert halves.x0.abs().max() > 1
    assert within.x0.abs().max() == 1
    assert torch.equal(within.x0, guided(x_t(), T).x0.clamp(-1, 1))


def given_x0(x0: Tensor) -> Denoiser:
    return lambda _x, _t: Denoised(x0=x0)


def test_thresholding_leaves_rows_within_reach_alone() -> None:
    x0 = x_t().clamp(-1, 1)
    assert torch.equal(thresholded(given_x0(x0), 0.995)(x_t(), T).x0, x0)


def test_thresholding_scales_each_row_by_its_own_reach() -> None:
    x0 = torch.tensor([[-4.0, 2.0, 1.0, 0.0], [0.5, -0.5, 0.2, 0.1]])
    whole = thresholded(given_x0(x0), 1.0)(x0, T[:2]).x0
    torch.testing.assert_close(whole, torch.tensor([[-1.0, 0.5, 0.25, 0.0], [0.5, -0.5, 0.2, 0.1]]))
    # The 2/3 quantile of {0, 1, 2, 4} is 2: one value lies beyond it and is cut.
    cut = thresholded(given_x0(x0), 2 / 3)(x0, T[:2]).x0
    torch.testing.assert_close(cut, torch.tensor([[-1.0, 1.0, 0.5, 0.0], [0.5, -0.5, 0.2, 0.1]]))


def test_thresholding_keeps_the_variance() -> None:
    variance = thresholded(conditional, 0.9)(x_t(), T).variance
    assert variance is not None
    assert torch.equal(variance, torch.cos(x_t()))


@pytest.mark.parametrize("percentile", [0.0, 99.5, -1.0])
def test_a_percentile_that_is_no_share(percentile: float) -> None:
    with pytest.raises(ValueError, match="percentile is"):
        thresholded(conditional, percentile)


# --- steering by a gradient ----------------------------------------------------------------------

STD, NOTICE = 0.5, 0.4  # of the data N(0, ½²), and of somebody who sees x_0 with an error of 0.4
SEEN = 0.6


def best(x: Tensor, t: Tensor) -> Denoised:
    signal = SCHEDULE.alpha_bar_at(t)[:, None]
    return Denoised(x0=signal.sqrt() * STD**2 / (signal * STD**2 + 1 - signal) * x)


def log_likelihood(x: Tensor, t: Tensor) -> Tensor:
    """ln p(y = 0.6 | x_t) up to a constant: what x_t leaves open of x_0 adds to the error of seeing."""
    signal = SCHEDULE.alpha_bar_at(t)[:, None]
    unsure = STD**2 * (1 - signal) / (signal * STD**2 + 1 - signal)
    return -0.5 * ((SEEN - best(x, t).x0).square() / (unsure + NOTICE**2)).sum(dim=1)


def test_the_gradient_is_that_of_finite_differences() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    steer = gradient_of(log_likelihood)
    found, h = steer(x, T), 1e-6
    for place in range(4):
        step = torch.zeros_like(x)
        step[:, place] = h
        slope = (log_likelihood(x + step, T) - log_likelihood(x - step, T)) / (2 * h)
        torch.testing.assert_close(found[:, place], slope, rtol=1e-6, atol=1e-8)
    with torch.inference_mode():  # painting happens in there, and makes states and times of its own
        assert torch.equal(steer(x + 0, T + 0), found)


def test_steering_the_guess_is_steering_the_noise() -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    steer, alpha_bar = gradient_of(log_likelihood), SCHEDULE.alpha_bar_at(T)
    eps = to_eps(x, best(x, T).x0, alpha_bar) - 2.0 * (1 - alpha_bar).sqrt()[:, None] * steer(x, T)
    guided = steered(best, steer, SCHEDULE, 2.0)(x, T)
    torch.testing.assert_close(guided.x0, to_x0("eps", eps, x, alpha_bar), rtol=1e-9, atol=1e-9)


def test_no_steering_costs_nothing() -> None:
    assert steered(best, forbidden, SCHEDULE, 0.0) is best


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm++"])
def test_steered_samples_are_of_the_posterior(sampler: str) -> None:
    """p(x_0 | y) is a Gaussian too: of precision 1/½² + 1/0.4², and its mean between 0 and what is seen."""
    precision = STD**-2 + NOTICE**-2
    x_T, steer = Draws(range(20)).normal(1000).double(), gradient_of(log_likelihood)
    guided = steered(best, steer, SCHEDULE, 1.0)
    if sampler == "ancestral":
        x = last(ancestral(best, x_T, SCHEDULE.respace(400), Draws(range(len(x_T))), steer=steer))
    elif sampler == "ddim":
        x = last(ddim(guided, x_T, SCHEDULE.respace(400)))
    else:
        x = last(dpm_solver_pp_2m(guided, x_T, SCHEDULE.log_snr_spaced(60)))
    assert x.mean().item() == pytest.approx(SEEN * NOTICE**-2 / precision, abs=0.015)
    assert x.std().item() == pytest.approx(precision**-0.5, rel=0.03)
