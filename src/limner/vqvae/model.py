"""VQ-VAE: convolutions down to a grid, the nearest code at each place, convolutions back up.

van den Oord et al. 2017, figure 1 and section 4. Read downwards to `VqVae.forward`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.draws import Draws
from limner.quantize import Codebook, CodebookConfig, Quantized
from limner.vqvae.convolutions import doubling, halving, residual_blocks


@dataclass(frozen=True, kw_only=True)
class VqVaeConfig:
    """Sizes: `halvings` strided convolutions of `channels`, then `blocks` residual blocks; mirrored back.

    `hidden`: channels inside a residual block. Where the codes are not as wide as the channels, a 1×1
    convolution stands on either side of them.
    """

    channels: int
    hidden: int
    blocks: int
    halvings: int
    codebook: CodebookConfig

    @property
    def factor(self) -> int:
        """How many pixels a code is wide and high."""
        return 2**self.halvings


def cifar10() -> VqVaeConfig:
    """Section 4.1 of the paper: encoder 2,373,120 parameters, decoder 2,372,867, codes by the codebook loss.

    The paper says 8×8×10 codes for a picture of 32×32 and not how ten of them share a place; this has one.
    """
    codebook = CodebookConfig(codes=512, width=256, beta=0.25, average=None)
    return VqVaeConfig(channels=256, hidden=256, blocks=2, halvings=2, codebook=codebook)


class Reconstruction(NamedTuple):
    """`pictures` (B, 3, H, W), not clamped, and by each level's name what its codebook made of them."""

    pictures: Tensor
    levels: Mapping[str, Quantized]


def encoder(config: VqVaeConfig) -> nn.Sequential:
    """Pictures → vectors for the codebook."""
    width = config.codebook.width
    layers: list[nn.Module] = [halving(3, config.channels)]
    for _ in range(config.halvings - 1):
        layers += [nn.ReLU(), halving(config.channels, config.channels)]
    blocks = residual_blocks(channels=config.channels, hidden=config.hidden, blocks=config.blocks)
    if width == config.channels:
        blocks.pop()  # a last ReLU would leave half of the codebook's space empty
    else:
        blocks.append(nn.Conv2d(config.channels, width, 1))
    return nn.Sequential(*layers, *blocks)


def decoder(config: VqVaeConfig) -> nn.Sequential:
    """Codes → pictures: the encoder read backwards."""
    width = config.codebook.width
    layers: list[nn.Module] = []
    if width != config.channels:
        layers.append(nn.Conv2d(width, config.channels, 1))
    layers += residual_blocks(channels=config.channels, hidden=config.hidden, blocks=config.blocks)
    for _ in range(config.halvings - 1):
        layers += [doubling(config.channels, config.channels), nn.ReLU()]
    return nn.Sequential(*layers, doubling(config.channels, 3))


class VqVae(nn.Module):
    """Picture → grid of codes → picture."""

    def __init__(self, config: VqVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(config)
        self.codebook = Codebook(config.codebook)
        self.decoder = decoder(config)

    def forward(self, pictures: Float[Tensor, "b 3 h w"], draws: Draws | None = None) -> Reconstruction:
        """Figure 1: encode, take the nearest codes, decode. `draws`: for codes that restart, in training."""
        codes = self.codebook(self._vectors(pictures), draws)
        return Reconstruction(self.decoder(channels_first(codes.vectors)), {"codes": codes})

    @torch.no_grad()
    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b h2 w2"]:
        """Pictures in [-1, 1] as code numbers."""
        return self.codebook.nearest(self._vectors(pictures))

    @torch.no_grad()
    def decode(self, ids: Int[Tensor, "b h2 w2"]) -> Float[Tensor, "b 3 h w"]:
        """Code numbers as pictures in [-1, 1]."""
        check_ids(ids, self.config.codebook.codes, "ids")
        return self.decoder(channels_first(self.codebook.vectors(ids))).float().clamp(-1, 1)

    def reconstruct(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures as they come back from their codes."""
        return self.decode(self.encode(pictures))

    def _vectors(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h2 w2 d"]:
        check_size(pictures, self.config.factor)
        return channels_last(self.encoder(pictures))


def channels_last(x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b h w d"]:
    """As quantizers take vectors."""
    return rearrange(x, "b d h w -> b h w d")


def channels_first(x: Float[Tensor, "b h w d"]) -> Float[Tensor, "b d h w"]:
    """As convolutions take them."""
    return rearrange(x, "b h w d -> b d h w")


def check_size(pictures: Float[Tensor, "b 3 h w"], factor: int) -> None:
    """Raise ValueError where the sides are not whole numbers of codes."""
    height, width = pictures.shape[2:]
    if height % factor or width % factor:
        raise ValueError(f"pictures: {height}×{width} pixels, but both must be multiples of {factor}")


def check_ids(ids: Int[Tensor, "b h w"], codes: int, name: str) -> None:
    """Raise ValueError where a number names no code."""
    least, most = (int(end) for end in ids.aminmax())
    if least < 0 or most >= codes:
        raise ValueError(f"{name}: numbers from {least} to {most}, but the codes are 0 to {codes - 1}")
