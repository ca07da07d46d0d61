"""The decoder's first idea of a picture: what such an embedding shows, on average.

Diffusion spends most of its training on noise, and learns only by the way which picture an embedding stands
for. Regression learns just this. So a trunk of matrices says what is to be seen, blurred where it is not
sure, and the U-Net, which has it on its canvas, how such a picture truly looks; as DiffuseVAE (Pandey et al.
2022) has a diffusion model refine what a VAE makes.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from limner.layers.trunk import Trunk, TrunkConfig, Whitening


@dataclass(frozen=True, kw_only=True)
class SketchConfig:
    """`embedding` of CLIP; `resolution` of the picture; `trunk`: its sizes.

    The picture is made of pieces of `piece` × `piece` pixels, each told in `numbers`, which one small
    network, the same for all pieces, turns into pixels. By a linear map alone (`hidden` 0) all pictures lie
    in as many dimensions as the trunk is wide, which blurs what no training makes sharp again:
    `benchmarks/pieces.py` says how much. A layer of `hidden` rectifiers beside it leads out of that plane.

    `captioned`: whether it reads the caption's embedding too, of as many numbers as the picture's. What a
    prior imagines is not quite what was said, and what was said is at hand.
    """

    embedding: int
    resolution: int
    trunk: TrunkConfig
    piece: int
    numbers: int
    hidden: int = 0
    captioned: bool = False


class Piece(nn.Module):
    """Numbers → pixels: A x + W₂ GELU(W₁ x), the second part zero as it is made."""

    def __init__(self, numbers: int, hidden: int, pixels: int) -> None:
        super().__init__()
        self.plain = nn.Linear(numbers, pixels)
        self.widen = nn.Linear(numbers, hidden)
        self.out = nn.Linear(hidden, pixels, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b p"]:
        """The pixels of pieces."""
        out: Tensor = self.plain(x) + self.out(F.gelu(self.widen(x)))
        return out


class Sketch(nn.Module):
    """z_i, and z_t where it is `captioned`, → the mean of the pictures that they may stand for."""

    def __init__(self, config: SketchConfig) -> None:
        super().__init__()
        if config.resolution % config.piece:
            raise ValueError(
                f"piece: {config.piece} does not divide the picture's {config.resolution} pixels"
            )
        self.config = config
        self.side = config.resolution // config.piece
        width = config.trunk.width
        self.sphere = Whitening(config.embedding)
        self.from_picture = nn.Linear(config.embedding, width)
        self.said = Whitening(config.embedding) if config.captioned else None
        self.from_caption = nn.Linear(config.embedding, width, bias=False) if config.captioned else None
        self.trunk = Trunk(config.trunk)
        self.to_pieces = nn.Linear(width, self.side**2 * config.numbers)
        pixels = 3 * config.piece**2
        self.to_pixels = (
            Piece(config.numbers, config.hidden, pixels)
            if config.hidden
            else nn.Linear(config.numbers, pixels)
        )

    def forward(
        self, picture: Float[Tensor, "b d"], caption: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """From picture embeddings as the decoder is told them, and captions' as CLIP has them.

        Raises ValueError for captions where it is not `captioned`, and for none where it is.
        """
        known = self.from_picture(self.sphere(picture))
        if self.said is not None and self.from_caption is not None and caption is not None:
            known = known + self.from_caption(self.said(caption))
        elif self.config.captioned or caption is not None:
            raise ValueError(
                f"caption is {'missing' if caption is None else 'given'}: this sketch's captioned is "
                f"{self.config.captioned}"
            )
        pieces = rearrange(
            self.to_pieces(self.trunk(known)), "b (h w n) -> b h w n", h=self.side, w=self.side
        )
        piece = self.config.piece
        return rearrange(self.to_pixels(pieces), "b h w (c p q) -> b c (h p) (w q)", p=piece, q=piece)
