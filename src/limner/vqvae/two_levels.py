"""VQ-VAE-2: a small grid of codes for the whole picture, and a finer one for what it leaves out.

Razavi et al. 2019, section 3.1 and figure 2a, in the layout of the implementation most used since,
rosinality's: the bottom map is quantised together with the decoded top codes, so that its codes need not say
what the top has said. Read downwards to `VqVae2.forward`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.draws import Draws
from limner.quantize import Codebook, CodebookConfig, MovingAverage, Quantized
from limner.vqvae.convolutions import doubling, halving, residual_blocks
from limner.vqvae.model import Reconstruction, channels_first, channels_last, check_ids, check_size

BOTTOM_FACTOR = 4
TOP_FACTOR = 8


@dataclass(frozen=True, kw_only=True)
class VqVae2Config:
    """Sizes: `channels` throughout, half as many after the first halving; `hidden` inside residual blocks.

    `codebook`: of either level; each has its own. A bottom code is 4 pixels wide, a top code 8.
    """

    channels: int
    hidden: int
    blocks: int
    codebook: CodebookConfig


def imagenet_256() -> VqVae2Config:
    """The paper's model of 256×256 pictures: 32×32 top and 64×64 bottom codes, 46,080 bits a picture."""
    average = MovingAverage(decay=0.99, epsilon=1e-5, restart_below=None)
    codebook = CodebookConfig(codes=512, width=64, beta=0.25, average=average)
    return VqVae2Config(channels=128, hidden=64, blocks=2, codebook=codebook)


class Codes(NamedTuple):
    """Code numbers of both levels: `top` (B, H/8, W/8) and `bottom` (B, H/4, W/4)."""

    top: Tensor
    bottom: Tensor


class VqVae2(nn.Module):
    """Picture → two grids of codes → picture."""

    def __init__(self, config: VqVae2Config) -> None:
        super().__init__()
        self.config = config
        wide, half, width = config.channels, config.channels // 2, config.codebook.width

        def refine() -> list[nn.Module]:
            return residual_blocks(channels=wide, hidden=config.hidden, blocks=config.blocks)

        self.bottom_encoder = nn.Sequential(
            halving(3, half), nn.ReLU(), halving(half, wide), nn.ReLU(), _conv(wide, wide), *refine()
        )
        self.top_encoder = nn.Sequential(halving(wide, half), nn.ReLU(), _conv(half, wide), *refine())
        self.to_top = nn.Conv2d(wide, width, 1)
        self.top_codebook = Codebook(config.codebook)
        self.top_decoder = nn.Sequential(_conv(width, wide), *refine(), doubling(wide, width))
        self.to_bottom = nn.Conv2d(width + wide, width, 1)
        self.bottom_codebook = Codebook(config.codebook)
        self.enlarge_top = doubling(width, width)
        self.decoder = nn.Sequential(
            _conv(2 * width, wide), *refine(), doubling(wide, half), nn.ReLU(), doubling(half, 3)
        )

    def forward(self, pictures: Float[Tensor, "b 3 h w"], draws: Draws | None = None) -> Reconstruction:
        """Figure 2a, left: top codes, then bottom codes given them, then the picture from both."""
        features = self._features(pictures)
        top = self.top_codebook(self._top_vectors(features), draws)
        bottom = self.bottom_codebook(self._bottom_vectors(features, top.vectors), draws)
        return Reconstruction(self._painted(top.vectors, bottom.vectors), _levels(top, bottom))

    @torch.no_grad()
    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Codes:
        """Pictures in [-1, 1] as code numbers."""
        features = self._features(pictures)
        top = self.top_codebook.nearest(self._top_vectors(features))
        vectors = self._bottom_vectors(features, self.top_codebook.vectors(top))
        return Codes(top, self.bottom_codebook.nearest(vectors))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Float[Tensor, "b 3 h w"]:
        """Code numbers as pictures in [-1, 1]."""
        for name, ids in zip(codes._fields, codes, strict=True):
            check_ids(ids, self.config.codebook.codes, name)
        if codes.bottom.shape != (len(codes.top), *(2 * side for side in codes.top.shape[1:])):
            shapes = f"{tuple(codes.bottom.shape)} under {tuple(codes.top.shape)}"
            raise ValueError(f"bottom: {shapes}, but it must be twice as high and wide as top")
        top, bottom = self.top_codebook.vectors(codes.top), self.bottom_codebook.vectors(codes.bottom)
        return self._painted(top, bottom).float().clamp(-1, 1)

    def reconstruct(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures as they come back from their codes."""
        return self.decode(self.encode(pictures))

    def _features(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h4 w4"]:
        check_size(pictures, TOP_FACTOR)
        return self.bottom_encoder(pictures)

    def _top_vectors(self, features: Float[Tensor, "b c h4 w4"]) -> Float[Tensor, "b h8 w8 d"]:
        return channels_last(self.to_top(self.top_encoder(features)))

    def _bottom_vectors(
        self, features: Float[Tensor, "b c h4 w4"], top: Float[Tensor, "b h8 w8 d"]
    ) -> Float[Tensor, "b h4 w4 d"]:
        known = self.top_decoder(channels_first(top))
        return channels_last(self.to_bottom(torch.cat([known, features], dim=1)))

    def _painted(
        self, top: Float[Tensor, "b h8 w8 d"], bottom: Float[Tensor, "b h4 w4 d"]
    ) -> Float[Tensor, "b 3 h w"]:
        large = self.enlarge_top(channels_first(top))
        return self.decoder(torch.cat([large, channels_first(bottom)], dim=1))


def _conv(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1)


def _levels(top: Quantized, bottom: Quantized) -> dict[str, Quantized]:
    return {"top": top, "bottom": bottom}
