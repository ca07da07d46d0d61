"""Guided by a CLIP that has learned to read noised pictures: toward what it thinks the caption means."""

from collections.abc import Callable

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from limner.clip import Clip, unit
from limner.diffusion.guidance import gradient_of
from limner.diffusion.process import Steer

# GLIDE's CLIP multiplies cosines by this whatever its own temperature is.
SCALE = 100.0


def agreement(
    clip: Clip, caption: Float[Tensor, "b d"]
) -> Callable[[Float[Tensor, "b 3 h w"], Float[Tensor, "b"]], Float[Tensor, "b"]]:
    """100 · cos(f(x_t, t), g(c)) of each row, which stands for ln p(c | x_t); Nichol et al. 2021, 2.3.

    `caption`: the captions' embeddings, of any length. `clip` is a noised one, at the resolution of x_t.
    """
    words = unit(caption)

    def score(x_t: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        seen = unit(clip.encode_image(x_t, t).pooled)
        # A copy, for words that were read in inference mode cannot stand in a gradient.
        return SCALE * einsum(seen, words.clone().to(seen), "b d, b d -> b")

    return score


def toward_caption(clip: Clip, caption: Float[Tensor, "b d"], scale: float) -> Steer:
    """`scale` · ∇ of the agreement, 2 in the paper: for `ancestral`'s `steer`, or for `guidance.steered`.

    The latter has a scale of its own, which then is 1.
    """
    gradient = gradient_of(agreement(clip, caption))

    def steer(x_t: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"]) -> Float[Tensor, "b 3 h w"]:
        return scale * gradient(x_t, t)

    return steer
