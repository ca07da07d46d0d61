"""Analytic-DPM: the variance of a backward step that fits best, in closed form once the network is trained.

Bao et al. 2022, "Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in Diffusion
Probabilistic Models". β̃ would be right if x_0 were known; what is not known of it comes on top.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limner.diffusion.process import Denoiser, per_row, simple_loss
from limner.diffusion.schedule import Schedule
from limner.draws import Draws


def squared_errors(
    denoise: Denoiser, levels: Schedule, x0: Float[Tensor, "b *d"], t: float, draws: Draws
) -> Float[Tensor, "b"]:
    """(x_0 − x̂_0)² of each row that is noised to the time `t`, averaged over its dimensions.

    `levels`: those of training. The mean over data is the mean variance of x_0 given x_t where the network
    is perfect; where it is not, it is still what the step's variance needs (Bao et al. 2022b, "Estimating the
    Optimal Covariance with Imperfect Mean in Diffusion Probabilistic Models", theorem 3).
    """
    times = torch.full((len(x0),), t, dtype=x0.dtype, device=x0.device)
    signal = levels.alpha_bar_at(times)
    noise = draws.normal(*x0.shape[1:]).to(x0)
    x_t = per_row(signal.sqrt(), x0) * x0 + per_row((1 - signal).sqrt(), x0) * noise
    return simple_loss(denoise(x_t, times).x0, x0)


def analytic_variance(levels: Schedule, errors: Float[Tensor, "steps"]) -> Float[Tensor, "steps"]:
    """The best variance of the step down from each of `levels`: β̃ + w² e; Bao et al. 2022, theorem 1.

    w is x_0's weight in the mean of q(x_{i−1} | x_i, x_0), and e the mean of `squared_errors` at that level.
    Without error it is β̃.
    """
    return levels.posterior_variance + levels.posterior_x0.square() * errors.to(torch.float64)
