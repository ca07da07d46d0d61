"""The probability-flow ODE: noise becomes data along one smooth path, and the path knows its density.

With λ half the log-SNR, α = √ᾱ and σ = √(1−ᾱ), every denoiser D is a vector field (Song et al. 2021,
eq. 13, in the variable of DPM-Solver, where it has no stiff end):

    dx/dλ = α (D(x, λ) − α x)

Its marginals are those of the noise process. `solve` follows it in steps that each row chooses for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor

from limner.diffusion.process import Denoiser, per_row
from limner.diffusion.schedule import Schedule

# (state, λ of each row) → dx/dλ.
Field: TypeAlias = Callable[[Float[Tensor, "b *d"], Float[Tensor, "b"]], Float[Tensor, "b *d"]]

# Dormand & Prince 1980: where its stages look, how they are weighed, and the error between orders 5 and 4.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
WEIGHTS = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
ERRORS = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
# A step's length follows its error with the fifth root, a little below what would just do, and not in leaps.
SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0
FIRST = 0.05


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Where each row arrived, and how many times the field was asked for the whole batch."""

    x: Float[Tensor, "b *d"]
    evaluations: int


def field(denoise: Denoiser, levels: Schedule) -> Field:
    """The probability-flow ODE of a denoiser; `levels` says which time the network hears at each λ."""

    def slope(x: Float[Tensor, "b *d"], half_log_snr: Float[Tensor, "b"]) -> Float[Tensor, "b *d"]:
        alpha = per_row((2 * half_log_snr).sigmoid().sqrt(), x)
        x0 = denoise(x, levels.t_at(2 * half_log_snr).to(x.dtype).to(x.device)).x0
        return alpha * (x0 - alpha * x)

    return slope


def ends(levels: Schedule) -> tuple[float, float]:
    """λ of the noisiest level and of the cleanest."""
    return 0.5 * levels.log_snr[-1].item(), 0.5 * levels.log_snr[0].item()


@torch.no_grad()
def solve(
    slope: Field,
    x: Float[Tensor, "b *d"],
    start: float,
    end: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    most: int = 10_000,
) -> Solution:
    """Follow `slope` from `start` to `end` with Dormand and Prince's method of order 5(4), RK45.

    Every row has a λ and a step of its own, so that its path does not depend on its neighbours; the field is
    asked for all rows until the last has arrived. A step stands where the root mean square of error /
    (atol + rtol·|x|) is at most 1. Raises ValueError for a tolerance that is not positive, RuntimeError
    where `most` steps do not suffice or the field gives no finite numbers.
    """
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"rtol is {rtol} and atol {atol}: give positive tolerances")
    # On the CPU: not every device has the float64 that a row's λ wants.
    at = torch.full((len(x),), start, dtype=torch.float64)
    step = torch.full_like(at, (end - start) * FIRST)
    first = slope(x, at)
    evaluations = 1
    for _ in range(most):
        arrived = at == end
        if arrived.all():
            return Solution(x=x, evaluations=evaluations)
        left = end - at
        final = step.abs() >= left.abs()
        step = torch.where(final, left, step)
        slopes, there = _stages(slope, x, first, at, step)
        evaluations += len(NODES)
        error = _combined(slopes, ERRORS, step)
        allowed = atol + rtol * torch.maximum(x.abs(), there.abs())
        ratio = reduce((error / allowed).square(), "b ... -> b", "mean").sqrt().cpu().double()
        if ratio.isnan().any():
            raise RuntimeError(f"the field is not a number near λ = {at[ratio.isnan()].tolist()}")
        taken = (ratio <= 1) & ~arrived
        at = torch.where(taken, torch.where(final, torch.full_like(at, end), at + step), at)
        x, first = _chosen(taken, there, x), _chosen(taken, slopes[-1], first)
        factor = (SAFETY * ratio.clamp(min=1e-12) ** -0.2).clamp(SHRINK, GROW)
        step = torch.where(arrived, step, step * factor)
    raise RuntimeError(f"{most} steps did not lead from {start} to {end}: allow more, or a larger tolerance")


def _stages(
    slope: Field,
    x: Float[Tensor, "b *d"],
    first: Float[Tensor, "b *d"],
    at: Float[Tensor, "b"],
    step: Float[Tensor, "b"],
) -> tuple[list[Tensor], Float[Tensor, "b *d"]]:
    """The seven slopes of a step, the last of which is the next step's first, and the state it leads to."""
    slopes = [first]
    for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
        slopes.append(slope(x + _combined(slopes, weights, step), at + node * step))
    there = x + _combined(slopes, WEIGHTS, step)
    slopes.append(slope(there, at + step))
    return slopes, there


def _combined(
    slopes: list[Tensor], weights: tuple[float, ...], step: Float[Tensor, "b"]
) -> Float[Tensor, "b *d"]:
    parts = [weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight]
    total = torch.stack(parts).sum(dim=0)
    return per_row(step, total) * total


def _chosen(
    rows: Bool[Tensor, "b"], yes: Float[Tensor, "b *d"], no: Float[Tensor, "b *d"]
) -> Float[Tensor, "b *d"]:
    return torch.where(rows.to(yes.device).reshape(-1, *[1] * (yes.ndim - 1)), yes, no)
