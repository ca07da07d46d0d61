"""The logit-Laplace distribution: a likelihood for colour values that lives where they do, inside (0, 1).

A Gaussian or a Laplace puts probability on values that no pixel can have. Here the logit of a value is
Laplace distributed, so the value stays between 0 and 1; and since a logit is infinite at 0 and at 1, pictures
are first drawn in to [ε, 1 − ε]. Ramesh et al. 2021, appendix A.3.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

EPSILON = 0.1


def drawn_in(pictures: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """φ: values in [-1, 1] → [ε, 1 − ε]. The paper's φ(x) = (1 − 2ε)x + ε speaks of values in [0, 1]."""
    return (1 - 2 * EPSILON) * (pictures + 1) / 2 + EPSILON


def drawn_out(values: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """φ⁻¹: values in (0, 1) → [-1, 1], whatever lies outside [ε, 1 − ε] clamped."""
    return (2 * (values - EPSILON) / (1 - 2 * EPSILON) - 1).clamp(-1, 1)


def logit_laplace_nll(
    values: Float[Tensor, "*d"], location: Float[Tensor, "*d"], log_scale: Float[Tensor, "*d"]
) -> Float[Tensor, "*d"]:
    """−ln f(x|μ, b) = ln 2 + ln b + ln x(1 − x) + |logit x − μ|/b of each value: appendix A.3, eq. 2.

    It is a density's, so it falls below zero where the model is right and sure of it.
    """
    logit = torch.logit(values)
    jacobian = values.log() + (-values).log1p()
    return math.log(2) + log_scale + jacobian + (logit - location).abs() * (-log_scale).exp()


def floored(log_scale: Float[Tensor, "*d"], floor: float) -> Float[Tensor, "*d"]:
    """A log-scale kept above `floor`, smoothly, so that it can always find its way back up."""
    return floor + F.softplus(log_scale - floor)


def constant_nll(pictures: Float[Tensor, "b *d"]) -> Float[Tensor, ""]:
    """Mean −ln f of the best guess that looks at no picture: the batch's median at each pixel, and one b."""
    values = drawn_in(pictures)
    logit = torch.logit(values)
    scale = (logit - logit.median(dim=0).values).abs().mean().clamp(min=1e-3)
    jacobian = (values.log() + (-values).log1p()).mean()
    return 1 + math.log(2) + scale.log() + jacobian
