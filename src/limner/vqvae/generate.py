"""New pictures: codes from the prior, token by token, and the picture that they stand for."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from limner.autoregression import ClassifierFree, Reader, Sampling, decode
from limner.draws import Draws
from limner.vqvae.model import VqVae
from limner.vqvae.prior import CodePrior, PriorReader
from limner.vqvae.two_levels import Codes, VqVae2


@torch.no_grad()
def draw_codes(
    prior: CodePrior,
    draws: Draws,
    *,
    condition: Float[Tensor, "b c"] | None = None,
    above: Int[Tensor, "b h2 w2"] | None = None,
    scale: float = 1.0,
    sampling: Sampling,
) -> Int[Tensor, "b h w"]:
    """A grid of codes for each of the streams in `draws`.

    `condition`: unit vectors of what to paint; `scale` above 1 leads away from what would be painted without
    (every code is guided, at twice the work). `above`: for a prior that reads coarser codes. `sampling`:
    `Sampling()` draws from the prior itself.
    """
    batch, side = len(draws), prior.config.side
    told = prior.told(batch, condition=condition, keep=None, above=above)
    reader: Reader = PriorReader(prior, told)
    if scale != 1:
        if condition is None:
            raise ValueError(f"scale: {scale}, but without a condition there is nothing to lead away from")
        free = prior.told(batch, condition=None, keep=None, above=above)
        reader = ClassifierFree(PriorReader(prior, torch.cat([told, free])), scale)
    prefix = torch.zeros(batch, 0, dtype=torch.int64, device=told.device)
    columns = list(decode(reader, prefix=prefix, length=side * side, draws=draws, sampling=sampling))
    return rearrange(columns, "(h w) b -> b h w", h=side)


def paint(
    model: VqVae,
    prior: CodePrior,
    draws: Draws,
    *,
    condition: Float[Tensor, "b c"] | None = None,
    scale: float = 1.0,
    sampling: Sampling,
) -> Float[Tensor, "b 3 h w"]:
    """New pictures in [-1, 1], one for each stream in `draws`; `condition` and `scale` as in `draw_codes`."""
    return model.decode(draw_codes(prior, draws, condition=condition, scale=scale, sampling=sampling))


def paint_two_levels(
    model: VqVae2,
    top: CodePrior,
    bottom: CodePrior,
    draws: Draws,
    *,
    condition: Float[Tensor, "b c"] | None = None,
    scale: float = 1.0,
    sampling: Sampling,
) -> Float[Tensor, "b 3 h w"]:
    """New pictures in [-1, 1]: top codes from one prior, bottom codes given them from the other.

    Either prior takes `condition` if it was made to; one of them must, if there is one.
    """
    conditions = [condition if prior.config.condition is not None else None for prior in (top, bottom)]
    if condition is not None and all(known is None for known in conditions):
        raise ValueError("condition: neither prior was made to take one")
    scales = [1.0 if known is None else scale for known in conditions]
    coarse = draw_codes(top, draws, condition=conditions[0], scale=scales[0], sampling=sampling)
    fine = draw_codes(
        bottom, draws, condition=conditions[1], above=coarse, scale=scales[1], sampling=sampling
    )
    return model.decode(Codes(coarse, fine))
