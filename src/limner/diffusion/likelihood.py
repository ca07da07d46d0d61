"""How many bits a picture takes: by the variational bound, term by term, and by the flow.

Pictures are 8-bit values laid evenly on [−1, 1]. Both figures are bits per dimension, and comparable with
what a lossless coder needs: 8 for one that knows nothing.
"""

import math
from dataclasses import dataclass

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from limner.diffusion.flow import ends, field, solve
from limner.diffusion.process import Denoiser, q_sample, vlb_term
from limner.diffusion.schedule import Schedule
from limner.draws import Draws

# From one of the 256 values to the next.
BIN = 2 / 255


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The bound's terms of each picture in bits per dimension.

    `terms`: L_0 … L_{T−1} by level, the first of which is the reconstruction; `prior`: L_T, what is left of
    the picture in the noisiest level.
    """

    terms: Float[Tensor, "b steps"]
    prior: Float[Tensor, "b"]

    @property
    def total(self) -> Float[Tensor, "b"]:
        """All of them: an upper bound of −log₂ p(x) per dimension."""
        return self.terms.sum(dim=1) + self.prior


@torch.no_grad()
def bound(
    denoise: Denoiser,
    x0: Float[Tensor, "b *d"],
    levels: Schedule,
    draws: Draws,
    *,
    fraction: float = -1.0,
) -> Bound:
    """Every term of the variational bound, one evaluation each; DDPM eq. 5, iDDPM eq. 4 to 7.

    Each term is an expectation over x_t, of which one draw is taken. `fraction`: the variance, from β̃ (−1) to
    β (1), of a denoiser that has learned none.
    """
    terms = []
    for level in range(len(levels)):
        index = torch.full((len(x0),), level)
        x_t = q_sample(levels, x0, index, draws.normal(*x0.shape[1:]).to(x0))
        denoised = denoise(x_t, torch.full((len(x0),), levels.t[level].item(), dtype=x0.dtype).to(x0.device))
        variance = torch.full_like(x0, fraction) if denoised.variance is None else denoised.variance
        terms.append(vlb_term(levels, index, x0=x0, x_t=x_t, x0_hat=denoised.x0, fraction=variance))
    return Bound(terms=torch.stack(terms, dim=1), prior=prior_term(x0, levels))


def prior_term(x0: Float[Tensor, "b *d"], levels: Schedule) -> Float[Tensor, "b"]:
    """KL(q(x_T | x_0) ‖ N(0, 1)) in bits per dimension, in closed form."""
    signal = levels.alpha_bar[-1].item()
    nats = 0.5 * (signal * x0.square() + (1 - signal) - 1 - math.log1p(-signal))
    return reduce(nats, "b ... -> b", "mean") / math.log(2)


@dataclass(frozen=True, kw_only=True)
class FlowLikelihood:
    """`log_density` of each row in nats, and how often the field was asked."""

    log_density: Float[Tensor, "b"]
    evaluations: int


def flow_log_density(
    denoise: Denoiser,
    x: Float[Tensor, "b *d"],
    levels: Schedule,
    probes: Float[Tensor, "b *d"] | None,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> FlowLikelihood:
    """ln p(x) by the instantaneous change of variables along the flow; Song et al. 2021, eq. 39.

    x stands at the cleanest level. The divergence is `probes`ᵀ J `probes`, Hutchinson's estimate, without
    bias for probes of mean zero and unit covariance such as `rademacher`; None: the exact trace, at the price
    of one backward pass a dimension.
    """
    slope = field(denoise, levels)
    shape, rows = x.shape, len(x)

    def with_density(state: Float[Tensor, "b n"], at: Float[Tensor, "b"]) -> Float[Tensor, "b n"]:
        with torch.inference_mode(False), torch.enable_grad():
            here = state[:, :-1].reshape(shape).detach().clone().requires_grad_()
            moved = slope(here, at.clone())
            divergence = (
                _trace(moved, here)
                if probes is None
                else _summed(torch.autograd.grad(moved, here, probes)[0] * probes)
            )
        return torch.cat([moved.detach().reshape(rows, -1), divergence.detach().reshape(rows, 1)], dim=1)

    noisy, clean = ends(levels)
    start = torch.cat([x.reshape(rows, -1), x.new_zeros(rows, 1)], dim=1)
    # ln p gains the divergence that is passed on the way down: d ln p / dλ = −div.
    found = solve(with_density, start, clean, noisy, rtol=rtol, atol=atol)
    latent, passed = found.x[:, :-1], found.x[:, -1]
    at_noise = -0.5 * (latent.square() + math.log(2 * math.pi)).sum(dim=1)
    return FlowLikelihood(log_density=at_noise + passed, evaluations=found.evaluations)


def flow_bits(
    denoise: Denoiser, x0: Float[Tensor, "b *d"], levels: Schedule, draws: Draws, *, tolerance: float = 1e-5
) -> Float[Tensor, "b"]:
    """Bits per dimension of 8-bit pictures by the flow: a density of values spread evenly over their bins.

    An upper bound of the discrete −log₂ P, in expectation over the spreading (Theis et al. 2016, 3.1).
    """
    spread = x0 + (draws.uniform(*x0.shape[1:]).to(x0) - 0.5) * BIN
    probes = rademacher(draws, *x0.shape[1:]).to(x0)
    found = flow_log_density(denoise, spread, levels, probes, rtol=tolerance, atol=tolerance)
    dimensions = x0[0].numel()
    return -found.log_density / (dimensions * math.log(2)) - math.log2(BIN)


def rademacher(draws: Draws, *shape: int) -> Float[Tensor, "b *shape"]:
    """±1, evenly: of all probes those with the least variance (Hutchinson 1990)."""
    return draws.uniform(*shape).lt(0.5).float() * 2 - 1


def _summed(x: Float[Tensor, "b *d"]) -> Float[Tensor, "b"]:
    total: Tensor = reduce(x, "b ... -> b", "sum")
    return total


def _trace(moved: Float[Tensor, "b *d"], here: Float[Tensor, "b *d"]) -> Float[Tensor, "b"]:
    """Σ ∂moved_i/∂here_i of each row; rows do not meet, so one backward pass serves all of them."""
    flat = moved.reshape(len(moved), -1)
    total = flat.new_zeros(len(flat))
    for place in range(flat.shape[1]):
        (gradient,) = torch.autograd.grad(flat[:, place].sum(), here, retain_graph=True)
        total = total + gradient.reshape(len(flat), -1)[:, place]
    return total
