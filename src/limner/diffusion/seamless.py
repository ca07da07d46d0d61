"""A guess at what is missing that joins what is known without a step.

A network that mends foretells the known part too, and errs there as it errs inside: a little darker, a
little too red. What it gets wrong on the rim is known, so it is spread smoothly over the hole and taken away:
Poisson image editing (Pérez et al. 2003), where the network's own guess is the source of the gradients.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.diffusion.process import Denoised, Denoiser


def seamless(denoise: Denoiser, known: Float[Tensor, "b c h w"], mask: Float[Tensor, "b 1 h w"]) -> Denoiser:
    """Move x̂_0 by a membrane through its errors on the rim: `known` pixels (`mask` 1) beside unknown ones.

    What is known is moved too, and is to be put in its place afterwards; see `guidance.held`.
    """
    rim = F.max_pool2d(1 - mask, 3, stride=1, padding=1) * mask

    def joined(x_t: Float[Tensor, "b c h w"], t: Float[Tensor, "b"]) -> Denoised:
        denoised = denoise(x_t, t)
        errors = membrane(known - denoised.x0, rim.expand_as(known))
        return Denoised(x0=denoised.x0 + errors, variance=denoised.variance)

    return joined


def membrane(values: Float[Tensor, "b c h w"], weights: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """A smooth surface through `values` where `weights` are 1, by pull and push; 0 where there are none.

    Gortler et al. 1996, "The Lumigraph", section 3.4: means of coarser blocks fill what finer ones leave.
    """
    if min(values.shape[-2:]) < 2:
        return values * weights
    total = 4 * F.avg_pool2d(weights, 2)
    means = 4 * F.avg_pool2d(values * weights, 2) / total.clamp(min=torch.finfo(total.dtype).tiny)
    coarse = membrane(means, total.clamp(max=1))
    far = F.interpolate(coarse, size=values.shape[-2:], mode="bilinear")
    return torch.lerp(far, values, weights)
