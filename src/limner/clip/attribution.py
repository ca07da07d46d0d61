"""Where in a picture CLIP's score comes from: integrated gradients, added up over the patches it reads.

Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks": on the straight way from a blank picture
b to the picture x, pixel i is given (xᵢ − bᵢ)·∫₀¹ ∂s/∂xᵢ(b + α(x − b)) dα (equation 1). All together is
exactly s(x) − s(b), by whatever ways the pixels reach the score. That counts here: with `layout`, patches
reach the embedding on lines of their own as well, of which maps of the attention know nothing.
"""

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from limner.clip.model import Clip, unit
from limner.clip.resnet import ResNetConfig

# The integral's nodes. On what ships, all patches together miss the difference by 0.002 at worst, and mostly
# by less than 0.00001 (benchmarks/explanations.py).
STEPS = 64
# Pictures on the way that are read at once.
AT_ONCE = 16


class Attribution(NamedTuple):
    """What each patch adds to the score of a blank: Σ `patches` = `score` − `blank`."""

    patches: Float[Tensor, "rows columns"]
    score: float
    blank: float


def integrated_gradients(
    clip: Clip,
    picture: Float[Tensor, "3 h w"],
    words: Float[Tensor, "d"],
    *,
    blank: Float[Tensor, "3 h w"],
    steps: int = STEPS,
) -> Attribution:
    """Share the cosine of a picture in [-1, 1] with a unit embedding of words out among its patches.

    A patch that is as in `blank` gets nothing. The integral is Gauss's with `steps` nodes.
    """

    def scored(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
        return unit(clip.encode_image(pictures).pooled) @ words

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    way = torch.tensor((nodes + 1) / 2, dtype=picture.dtype, device=picture.device)
    shares = torch.tensor(weights / 2, dtype=picture.dtype, device=picture.device)
    slope = torch.zeros_like(picture)
    for alpha, share in zip(way.split(AT_ONCE), shares.split(AT_ONCE), strict=True):
        points = blank + rearrange(alpha, "b -> b 1 1 1") * (picture - blank)
        with torch.enable_grad():
            points.requires_grad_()
            (slopes,) = torch.autograd.grad(scored(points).sum(), points)
        slope += torch.einsum("b, b c h w -> c h w", share, slopes)
    with torch.no_grad():
        score, before = scored(torch.stack([picture, blank])).tolist()
    vision = clip.config.vision
    side = vision.stride if isinstance(vision, ResNetConfig) else vision.patch
    patches = reduce(slope * (picture - blank), "c (h p) (w q) -> h w", "sum", p=side, q=side)
    return Attribution(patches, score, before)
