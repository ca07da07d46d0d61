"""How far from the exact flow does each solver land, and how fast does that fall with its steps?

    python benchmarks/solvers.py

On data whose best denoiser is a formula, so that all error is the solver's own: a Gaussian with correlated
coordinates, and a mixture of two. The exact flow is RK45's at a tolerance of 1e-11.
"""

from collections.abc import Callable, Iterator

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from limner.diffusion.flow import ends, field, solve
from limner.diffusion.process import Denoised, Denoiser
from limner.diffusion.samplers import (
    Step,
    ddim,
    dpm_solver_pp_2m,
    dpm_solver_pp_3m,
    heun,
    last,
)
from limner.diffusion.schedule import linear
from limner.draws import Draws

LEVELS = linear(1000)
STEPS = (10, 20, 40, 80, 160)
STARTS = 7
SOLVERS: dict[str, Callable[..., Iterator[Step]]] = {
    "ddim": ddim,
    "heun": heun,
    "dpm_solver_pp_2m": dpm_solver_pp_2m,
    "dpm_solver_pp_3m": dpm_solver_pp_3m,
}
# Evaluations a step.
COSTS = {"heun": 2}

COVARIANCE = torch.tensor([[0.30, 0.12], [0.12, 0.10]], dtype=torch.float64)
CENTRE = torch.tensor([0.2, -0.4], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MEANS = torch.tensor([-0.8, 0.5], dtype=torch.float64)
STDS = torch.tensor([0.2, 0.3], dtype=torch.float64)


def gaussian(x: Tensor, t: Tensor) -> Denoised:
    """E[x_0 | x_t] of N(CENTRE, COVARIANCE)."""
    signal = LEVELS.alpha_bar_at(t)[:, None, None]
    noisy = signal * COVARIANCE + (1 - signal) * torch.eye(2, dtype=torch.float64)
    gain = signal.sqrt() * COVARIANCE @ torch.linalg.inv(noisy)
    off = x - signal[:, 0].sqrt() * CENTRE
    return Denoised(x0=CENTRE + (gain @ off[..., None])[..., 0])


def mixture(x: Tensor, t: Tensor) -> Denoised:
    """E[x_0 | x_t] of two Gaussians on a line."""
    signal = LEVELS.alpha_bar_at(t).reshape(-1, 1, 1)
    off = x[..., None] - signal.sqrt() * MEANS
    variance = signal * STDS.square() + 1 - signal
    belief = (WEIGHTS.log() - 0.5 * variance.log() - 0.5 * off.square() / variance).softmax(dim=-1)
    return Denoised(x0=(belief * (MEANS + signal.sqrt() * STDS.square() / variance * off)).sum(dim=-1))


def errors(denoise: Denoiser, dimensions: int) -> dict[str, list[float]]:
    """By solver, the largest error of all starts for each number of steps."""
    x = Draws(range(STARTS)).normal(dimensions).double()
    exact = solve(field(denoise, LEVELS), x, *ends(LEVELS), rtol=1e-11, atol=1e-11).x

    def error(solver: Callable[..., Iterator[Step]], steps: int) -> float:
        levels = LEVELS.log_snr_spaced(steps + 1, lowest=-100.0)
        return (last(solver(denoise, x, levels, to_clean=False)) - exact).abs().max().item()

    return {name: [error(solver, steps) for steps in STEPS] for name, solver in SOLVERS.items()}


def main() -> None:
    """Measure and print."""
    for title, denoise, dimensions in (("Gaussian", gaussian, 2), ("mixture", mixture, 1)):
        table = Table("solver", "evaluations a step", *(f"{n} steps" for n in STEPS), title=title)
        for name, found in errors(denoise, dimensions).items():
            table.add_row(name, str(COSTS.get(name, 1)), *(f"{error:.1e}" for error in found))
        Console().print(table)


if __name__ == "__main__":
    main()
