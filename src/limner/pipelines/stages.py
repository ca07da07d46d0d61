"""What a painting passes through, from words to picture: one dataclass for each step of the paper's figure.

DALL-E 2: Understood, Imagined, Drawn, Enlarged, EnlargedAgain. GLIDE: Read, Drawn, Enlarged. DALL-E 1 and
DALL-E mini: Read, Written, Developed, Ranked. DF-GAN: Heard, Drawn. Each says which commissions its rows
belong to, in order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from limner.dalle2.decoder import ClipTokens
from limner.diffusion.samplers import Step
from limner.pipelines.settings import Commission


@dataclass(frozen=True, kw_only=True)
class Understood:
    """The words as CLIP reads them: token `ids`, and beside them the empty caption, for guidance."""

    commissions: tuple[Commission, ...]
    ids: Int[Tensor, "b l"]
    caption: ClipTokens
    empty: ClipTokens

    @property
    def embedding(self) -> Float[Tensor, "b d"]:
        """z_t: the captions' embeddings, unit unless the networks take them raw."""
        return self.caption.embedding


@dataclass(frozen=True, kw_only=True)
class Imagined:
    """z_i: embeddings of pictures that the words could belong to, the best of the `candidates`.

    `scores` are the candidates' cosines with z_t; `embeddings` are those with the highest.
    """

    commissions: tuple[Commission, ...]
    embeddings: Float[Tensor, "b d"]
    candidates: Float[Tensor, "b c d"]
    scores: Float[Tensor, "b c"]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The decoder's small pictures in [-1, 1], 64×64 in the paper; or a GAN's, which are its only ones."""

    commissions: tuple[Commission, ...]
    pictures: Float[Tensor, "b 3 h w"]

    def images(self) -> list[Image.Image]:
        """As PIL images."""
        return to_images(self.pictures)


@dataclass(frozen=True, kw_only=True)
class Enlarged:
    """The upsampler's large pictures in [-1, 1]: 256×256 in the paper."""

    commissions: tuple[Commission, ...]
    pictures: Float[Tensor, "b 3 h w"]

    def images(self) -> list[Image.Image]:
        """As PIL images."""
        return to_images(self.pictures)


@dataclass(frozen=True, kw_only=True)
class EnlargedAgain:
    """The second upsampler's pictures in [-1, 1]: 1024×1024 in the paper."""

    commissions: tuple[Commission, ...]
    pictures: Float[Tensor, "b 3 h w"]

    def images(self) -> list[Image.Image]:
        """As PIL images."""
        return to_images(self.pictures)


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What pictures are on their way to be: step `index` (from 0) of `total` of the smallest is done.

    The guess x̂_0 behind a sampler's step, beside `noisy`, where it stands; or the rows of tokens that are
    written, and white below.
    """

    commissions: tuple[Commission, ...]
    index: int
    total: int
    pictures: Float[Tensor, "b 3 h w"]
    noisy: Float[Tensor, "b 3 h w"] | None = None

    def images(self) -> list[Image.Image]:
        """As PIL images."""
        return to_images(self.pictures)


OnSketch: TypeAlias = Callable[[Sketch], None]


def sketching(wanted: tuple[Commission, ...], on_sketch: OnSketch | None) -> Callable[[Step], None] | None:
    """What shows a sampler's steps to whoever wants to see sketches, if anybody does."""
    if on_sketch is None:
        return None
    return lambda step: on_sketch(
        Sketch(commissions=wanted, index=step.index, total=step.total, pictures=step.x0, noisy=step.x)
    )


Stage: TypeAlias = Understood | Imagined | Drawn | Enlarged | EnlargedAgain


@dataclass(frozen=True, kw_only=True)
class Read:
    """The words as DALL-E 1 or GLIDE reads them: token `ids`, `PADDING` behind the caption's end.

    DALL-E mini's have a beginning and an end, and padding of the model's own behind it.
    """

    commissions: tuple[Commission, ...]
    ids: Int[Tensor, "b l"]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The words as DF-GAN hears them: token `ids`, and `sentences` s, which scale and shift its channels."""

    commissions: tuple[Commission, ...]
    ids: Int[Tensor, "b l"]
    sentences: Float[Tensor, "b s"]


@dataclass(frozen=True, kw_only=True)
class Written:
    """The transformer's grids of image tokens."""

    commissions: tuple[Commission, ...]
    tokens: Int[Tensor, "b w w"]


@dataclass(frozen=True, kw_only=True)
class Developed:
    """The dVAE's, or VQGAN's, pictures of the tokens, in [-1, 1]."""

    commissions: tuple[Commission, ...]
    tokens: Int[Tensor, "b w w"]
    pictures: Float[Tensor, "b 3 h w2"]

    def images(self) -> list[Image.Image]:
        """As PIL images."""
        return to_images(self.pictures)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The pictures that are kept, best first for each prompt, and CLIP's `scores`: cosines with the words."""

    commissions: tuple[Commission, ...]
    tokens: Int[Tensor, "b w w"]
    pictures: Float[Tensor, "b 3 h w2"]
    scores: Float[Tensor, "b"]

    def images(self) -> list[Image.Image]:
        """As PIL images."""
        return to_images(self.pictures)


TokenStage: TypeAlias = Read | Written | Developed | Ranked


@dataclass(frozen=True, kw_only=True)
class Partial:
    """A picture of which the first `rows` of W rows of tokens are written; what is still to come is white.

    `odds`: the probability that each of them had when it was drawn, before the tail was cut.
    """

    commission: Commission
    tokens: Int[Tensor, "rows w"]
    odds: Float[Tensor, "rows w"]
    picture: Float[Tensor, "3 h w2"]

    @property
    def rows(self) -> int:
        """How many rows of tokens are finished."""
        return len(self.tokens)

    def image(self) -> Image.Image:
        """As a PIL image."""
        return to_images(self.picture[None])[0]


def eight_bit(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Pictures in [-1, 1], rounded to the 256 values that a file can hold."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def to_images(pictures: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """Pictures in [-1, 1] as 8-bit RGB."""
    levels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
    return [
        Image.fromarray(picture.numpy()) for picture in rearrange(levels, "b c h w -> b h w c").contiguous()
    ]
