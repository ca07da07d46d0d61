"""On Gaussian data the best denoiser is known, so a sampler's error and order are its own.

x_0 ~ N(m, s²): E[x_0 | x_t] = m + √ᾱ s²/(ᾱ s² + 1 − ᾱ) (x_t − √ᾱ m), and the probability flow keeps
(x_t − √ᾱ m) / √(ᾱ s² + 1 − ᾱ) constant.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal, TypeAlias

import pytest
import torch
from torch import Tensor

from limner.diffusion.analytic import analytic_variance, squared_errors
from limner.diffusion.guidance import classifier_free
from limner.diffusion.process import Denoised, Denoiser
from limner.diffusion.samplers import Step, ancestral, ddim, ddim_invert, dpm_solver_pp_2m, last
from limner.diffusion.schedule import Schedule, cosine, linear, vp_sde
from limner.draws import Draws

MEAN, STD = 0.5, 0.5
X_T = torch.tensor([[1.0, -1.5, 0.2]], dtype=torch.float64)
LINEAR, COSINE = linear(1000), cosine(1000)
Ode: TypeAlias = Callable[..., Iterator[Step]]
Variance: TypeAlias = Literal["small", "large"]


def exact_denoiser(
    alpha_bar_at: Callable[[Tensor], Tensor], mean: float = MEAN, std: float = STD
) -> Denoiser:
    def denoise(x: Tensor, t: Tensor) -> Denoised:
        alpha_bar = alpha_bar_at(t).reshape(-1, 1)
        pull = alpha_bar.sqrt() * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        return Denoised(x0=mean + pull * (x - alpha_bar.sqrt() * mean))

    return denoise


def exact_flow(x_T: Tensor, start: Tensor, end: Tensor) -> Tensor:
    def spread(alpha_bar: Tensor) -> Tensor:
        return (alpha_bar * STD**2 + 1 - alpha_bar).sqrt()

    return end.sqrt() * MEAN + (x_T - start.sqrt() * MEAN) * spread(end) / spread(start)


def sde_alpha_bar(t: Tensor) -> Tensor:
    return torch.exp(-(0.5 * 19.9 * t.square() + 0.1 * t))


def even_in_time(steps: int) -> Schedule:
    return vp_sde(torch.linspace(1e-3, 1, steps + 1, dtype=torch.float64))


def even_in_log_snr(steps: int) -> Schedule:
    ends = even_in_time(1).log_snr
    alpha_bar = torch.linspace(ends[0].item(), ends[1].item(), steps + 1, dtype=torch.float64).sigmoid()
    t = (-0.1 + (0.01 - 2 * 19.9 * alpha_bar.log()).sqrt()) / 19.9
    return Schedule(t=t, alpha_bar=alpha_bar)


def solve(sampler: Ode, levels: Schedule) -> Tensor:
    return last(sampler(exact_denoiser(sde_alpha_bar), X_T, levels, to_clean=False))


def close(actual: Tensor, golden: list[float]) -> None:
    assert actual[0].tolist() == pytest.approx(golden, abs=1.01e-8)


def error(sampler: Ode, levels: Schedule) -> float:
    exact = exact_flow(X_T, levels.alpha_bar[-1], levels.alpha_bar[0])
    return (solve(sampler, levels) - exact).abs().max().item()


def test_the_exact_flow() -> None:
    levels = even_in_time(1)
    exact = exact_flow(X_T, levels.alpha_bar[-1], levels.alpha_bar[0])
    assert exact[0].tolist() == pytest.approx([0.9984198691, -0.2518065059, 0.5983474291], abs=1e-9)


@pytest.mark.parametrize(
    ("steps", "golden"),
    [
        (10, [0.87311345, -0.06281416, 0.57361662]),
        (20, [0.93248826, -0.15236571, 0.58533499]),
        (50, [0.97104748, -0.21052233, 0.59294514]),
    ],
)
def test_ddim_on_the_sde(steps: int, golden: list[float]) -> None:
    close(solve(ddim, even_in_time(steps)), golden)


@pytest.mark.parametrize(
    ("levels", "golden"),
    [
        (even_in_time(10), [1.18525525, -0.53359939, 0.63522176]),
        (even_in_time(20), [1.10977452, -0.41975621, 0.62032468]),
        (even_in_time(50), [1.02483868, -0.29165245, 0.60356152]),
        (even_in_log_snr(20), [1.00491086, -0.26159648, 0.59962851]),
    ],
    ids=["10", "20", "50", "log-snr-20"],
)
def test_dpm_solver_on_the_sde(levels: Schedule, golden: list[float]) -> None:
    close(solve(dpm_solver_pp_2m, levels), golden)


@pytest.mark.parametrize(
    ("sampler", "errors"),
    [(ddim, [8.48e-2, 4.37e-2, 2.22e-2, 1.12e-2]), (dpm_solver_pp_2m, [9.79e-3, 2.64e-3, 6.69e-4, 1.68e-4])],
)
def test_published_errors(sampler: Ode, errors: list[float]) -> None:
    measured = [error(sampler, even_in_log_snr(steps)) for steps in (20, 40, 80, 160)]
    assert measured == pytest.approx(errors, rel=6e-3)


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver_pp_2m, 2)])
def test_order_of_convergence(sampler: Ode, order: int) -> None:
    """Twice the steps, 2^order times less error."""
    errors = [error(sampler, even_in_log_snr(steps)) for steps in (160, 320, 640)]
    ratios = [coarse / fine for coarse, fine in pairwise(errors)]
    assert ratios == pytest.approx([2**order] * 2, rel=0.03)


@pytest.mark.parametrize(
    ("schedule", "spec", "golden"),
    [
        (LINEAR, "27", [0.94694931, -0.1739845, 0.58825049]),
        (LINEAR, "fast27", [0.96494584, -0.20119847, 0.59177966]),
        (LINEAR, "250", [0.99270093, -0.24297642, 0.59728418]),
        (LINEAR, "1000", [0.99691186, -0.24932635, 0.59811563]),
        (COSINE, "27", [0.97128823, -0.20696138, 0.59424836]),
        (COSINE, "fast27", [0.96437097, -0.19836852, 0.59229433]),
        (COSINE, "1000", [0.999177, -0.24879625, 0.59982556]),
    ],
)
def test_ddim_on_published_schedules(schedule: Schedule, spec: str, golden: list[float]) -> None:
    close(last(ddim(exact_denoiser(schedule.alpha_bar_at), X_T, schedule.respace(spec))), golden)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_log_snr_spacing_is_worth_having(schedule: Schedule) -> None:
    """Twenty evaluations of DPM-Solver++ land nearer than fifty of DDIM."""
    exact = exact_flow(X_T, schedule.alpha_bar[-1], torch.ones(1, dtype=torch.float64))
    denoise = exact_denoiser(schedule.alpha_bar_at)

    def miss(steps: Iterator[Step]) -> float:
        return (last(steps) - exact).abs().max().item()

    quick = miss(dpm_solver_pp_2m(denoise, X_T, schedule.log_snr_spaced(20)))
    assert quick < miss(ddim(denoise, X_T, schedule.respace("ddim50")))
    assert quick < 0.015


@pytest.mark.parametrize(
    ("spec", "noise", "back"),
    [
        ("ddim50", [0.759796, -1.507925, 0.003889], [0.857142, -0.214218, 0.500022]),
        ("250", [0.794075, -1.578472, 0.003226], [0.890918, -0.281763, 0.500024]),
    ],
)
def test_published_inversions(spec: str, noise: list[float], back: list[float]) -> None:
    x0 = torch.tensor([[0.9, -0.3, 0.5]], dtype=torch.float64)
    levels, denoise = LINEAR.respace(spec), exact_denoiser(LINEAR.alpha_bar_at)
    x_T = last(ddim_invert(denoise, x0, levels))
    assert x_T[0].tolist() == pytest.approx(noise, abs=6e-7)
    assert last(ddim(denoise, x_T, levels))[0].tolist() == pytest.approx(back, abs=6e-7)


def test_inversion_is_off_by_one_over_the_steps() -> None:
    x0 = torch.tensor([[0.9, -0.3]], dtype=torch.float64)
    # So fine a schedule that the distance from its cleanest level to clean data plays no part.
    fine = linear(16_000)
    denoise = exact_denoiser(fine.alpha_bar_at)
    misses = []
    for steps in (100, 200, 400):
        levels = fine.respace(steps)
        back = last(ddim(denoise, last(ddim_invert(denoise, x0, levels)), levels))
        misses.append((back - x0).abs().max().item())
    assert misses[0] > 1e-3
    assert [a / b for a, b in pairwise(misses)] == pytest.approx([2, 2], rel=0.1)


def test_refined_inversion_comes_back_exactly() -> None:
    """Each refinement brings the way back nearer, at a rate, until nothing is left of the O(1/steps)."""
    x0 = torch.tensor([[0.9, -0.3, 0.5]], dtype=torch.float64)
    levels, denoise = LINEAR.take(range(300, 1000)).respace(20), exact_denoiser(LINEAR.alpha_bar_at)

    def miss(refinements: int) -> float:
        noise = last(ddim_invert(denoise, x0, levels, refinements=refinements))
        return (last(ddim(denoise, noise, levels, to_clean=False)) - x0).abs().max().item()

    misses = [miss(refinements) for refinements in (0, 2, 4, 8)]
    assert misses[0] > 1e-3
    assert all(b < a / 3 for a, b in pairwise(misses))
    assert miss(40) < 1e-12


N = 10_000


def moments(x: Tensor) -> tuple[float, float]:
    return x.mean().item(), x.std().item()


def noise(seed: int) -> Tensor:
    return Draws([seed]).normal(N).double()


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_sampling_reproduces_the_data(variance: Variance) -> None:
    levels = COSINE.respace(250)
    denoise = exact_denoiser(COSINE.alpha_bar_at)
    mean, std = moments(last(ancestral(denoise, noise(0), levels, Draws([1]), variance=variance)))
    assert mean == pytest.approx(MEAN, abs=5 * STD / N**0.5)
    # 250 steps leave a bias of their own: β̃ assumes too little variance in the data, β too much.
    assert std == pytest.approx(STD, rel=0.03)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_reproduces_the_data_at_every_eta(eta: float) -> None:
    levels = COSINE.respace(250)
    denoise = exact_denoiser(COSINE.alpha_bar_at)
    mean, std = moments(last(ddim(denoise, noise(0), levels, Draws([1]), eta=eta)))
    assert mean == pytest.approx(MEAN, abs=5 * STD / N**0.5 + 0.005)
    assert std == pytest.approx(STD, rel=0.03)


def test_small_variance_is_exact_for_a_point_and_large_for_unit_data() -> None:
    """The two ends between which the true variance lies; DDPM section 3.2."""
    levels = COSINE.respace(6)
    cases: list[tuple[Variance, float, float]] = [("small", 0.7, 0.0), ("large", 0.0, 1.0)]
    for variance, mean, std in cases:
        denoise = exact_denoiser(COSINE.alpha_bar_at, mean, std)
        for step in ancestral(denoise, noise(2), levels, Draws([3]), variance=variance):
            if step.index == step.total - 1:
                break
            alpha_bar = levels.alpha_bar[step.total - 2 - step.index].item()
            expected = (alpha_bar * std**2 + 1 - alpha_bar) ** 0.5
            assert step.x.std().item() == pytest.approx(expected, rel=5 / (2 * N) ** 0.5)
            assert step.x.mean().item() == pytest.approx(alpha_bar**0.5 * mean, abs=5 / N**0.5 + 2e-3)


def test_the_right_learned_variance_makes_few_steps_exact() -> None:
    """Given the true variance of x_{t−1} | x_t, five steps have the right spread; neither fixed one does."""
    levels = COSINE.take([0, 100, 300, 600, 900])
    exact = exact_denoiser(COSINE.alpha_bar_at)
    betas, small = levels.betas, levels.posterior_log_variance

    def denoise(x: Tensor, t: Tensor) -> Denoised:
        level = int((levels.t == t[0]).nonzero())
        alpha_bar = levels.alpha_bar[level]
        left = STD**2 * (1 - alpha_bar) / (alpha_bar * STD**2 + 1 - alpha_bar)
        true = (levels.posterior_variance[level] + levels.posterior_x0[level].square() * left).log()
        share = (true - small[level]) / (betas[level].log() - small[level])
        return Denoised(x0=exact(x, t).x0, variance=torch.full_like(x, 2 * share.item() - 1))

    # The walk starts from the state's own distribution at the noisiest level, so that nothing else is off.
    top = levels.alpha_bar[-1]
    x_T = top.sqrt() * MEAN + (top * STD**2 + 1 - top).sqrt() * noise(4)
    spread = {
        "learned": last(ancestral(denoise, x_T, levels, Draws([5]))).std().item(),
        "small": last(ancestral(exact, x_T, levels, Draws([5]))).std().item(),
        "large": last(ancestral(exact, x_T, levels, Draws([5]), variance="large")).std().item(),
    }
    assert spread["learned"] == pytest.approx(STD, rel=5 / (2 * N) ** 0.5)
    assert spread["small"] < 0.9 * STD
    assert spread["large"] > 1.02 * STD


def test_guidance_between_two_gaussians_lands_beyond_the_condition() -> None:
    """With equal spread, the guided score is that of a Gaussian at u + scale · (c − u)."""
    scale, levels = 3.0, COSINE.respace(100)
    conditional = exact_denoiser(COSINE.alpha_bar_at, 0.4)
    unconditional = exact_denoiser(COSINE.alpha_bar_at, 0.1)
    guided = last(ddim(classifier_free(conditional, unconditional, scale), X_T, levels))
    beyond = last(ddim(exact_denoiser(COSINE.alpha_bar_at, 0.1 + scale * 0.3), X_T, levels))
    torch.testing.assert_close(guided, beyond, rtol=1e-9, atol=1e-9)


def one_backward_step(levels: Schedule, variance: Literal["small"] | Tensor) -> Tensor:
    """The variance of the state below the noisiest of `levels`, if that there is the data's."""
    schedule = COSINE

    def step(x: float) -> Tensor:
        denoise = exact_denoiser(schedule.alpha_bar_at)
        start = torch.full((1, 1), x, dtype=torch.float64)
        return next(ancestral(denoise, start, levels, Draws([1]), variance=variance)).x

    slope = (step(1.0) - step(0.0)).item()
    here = levels.alpha_bar[-1] * STD**2 + 1 - levels.alpha_bar[-1]
    added = levels.posterior_variance[-1] if isinstance(variance, str) else variance[-1]
    return slope**2 * here + added


@pytest.mark.parametrize("top", range(1, 6))
def test_with_the_analytic_variance_few_steps_keep_the_spread_of_data(top: int) -> None:
    """Bao et al. 2022: what β̃ lacks is the variance of x_0 given x_t, here known."""
    levels = COSINE.respace(6).take(range(top + 1))
    signal = levels.alpha_bar
    unknown = STD**2 * (1 - signal) / (signal * STD**2 + 1 - signal)
    wanted = signal[-2] * STD**2 + 1 - signal[-2]
    torch.testing.assert_close(one_backward_step(levels, analytic_variance(levels, unknown)), wanted)
    assert one_backward_step(levels, "small") < 0.99 * wanted
    assert torch.equal(analytic_variance(levels, torch.zeros(len(levels))), levels.posterior_variance)


@pytest.mark.parametrize("t", [0.0, 300.0, 700.0, 999.0])
def test_the_error_of_the_best_guess_is_what_is_not_known_of_the_data(t: float) -> None:
    """20,000 numbers: four standard errors, of squares that are χ² distributed."""
    x0 = MEAN + STD * Draws([1]).normal(20_000, 1)[0].double()
    signal = COSINE.alpha_bar_at(torch.tensor(t)).item()
    found = squared_errors(exact_denoiser(COSINE.alpha_bar_at), COSINE, x0, t, Draws(range(20_000)))
    unknown = STD**2 * (1 - signal) / (signal * STD**2 + 1 - signal)
    assert found.mean().item() == pytest.approx(unknown, rel=4 * (2 / 20_000) ** 0.5)
