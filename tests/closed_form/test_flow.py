"""The flow and its likelihood on data whose denoiser, path and density are known: N(m, s²) and a mixture."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.diffusion.flow import ends, field, solve
from limner.diffusion.likelihood import (
    BIN,
    bound,
    flow_bits,
    flow_log_density,
    prior_term,
    rademacher,
)
from limner.diffusion.process import Denoised, Denoiser
from limner.diffusion.samplers import ddim, dpm_solver_pp_2m, dpm_solver_pp_3m, heun, last
from limner.diffusion.schedule import Schedule, cosine, linear
from limner.draws import Draws

LEVELS = linear(1000)
# Two coordinates that lean on each other, so that the trace is not the sum of what a probe sees alone.
COVARIANCE = torch.tensor([[0.30, 0.12], [0.12, 0.10]], dtype=torch.float64)
CENTRE = torch.tensor([0.2, -0.4], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MEANS = torch.tensor([-0.8, 0.5], dtype=torch.float64)
STDS = torch.tensor([0.2, 0.3], dtype=torch.float64)


def gaussian(levels: Schedule = LEVELS) -> Denoiser:
    def denoise(x: Tensor, t: Tensor) -> Denoised:
        signal = levels.alpha_bar_at(t)[:, None, None]
        noisy = signal * COVARIANCE + (1 - signal) * torch.eye(2, dtype=torch.float64)
        gain = signal.sqrt() * COVARIANCE @ torch.linalg.inv(noisy)
        off = x.double() - signal[:, 0].sqrt() * CENTRE
        return Denoised(x0=(CENTRE + (gain @ off[..., None])[..., 0]).to(x.dtype))

    return denoise


def mixture(x: Tensor, t: Tensor) -> Denoised:
    signal = LEVELS.alpha_bar_at(t).reshape(-1, 1, 1)
    off = x[..., None] - signal.sqrt() * MEANS
    variance = signal * STDS.square() + 1 - signal
    belief = (WEIGHTS.log() - 0.5 * variance.log() - 0.5 * off.square() / variance).softmax(dim=-1)
    return Denoised(x0=(belief * (MEANS + signal.sqrt() * STDS.square() / variance * off)).sum(dim=-1))


def noise(rows: int, dimensions: int = 2) -> Tensor:
    return Draws(range(rows)).normal(dimensions).double()


# --- the path ------------------------------------------------------------------------------------


def exact_path(x: Tensor) -> Tensor:
    """Along each principal axis the flow keeps the number of standard deviations from the centre."""
    variances, axes = torch.linalg.eigh(COVARIANCE)
    top, bottom = LEVELS.alpha_bar[-1], LEVELS.alpha_bar[0]
    spread = [(signal * variances + 1 - signal).sqrt() for signal in (top, bottom)]
    off = (x - top.sqrt() * CENTRE) @ axes
    return bottom.sqrt() * CENTRE + (off / spread[0] * spread[1]) @ axes.T


@pytest.mark.parametrize(("tolerance", "error"), [(1e-3, 5e-2), (1e-6, 1e-4), (1e-9, 1e-7)])
def test_rk45_arrives_where_the_flow_leads(tolerance: float, error: float) -> None:
    x = noise(5)
    found = solve(field(gaussian(), LEVELS), x, *ends(LEVELS), rtol=tolerance, atol=tolerance)
    assert (found.x - exact_path(x)).abs().max() < error


def test_a_smaller_tolerance_costs_more_evaluations_and_far_fewer_than_a_fixed_step_would() -> None:
    asked = [
        solve(field(gaussian(), LEVELS), noise(5), *ends(LEVELS), rtol=tol, atol=tol).evaluations
        for tol in (1e-3, 1e-5, 1e-7)
    ]
    assert asked == sorted(asked)
    assert asked[0] < 80
    # Of order 5: a hundredth of the error for 2.5 times the steps.
    assert asked[2] / asked[1] == pytest.approx(100**0.2, rel=0.35)


def test_there_and_back() -> None:
    x, slope = noise(4), field(gaussian(), LEVELS)
    noisy, clean = ends(LEVELS)
    there = solve(slope, x, noisy, clean, rtol=1e-9, atol=1e-9).x
    back = solve(slope, there, clean, noisy, rtol=1e-9, atol=1e-9).x
    torch.testing.assert_close(back, x, atol=1e-6, rtol=0)


def test_a_rows_path_is_its_own() -> None:
    x = torch.tensor([[-3.0], [0.1], [2.0]], dtype=torch.float64)
    together = solve(field(mixture, LEVELS), x, *ends(LEVELS)).x
    for row in range(3):
        alone = solve(field(mixture, LEVELS), x[row : row + 1], *ends(LEVELS)).x
        torch.testing.assert_close(alone[0], together[row], atol=1e-13, rtol=0)


def test_a_field_that_gives_no_numbers_is_told_at_once() -> None:
    def broken(x: Tensor, _: Tensor) -> Tensor:
        return x * float("nan")

    with pytest.raises(RuntimeError, match="the field is not a number near λ = "):
        solve(broken, noise(1), 0.0, 1.0)


def test_the_density_is_found_while_painting() -> None:
    with torch.inference_mode():
        x = noise(2) + 0
        found = flow_log_density(gaussian(), x, LEVELS, rademacher(Draws([0, 1]), 2).double())
    assert found.log_density.isfinite().all()


def test_impossible_tolerances_and_endless_walks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rtol is 0\.0 and atol"):
        solve(field(gaussian(), LEVELS), noise(1), *ends(LEVELS), rtol=0.0)
    with pytest.raises(RuntimeError, match="3 steps did not lead from"):
        solve(field(gaussian(), LEVELS), noise(1), *ends(LEVELS), most=3)


# --- solvers of fixed steps ----------------------------------------------------------------------

# Twice the steps, 2^order times less error.
ORDERS = {"ddim": (ddim, 1), "heun": (heun, 2), "2m": (dpm_solver_pp_2m, 2), "3m": (dpm_solver_pp_3m, 3)}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("denoise", [gaussian(), mixture], ids=["gaussian", "mixture"])
def test_order_of_convergence(name: str, denoise: Denoiser) -> None:
    sampler, order = ORDERS[name]
    x = noise(7, 2 if denoise is not mixture else 1)
    exact = solve(field(denoise, LEVELS), x, *ends(LEVELS), rtol=1e-11, atol=1e-11).x

    def error(steps: int) -> float:
        levels = LEVELS.log_snr_spaced(steps + 1, lowest=-100.0)
        return (last(sampler(denoise, x, levels, to_clean=False)) - exact).abs().max().item()

    errors = [error(steps) for steps in (80, 160, 320)]
    assert all(coarse / fine > 0.85 * 2**order for coarse, fine in pairwise(errors))
    assert errors[-1] < {1: 1e-2, 2: 2e-4, 3: 1e-5}[order]


def test_heun_on_the_papers_levels() -> None:
    """Even in the seventh root of σ, from 80 on (EDM, table 1); twice as many, a quarter of the error."""
    levels, x = LEVELS.edm_spaced(18), noise(9, 1)
    sigma = ((1 - levels.alpha_bar) / levels.alpha_bar).sqrt()
    roots = sigma ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(17))
    assert sigma[-1].item() == pytest.approx(80, rel=1e-9)
    start, end = 0.5 * levels.log_snr[-1].item(), 0.5 * levels.log_snr[0].item()
    exact = solve(field(mixture, LEVELS), x, start, end, rtol=1e-10, atol=1e-10).x
    coarse, fine = (
        (last(heun(mixture, x, LEVELS.edm_spaced(steps), to_clean=False)) - exact).abs().max().item()
        for steps in (18, 36)
    )
    assert coarse < 0.05
    assert coarse / fine > 3.4


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31))
def test_a_curved_guess_is_integrated_exactly_by_the_third_order(seed: int) -> None:
    """Where x̂_0 is a parabola in λ, the step with two guesses before it makes no error at all."""
    a, b, c = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def denoise(_: Tensor, t: Tensor) -> Denoised:
        half = 0.5 * torch.logit(LEVELS.alpha_bar_at(t))[:, None]
        return Denoised(x0=a + b * half + c * half.square())

    levels = LEVELS.log_snr_spaced(4)
    steps = list(dpm_solver_pp_3m(denoise, torch.zeros(1, 4, dtype=torch.float64), levels, to_clean=False))
    start, end = 0.5 * levels.log_snr[1].item(), 0.5 * levels.log_snr[0].item()
    exact = solve(field(denoise, LEVELS), steps[-2].x, start, end, rtol=1e-11, atol=1e-11).x
    torch.testing.assert_close(steps[-1].x, exact, atol=1e-8, rtol=1e-8)


# --- likelihood ----------------------------------------------------------------------------------


def log_density(x: Tensor) -> Tensor:
    """Of the Gaussian at the cleanest level, which holds a little noise."""
    signal = LEVELS.alpha_bar[0]
    noisy = signal * COVARIANCE + (1 - signal) * torch.eye(2, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(signal.sqrt() * CENTRE, noisy).log_prob(x)


def test_the_flow_knows_the_density() -> None:
    x = CENTRE + 0.4 * noise(6)
    found = flow_log_density(gaussian(), x, LEVELS, None, rtol=1e-9, atol=1e-9)
    # The noisiest level of this schedule still holds a trace of the data, which N(0, 1) leaves out.
    torch.testing.assert_close(found.log_density, log_density(x), atol=1e-2, rtol=0)


def test_probes_are_right_on_average() -> None:
    x = (CENTRE + 0.4 * noise(1)).expand(400, -1)
    probes = rademacher(Draws(range(400)), 2).double()
    assert set(probes.flatten().tolist()) == {-1.0, 1.0}
    found = flow_log_density(gaussian(), x, LEVELS, probes, rtol=1e-6, atol=1e-6).log_density
    exact = flow_log_density(gaussian(), x[:1], LEVELS, None, rtol=1e-6, atol=1e-6).log_density
    assert found.std() > 1e-3  # one probe is not the trace, or this would show nothing
    assert found.mean().item() == pytest.approx(exact.item(), abs=4 * found.std().item() / 20)


STD = 0.3
BITS = math.log2(STD * math.sqrt(2 * math.pi * math.e) / BIN)


def rounded(rows: int, dimensions: int) -> Tensor:
    """N(0, 0.3²) as 8-bit values, of which each has an entropy of `BITS`."""
    values = (STD * Draws(range(rows)).normal(dimensions).double() + 1) / BIN
    return values.round().clamp(0, 255) * BIN - 1


def narrow(levels: Schedule, *, knows_variance: bool) -> Denoiser:
    """The best denoiser of N(0, 0.3²), with the variance that x_{t−1} really has, or without."""

    def denoise(x: Tensor, t: Tensor) -> Denoised:
        signal = levels.alpha_bar_at(t)[:, None]
        gain = signal.sqrt() * STD**2 / (signal * STD**2 + 1 - signal)
        index = torch.searchsorted(levels.t, t)
        unsure = STD**2 * (1 - signal) / (signal * STD**2 + 1 - signal)
        true = levels.posterior_variance[index][:, None] + levels.posterior_x0[index][:, None] ** 2 * unsure
        small, large = (v[index][:, None] for v in (levels.posterior_log_variance, levels.betas.log()))
        fraction = 2 * (true.log() - small) / (large - small) - 1
        return Denoised(x0=gain * x, variance=fraction.expand_as(x) if knows_variance else None)

    return denoise


def test_the_flow_finds_the_entropy() -> None:
    x = rounded(40, 50)
    bits = flow_bits(narrow(LEVELS, knows_variance=False), x, LEVELS, Draws(range(40)), tolerance=1e-6)
    assert bits.mean().item() == pytest.approx(BITS, abs=4 * bits.std().item() / 40**0.5 + 0.01)


def test_the_bound_is_above_the_entropy_and_close_where_the_variance_is_right() -> None:
    x = rounded(40, 50)
    knows, guesses = (
        bound(narrow(LEVELS, knows_variance=k), x, LEVELS, Draws(range(40))) for k in (True, False)
    )
    chance = 4 * knows.total.std().item() / 40**0.5
    assert knows.terms.shape == (40, 1000)
    assert knows.terms[:, 1:].min() >= 0
    assert BITS - chance < knows.total.mean().item() < BITS + 0.1 + chance
    # Half a bit is lost by β̃, for at the last steps x_0 is what one is least sure of.
    assert guesses.total.mean() > knows.total.mean() + 0.3


@pytest.mark.parametrize("steps", [5, 50])
def test_fewer_levels_make_a_looser_bound(steps: int) -> None:
    x, few = rounded(20, 50), LEVELS.respace(steps)
    loose = bound(narrow(few, knows_variance=True), x, few, Draws(range(20))).total.mean()
    tight = bound(narrow(LEVELS, knows_variance=True), x, LEVELS, Draws(range(20))).total.mean()
    assert loose > tight


def test_one_who_knows_the_picture_pays_for_the_last_level_alone() -> None:
    x = rounded(3, 8)
    found = bound(lambda x_t, _: Denoised(x0=x[: len(x_t)]), x, LEVELS, Draws(range(3)))
    assert found.terms[:, 1:].abs().max() < 1e-12
    torch.testing.assert_close(found.total, found.terms[:, 0] + prior_term(x, LEVELS))


def test_what_is_left_in_the_noisiest_level_in_closed_form() -> None:
    levels = cosine(4)
    x = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    mine = torch.distributions.Normal(levels.alpha_bar[-1].sqrt() * x, (1 - levels.alpha_bar[-1]).sqrt())
    standard = torch.distributions.Normal(torch.zeros_like(x), 1.0)
    wanted = torch.distributions.kl_divergence(mine, standard).mean(dim=1) / math.log(2)
    torch.testing.assert_close(prior_term(x, levels), wanted)
