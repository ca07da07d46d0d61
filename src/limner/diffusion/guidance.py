"""Denoisers made from denoisers: steer first, then keep the guess within bounds.

Order matters: guidance pushes x̂_0 out of the data's range, and clipping puts it back. So build plain
denoisers with `clip=None`, guide them, and wrap the result in `clipped` or `thresholded`.
"""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from limner.diffusion.process import Denoised, Denoiser, Steer, per_row
from limner.diffusion.schedule import Schedule


def classifier_free(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Go `scale` times the way from the unconditional guess to the conditional one.

    0 is the unconditional model and 1 the conditional one, exactly and at the price of one; above 1 the
    condition is overstated. The variance is the conditional model's. Ho & Salimans 2022, in GLIDE's form.
    """
    if scale == 1:
        return conditional
    if scale == 0:
        return unconditional

    def denoise(x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Denoised:
        return _extrapolate(conditional(x_t, t), unconditional(x_t, t), scale)

    return denoise


def classifier_free_batched(every: Denoiser, scales: Sequence[float]) -> Denoiser:
    """`classifier_free` in one call on a longer batch, one condition after another where there are several.

    `every` holds the conditions of (K+1)·B rows, K the number of `scales`: B rows that are told everything,
    then B that are told one thing less, and so on to B that are told nothing. The guess is
    c_0 + Σ_k s_k (c_k − c_{k−1}), c_k with the first k things told: each has a scale of its own, of which the
    first is that of what is told first (Brooks et al. 2022, InstructPix2Pix, eq. 3).
    """
    sides = len(scales) + 1

    def denoise(x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Denoised:
        denoised = every(torch.cat([x_t] * sides), torch.cat([t] * sides))
        guesses = denoised.x0.chunk(sides)[::-1]
        variance = None if denoised.variance is None else denoised.variance.chunk(sides)[0]
        x0 = guesses[0]
        for number, scale in enumerate(scales):
            less, more = guesses[number : number + 2]
            x0 = torch.lerp(x0, more, scale) if number == 0 else x0 + scale * (more - less)
        return Denoised(x0=x0, variance=variance)

    return denoise


def gradient_of(score: Callable[[Tensor, Tensor], Float[Tensor, "b"]]) -> Steer:
    """∇ of `score`(x_t, t), one number for each row, by x_t.

    `score` stands for ln p(y | x_t): a classifier's log-probability, or noised CLIP's agreement with a
    caption (Nichol et al. 2021, section 2.3). Rows must not meet in it.
    """

    def steer(x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Float[Tensor, "b *d"]:
        with torch.inference_mode(False), torch.enable_grad():
            here = x_t.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(score(here, t.clone()).sum(), here)
        return gradient

    return steer


def steered(denoise: Denoiser, steer: Steer, levels: Schedule, scale: float) -> Denoiser:
    """Add `scale`·∇ ln p(y | x_t) to the score, for any sampler: x̂_0 + scale (1 − ᾱ)/√ᾱ · ∇.

    The same as ε − scale √(1 − ᾱ) · ∇ (Dhariwal & Nichol 2021, algorithm 2). 0 is `denoise` itself, at its
    price. With `ancestral`, its own `steer` shifts the mean instead (algorithm 1).
    """
    if scale == 0:
        return denoise

    def toward(x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Denoised:
        denoised = denoise(x_t, t)
        signal = levels.alpha_bar_at(t)
        reach = per_row(scale * (1 - signal) / signal.sqrt(), x_t)
        return Denoised(x0=denoised.x0 + reach * steer(x_t, t), variance=denoised.variance)

    return toward


def clipped(denoise: Denoiser, limit: float) -> Denoiser:
    """Hold every |x̂_0| to `limit`."""

    def within(x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Denoised:
        denoised = denoise(x_t, t)
        return Denoised(x0=denoised.x0.clamp(-limit, limit), variance=denoised.variance)

    return within


def held(denoise: Denoiser, known: Float[Tensor, "b *d"], mask: Float[Tensor, "b *m"]) -> Denoiser:
    """Put into x̂_0 what is `known` of the data, where `mask` is 1; it ends up in the sample, bit for bit."""

    def within(x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Denoised:
        denoised = denoise(x_t, t)
        return Denoised(x0=torch.where(mask > 0, known, denoised.x0), variance=denoised.variance)

    return within


def thresholded(denoise: Denoiser, percentile: float) -> Denoiser:
    """Dynamic thresholding: scale each row so that this share of its |x̂_0| lies within 1, clip the rest.

    Rows that already do are only clipped. `percentile` in (0, 1], 0.995 in Imagen section 2.3.
    """
    if not 0 < percentile <= 1:
        raise ValueError(f"percentile is {percentile}: give a share in (0, 1], such as 0.995")

    def within(x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Denoised:
        denoised = denoise(x_t, t)
        flat: Tensor = rearrange(denoised.x0.abs(), "b ... -> b (...)")
        reach = per_row(torch.quantile(flat.float(), percentile, dim=1).clamp(min=1.0), denoised.x0)
        return Denoised(x0=denoised.x0.clamp(-reach, reach) / reach, variance=denoised.variance)

    return within


def _extrapolate(conditional: Denoised, unconditional: Denoised, scale: float) -> Denoised:
    # The papers do this to ε. At one x_t, x_0 (and v) is affine in ε, and the weights `scale` and
    # 1 − scale sum to one, so doing it to x_0 is the same. lerp, because it is exact at 0 and 1.
    x0 = torch.lerp(unconditional.x0, conditional.x0, scale)
    return Denoised(x0=x0, variance=conditional.variance)
