"""VQGAN: residual blocks down to a grid, a code at each place, residual blocks back up.

Esser et al. 2021, "Taming Transformers for High-Resolution Image Synthesis", figure 2 and table 7. Reading
order: residual block, attention block, the level they form, encoder, decoder, both. The discriminator and
the perceptual loss belong to training, and are not here.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.draws import Draws
from limner.quantize import Codebook, CodebookConfig, GumbelCodebook, Quantized

COLOURS = 3
# Finer than PyTorch's 1e-5, as these weights were trained.
EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class VqGanConfig:
    """Sizes: `stem` channels at first, then `widths` of the levels, fine to coarse, each half the size.

    A level has `depth` residual blocks on the way down, one more on the way up. `attention`: the factors by
    which pictures are smaller at those levels whose blocks are followed by attention, as the middle's are
    always. `latent`: channels between the networks and the 1×1 convolutions beside the `codes`, which are
    vectors of `width`. `choice`: the nearest code, or the likeliest of a Gumbel-softmax.

    `pixels`: what the networks themselves see and paint, -1 to 1 ("signed") or 0 to 1 ("unit", DALL-E
    mini's); pictures here are in [-1, 1] all the same. `resolution`: side of the pictures trained on; any
    other that is a multiple of `factor` works too.
    """

    resolution: int
    stem: int
    widths: tuple[int, ...]
    depth: int
    attention: tuple[int, ...]
    latent: int
    codes: int
    width: int
    choice: Literal["nearest", "gumbel"]
    pixels: Literal["signed", "unit"]

    @property
    def factor(self) -> int:
        """How many pixels a code is wide and high."""
        return int(2 ** (len(self.widths) - 1))


class Reconstruction(NamedTuple):
    """`pictures` (B, 3, H, W), not clamped, and what the codebook made of them."""

    pictures: Tensor
    codes: Quantized


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of 32 groups. Raises ValueError for channels that do not make as many."""
    if channels % 32:
        raise ValueError(f"widths: {channels} is not a multiple of GroupNorm's 32 groups")
    return nn.GroupNorm(32, channels, eps=EPSILON)


class ResidualBlock(nn.Module):
    """x + twice GN-SiLU-convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm_in = group_norm(channels)
        self.conv_in = nn.Conv2d(channels, out, 3, padding=1)
        self.norm_out = group_norm(out)
        self.conv_out = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Refine a feature map."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        out: Tensor = self.skip(x) + self.conv_out(F.silu(self.norm_out(h)))
        return out


class AttentionBlock(nn.Module):
    """x + attention over all places, of one head as wide as the map has channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Let every place look at every other."""
        q, k, v = rearrange(
            self.qkv(rearrange(self.norm(x), "b c h w -> b (h w) c")), "b n (t c) -> t b n c", t=3
        )
        y = self.out(F.scaled_dot_product_attention(q, k, v))
        return x + rearrange(y, "b (h w) c -> b c h w", h=x.shape[2])


class Level(nn.Module):
    """`depth` residual blocks, perhaps each with attention, perhaps a change of size at the end."""

    def __init__(self, channels: int, out: int, *, depth: int, attends: bool, resample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels if i == 0 else out, out) for i in range(depth))
        self.attentions = nn.ModuleList(
            AttentionBlock(out) if attends else nn.Identity() for _ in range(depth)
        )
        self.resample = resample

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Pass a feature map through this level."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            x = attention(block(x))
        return self.resample(x)


def halved(channels: int) -> nn.Sequential:
    """A strided convolution; the zeros beside the map lie right and below alone."""
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))


def doubled(channels: int) -> nn.Sequential:
    """Every place four times, then a convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1))


def middle(channels: int) -> nn.Sequential:
    """What stands at the coarsest level, between the way down or up and the codes."""
    return nn.Sequential(
        ResidualBlock(channels, channels), AttentionBlock(channels), ResidualBlock(channels, channels)
    )


class Encoder(nn.Module):
    """Pictures → what the codebook chooses by: vectors to be near to, or a logit for each code."""

    def __init__(self, config: VqGanConfig) -> None:
        super().__init__()
        self.config = config
        widths, last = config.widths, len(config.widths) - 1
        self.stem = nn.Conv2d(COLOURS, config.stem, 3, padding=1)
        self.down = nn.ModuleList(
            Level(
                before,
                width,
                depth=config.depth,
                attends=2**level in config.attention,
                resample=halved(width) if level < last else nn.Identity(),
            )
            for level, (before, width) in enumerate(pairwise((config.stem, *widths)))
        )
        self.middle = middle(widths[-1])
        self.norm = group_norm(widths[-1])
        self.out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)
        self.to_codes = nn.Conv2d(config.latent, config.width, 1)
        gumbel = config.choice == "gumbel"
        self.logits = nn.Conv2d(config.width, config.codes, 1) if gumbel else nn.Identity()

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h2 w2 d"]:
        """Pictures in [-1, 1] whose sides are multiples of `factor`; ValueError for others."""
        height, width = pictures.shape[2:]
        factor = self.config.factor
        if height % factor or width % factor:
            raise ValueError(f"pictures: {height}×{width} pixels, but both must be multiples of {factor}")
        x = self.stem(pictures if self.config.pixels == "signed" else (pictures + 1) / 2)
        for level in self.down:
            x = level(x)
        x = self.out(F.silu(self.norm(self.middle(x))))
        return rearrange(self.logits(self.to_codes(x)), "b d h w -> b h w d")


class Decoder(nn.Module):
    """Codes → pictures. The codebook is its first layer, so that it is of use without the encoder."""

    codebook: Codebook | GumbelCodebook

    def __init__(self, config: VqGanConfig) -> None:
        super().__init__()
        self.config = config
        if config.choice == "gumbel":
            self.codebook = GumbelCodebook(codes=config.codes, width=config.width)
        else:
            self.codebook = Codebook(
                CodebookConfig(codes=config.codes, width=config.width, beta=0.25, average=None)
            )
        widths = config.widths
        self.from_codes = nn.Conv2d(config.width, config.latent, 1)
        self.stem = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.middle = middle(widths[-1])
        self.up = nn.ModuleList(
            Level(
                widths[min(level + 1, len(widths) - 1)],
                widths[level],
                depth=config.depth + 1,
                attends=2**level in config.attention,
                resample=doubled(widths[level]) if level else nn.Identity(),
            )
            for level in reversed(range(len(widths)))
        )
        self.norm = group_norm(widths[0])
        self.out = nn.Conv2d(widths[0], COLOURS, 3, padding=1)

    def forward(self, vectors: Float[Tensor, "b h w d"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Vectors of codes as pictures, not clamped."""
        x = self.middle(self.stem(self.from_codes(rearrange(vectors, "b h w d -> b d h w"))))
        for level in self.up:
            x = level(x)
        painted: Tensor = self.out(F.silu(self.norm(x)))
        return painted if self.config.pixels == "signed" else 2 * painted - 1

    @torch.no_grad()
    def decode(self, ids: Int[Tensor, "b h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Code numbers as pictures in [-1, 1]. Raises ValueError for numbers that name no code."""
        least, most = (int(end) for end in ids.aminmax())
        if least < 0 or most >= self.config.codes:
            raise ValueError(
                f"ids: numbers from {least} to {most}, but the codes are 0 to {self.config.codes - 1}"
            )
        return self(F.embedding(ids, self.codebook.codes)).float().clamp(-1, 1)


class VqGan(nn.Module):
    """Picture → grid of codes → picture."""

    def __init__(self, config: VqGanConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(
        self,
        pictures: Float[Tensor, "b 3 h w"],
        *,
        temperature: float | None = None,
        draws: Draws | None = None,
    ) -> Reconstruction:
        """Figure 2: encode, choose codes, decode. A Gumbel-softmax in training needs both of the others."""
        scores, codebook = self.encoder(pictures), self.decoder.codebook
        if isinstance(codebook, GumbelCodebook):
            codes = codebook(scores, temperature=temperature, draws=draws, hard=True)
        else:
            codes = codebook(scores)
        return Reconstruction(self.decoder(codes.vectors), codes)

    @torch.no_grad()
    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b h2 w2"]:
        """Pictures in [-1, 1] as code numbers: the nearest, or the likeliest, without noise."""
        scores, codebook = self.encoder(pictures), self.decoder.codebook
        return codebook.nearest(scores) if isinstance(codebook, Codebook) else scores.argmax(dim=-1)

    def decode(self, ids: Int[Tensor, "b h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Code numbers as pictures in [-1, 1]."""
        return self.decoder.decode(ids)

    def reconstruct(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures as they come back from their codes."""
        return self.decode(self.encode(pictures))


def f16(codes: int) -> VqGanConfig:
    """ImageNet's, of 16×16 pixels a code: 72,141,699 parameters with 1024 codes, 76,073,859 with 16,384."""
    return VqGanConfig(
        resolution=256,
        stem=128,
        widths=(128, 128, 256, 256, 512),
        depth=2,
        attention=(16,),
        latent=256,
        codes=codes,
        width=256,
        choice="nearest",
        pixels="signed",
    )


def gumbel_f8() -> VqGanConfig:
    """OpenImages' with 8192 codes of 8×8 pixels, by Gumbel-softmax: 68,995,971 parameters."""
    return VqGanConfig(
        resolution=256,
        stem=128,
        widths=(128, 128, 256, 512),
        depth=2,
        attention=(8,),
        latent=256,
        codes=8192,
        width=256,
        choice="gumbel",
        pixels="signed",
    )
