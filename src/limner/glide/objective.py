"""The loss of GLIDE's networks: the noise, the variance, and captions that are sometimes empty."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn

from limner.diffusion.objective import diffusion_loss, noised
from limner.draws import Draws
from limner.glide.masks import erased
from limner.glide.model import Glide, Known
from limner.layers.corruptions import half_blurred
from limner.objective import Loss, Objective, unwrapped
from limner.text import PADDING


class PicturesAndCaptions(NamedTuple):
    """Pictures in [-1, 1], (B, 3, H, W), and their captions' ids, (B, L), `PADDING` behind their ends."""

    pictures: Tensor
    ids: Tensor


def glide_objective(
    *, drop_caption: float, max_weight: float | None = None, lean: float = 0.0, blur: float = 0.0
) -> Objective[PicturesAndCaptions]:
    """L_hybrid (Nichol & Dhariwal 2021) of pictures given their captions; Nichol et al. 2021, section 2.

    `drop_caption`: how often the caption is the empty one, 20 % in the paper, so that guidance has something
    to lead away from. A network that mends sees the rest of a picture of which boxes are erased, and is asked
    for all of it. An upsampler sees the area-averaged small picture, in half of the rows blurred with this σ,
    since what it will be given is soft; 0, as in the paper, leaves all of them sharp. `max_weight`: of
    x₀-prediction, each row weighed by min(1/(1 − ᾱ), this). `lean`: in such a share of rows the noisier of
    two levels counts, for there it is words that decide and not what is left of the picture; 0 in the paper.
    """

    def objective(model: nn.Module, batch: PicturesAndCaptions, draws: Draws) -> Loss:
        config = unwrapped(model, Glide).config
        pictures = batch.pictures
        dropped = rearrange(draws.bernoulli(drop_caption), "b -> b 1")
        ids, mask = read_ids(batch.ids.masked_fill(dropped, PADDING))
        known = Known(pictures, erased(draws, pictures.shape[-1])) if config.inpaint else None
        low = None
        if config.low is not None:
            low = F.avg_pool2d(pictures, config.resolution // config.low)
            if blur:
                low = half_blurred(low, draws, sigma=blur)
        n = noised(config.diffusion, pictures, draws, lean=lean)
        output = model(n.x_t, n.t, ids=ids, mask=mask, low=low, known=known)
        return diffusion_loss(config.diffusion, pictures, n, output, max_weight=max_weight)

    return objective


def read_ids(ids: Int[Tensor, "b l"]) -> tuple[Int[Tensor, "b l"], Tensor]:
    """Ids that an embedding may look up, and which of them are real."""
    mask = ids != PADDING
    return torch.where(mask, ids, 0), mask
