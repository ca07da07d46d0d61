"""What holds for samplers whatever the denoiser is; their accuracy is measured in tests/closed_form."""

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import pytest
import torch
from torch import Tensor

from limner.diffusion.process import Denoised, Denoiser, to_eps
from limner.diffusion.samplers import Step, ancestral, ddim, ddim_invert, dpm_solver_pp_2m, last
from limner.diffusion.schedule import Schedule, cosine
from limner.draws import Draws

Variance: TypeAlias = Literal["small", "large"]
Sampler: TypeAlias = Callable[[Denoiser, Tensor, Schedule, Draws], Iterator[Step]]

SAMPLERS: dict[str, Sampler] = {
    "ancestral": ancestral,
    "ancestral-large": lambda d, x, s, r: ancestral(d, x, s, r, variance="large"),
    "ddim": lambda d, x, s, _: ddim(d, x, s),
    "ddim-eta": lambda d, x, s, r: ddim(d, x, s, r, eta=0.5),
    "dpm-solver": lambda d, x, s, _: dpm_solver_pp_2m(d, x, s),
}
LEVELS = cosine(1000).respace(8)


def denoise(x: Tensor, t: Tensor) -> Denoised:
    """Any function of a row and its time."""
    return Denoised(x0=torch.tanh(x + t.reshape(-1, 1, 1) / 1000))


def denoise_with_variance(x: Tensor, t: Tensor) -> Denoised:
    return Denoised(x0=denoise(x, t).x0, variance=torch.sin(3 * x))


def start(rows: int = 3) -> Tensor:
    return torch.randn(rows, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_row_knows_nothing_of_its_neighbours(name: str) -> None:
    together = last(SAMPLERS[name](denoise_with_variance, start(), LEVELS, Draws([5, 6, 7])))
    for row in range(3):
        alone = last(SAMPLERS[name](denoise_with_variance, start()[row : row + 1], LEVELS, Draws([5 + row])))
        assert torch.equal(together[row : row + 1], alone)


@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_are_counted_and_end_on_the_guess(name: str) -> None:
    times: list[float] = []

    def watched(x: Tensor, t: Tensor) -> Denoised:
        assert t.shape == (3,)
        assert t.unique().numel() == 1
        times.append(t[0].item())
        return denoise(x, t)

    steps = list(SAMPLERS[name](watched, start(), LEVELS, Draws([1, 2, 3])))
    assert [step.index for step in steps] == list(range(8))
    assert {step.total for step in steps} == {8}
    assert times == LEVELS.t.tolist()[::-1]
    torch.testing.assert_close(steps[-1].x, steps[-1].x0)
    assert all(step.x.dtype == torch.float64 for step in steps)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_waits_to_be_asked(name: str) -> None:
    calls: list[None] = []

    def counted(x: Tensor, t: Tensor) -> Denoised:
        calls.append(None)
        return denoise(x, t)

    next(SAMPLERS[name](counted, start(), LEVELS, Draws([1, 2, 3])))
    assert len(calls) == 1


@pytest.mark.parametrize("sampler", [ddim, dpm_solver_pp_2m])
def test_without_the_last_jump_the_walk_ends_at_the_cleanest_level(
    sampler: Callable[..., Iterator[Step]],
) -> None:
    whole = list(sampler(denoise, start(), LEVELS))
    steps = list(sampler(denoise, start(), LEVELS, to_clean=False))
    assert len(steps) == len(whole) - 1
    assert torch.equal(steps[-1].x, whole[-2].x)


def test_ddim_with_full_noise_is_ancestral() -> None:
    by_ddim = last(ddim(denoise, start(), LEVELS, Draws([1, 2, 3]), eta=1.0))
    by_posterior = last(ancestral(denoise, start(), LEVELS, Draws([1, 2, 3])))
    torch.testing.assert_close(by_ddim, by_posterior, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("fraction", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_learned_variance_at_its_ends_is_the_fixed_one(fraction: float, variance: Variance) -> None:
    def learned(x: Tensor, t: Tensor) -> Denoised:
        return Denoised(x0=denoise(x, t).x0, variance=torch.full_like(x, fraction))

    by_learned = last(ancestral(learned, start(), LEVELS, Draws([1, 2, 3])))
    by_fixed = last(ancestral(denoise, start(), LEVELS, Draws([1, 2, 3]), variance=variance))
    torch.testing.assert_close(by_learned, by_fixed, rtol=1e-9, atol=1e-9)


def test_the_first_step_of_dpm_solver_is_ddim() -> None:
    two = cosine(1000).take([200, 700])
    by_ddim = last(ddim(denoise, start(), two, to_clean=False))
    by_solver = last(dpm_solver_pp_2m(denoise, start(), two, to_clean=False))
    torch.testing.assert_close(by_solver, by_ddim, rtol=1e-12, atol=1e-12)


def test_a_denoiser_that_knows_the_picture_is_believed() -> None:
    """With the true x_0 as the guess at every step, deterministic samplers keep the noise to the end."""
    x0 = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(1, 2, 4)
    alpha_bar = LEVELS.alpha_bar[-1:]
    noise = start(1)
    x_T = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
    for sampler in (ddim, dpm_solver_pp_2m):
        for step in sampler(lambda _x, _t: Denoised(x0=x0), x_T, LEVELS, to_clean=False):
            level = len(LEVELS) - 2 - step.index
            torch.testing.assert_close(to_eps(step.x, x0, LEVELS.alpha_bar[level : level + 1]), noise)


def test_inversion_walks_up_to_the_noisiest_level() -> None:
    steps = list(ddim_invert(denoise, start(), LEVELS))
    assert [step.index for step in steps] == list(range(7))
    assert {step.total for step in steps} == {7}


def test_single_precision_stays_single() -> None:
    for sampler in SAMPLERS.values():
        assert last(sampler(denoise, start().float(), LEVELS, Draws([1, 2, 3]))).dtype == torch.float32


def test_refusals() -> None:
    with pytest.raises(ValueError, match="draws is missing"):
        last(ddim(denoise, start(), LEVELS, eta=0.5))
    with pytest.raises(ValueError, match="eta is -1"):
        last(ddim(denoise, start(), LEVELS, eta=-1.0))
    with pytest.raises(ValueError, match="steps is empty"):
        last(ddim(denoise, start(), cosine(1000).respace(1), to_clean=False))
