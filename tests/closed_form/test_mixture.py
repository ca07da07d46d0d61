"""A mixture of Gaussians has an exact denoiser too, and modes that a sampler could lose."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from limner.diffusion.process import Denoised, Denoiser
from limner.diffusion.samplers import Step, ancestral, ddim, dpm_solver_pp_2m, last
from limner.diffusion.schedule import cosine
from limner.draws import Draws

WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([-1.5, 0.0, 1.0], dtype=torch.float64)
STDS = torch.tensor([0.15, 0.2, 0.25], dtype=torch.float64)
SCHEDULE = cosine(1000)
N = 10_000

Sampler: TypeAlias = Callable[[Denoiser, Tensor, Draws], Iterator[Step]]
SAMPLERS: dict[str, Sampler] = {
    "ancestral": lambda d, x, r: ancestral(d, x, SCHEDULE.respace(500), r),
    "ddim": lambda d, x, _: ddim(d, x, SCHEDULE.respace(250)),
    "ddim-eta": lambda d, x, r: ddim(d, x, SCHEDULE.respace(250), r, eta=0.7),
    "dpm-solver": lambda d, x, _: dpm_solver_pp_2m(d, x, SCHEDULE.log_snr_spaced(40)),
}


def denoise(x: Tensor, t: Tensor) -> Denoised:
    """E[x_0 | x_t]: each mode's own guess, weighed by how likely x_t is to have come from it."""
    alpha_bar = SCHEDULE.alpha_bar_at(t).reshape(-1, 1, 1)
    off = x[..., None] - alpha_bar.sqrt() * MEANS
    variance = alpha_bar * STDS.square() + 1 - alpha_bar
    belief = (WEIGHTS.log() - 0.5 * variance.log() - 0.5 * off.square() / variance).softmax(dim=-1)
    guess = MEANS + alpha_bar.sqrt() * STDS.square() / variance * off
    return Denoised(x0=(belief * guess).sum(dim=-1))


@pytest.mark.parametrize("name", SAMPLERS)
def test_modes_keep_their_weight_place_and_width(name: str) -> None:
    x_T = Draws([0]).normal(N).double()
    x = last(SAMPLERS[name](denoise, x_T, Draws([1])))[0]
    nearest = (x[:, None] - MEANS).abs().div(STDS).argmin(dim=1)
    for mode, (weight, mean, std) in enumerate(
        zip(WEIGHTS.tolist(), MEANS.tolist(), STDS.tolist(), strict=True)
    ):
        mine = x[nearest == mode]
        chance = (weight * (1 - weight) / N) ** 0.5
        assert len(mine) / N == pytest.approx(weight, abs=5 * chance + 0.005)
        assert mine.mean().item() == pytest.approx(mean, abs=5 * std / len(mine) ** 0.5 + 0.03 * std)
        assert mine.std().item() == pytest.approx(std, rel=0.06)


def test_dpm_solver_follows_the_flow_with_order_two() -> None:
    """Not only in distribution: each start goes where the probability flow takes it, wherever it begins."""
    x_T = torch.linspace(-2.2, 2.2, 41, dtype=torch.float64)[None]

    def landed(steps: int) -> Tensor:
        return last(dpm_solver_pp_2m(denoise, x_T, SCHEDULE.log_snr_spaced(steps)))

    flow = landed(1000)
    coarse, fine = ((landed(steps) - flow).abs().max().item() for steps in (80, 160))
    assert fine < 1e-3
    assert coarse / fine == pytest.approx(4, rel=0.1)
    by_ddim = last(ddim(denoise, x_T, SCHEDULE.log_snr_spaced(160)))
    assert (by_ddim - flow).abs().max().item() > 30 * fine
