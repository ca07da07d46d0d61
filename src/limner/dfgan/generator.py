"""The generator: noise becomes a 4×4 grid, blocks double it, and in each of them the sentence has its say."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from limner.draws import Draws
from limner.layers.trunk import Whitening

# Pixels a side of the coarsest grid, and how many times `width` the coarse grids have channels at most.
GRID = 4
WIDEST = 8
# Of leaky rectifiers, everywhere in both networks.
SLOPE = 0.2
# Where the released code cuts the normal that it scales by a truncation.
CUT = 2.0


@dataclass(frozen=True, kw_only=True)
class DfGanConfig:
    """Sizes of both networks: `resolution` in pixels, a power of two from 8, and `width` (32 in the paper).

    `noise`: numbers of z, 100 in the paper. `sentence`: numbers of the sentence embedding s, 256 there.
    `squashed`: whether colours pass tanh, as published. White is where tanh has no slope: of pictures on
    white grounds a generator learns white first, and from there no gradient leads it back. Without tanh it
    may go beyond the colours that there are, which the discriminator sees at once.
    """

    resolution: int
    width: int
    noise: int
    sentence: int
    squashed: bool

    def __post_init__(self) -> None:
        """Refuse sizes that do not halve down to the coarsest grid."""
        if self.resolution < 2 * GRID or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution: {self.resolution}; give a power of two from {2 * GRID}")
        for name in ("width", "noise", "sentence"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}; give at least 1")

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each grid, from that of the pixels to the coarsest: twice as many each time, up to a bound."""
        halvings = int(math.log2(self.resolution // GRID))
        return tuple(self.width * min(2**level, WIDEST) for level in range(halvings + 1))


class Affine(nn.Module):
    """γ ⊙ x + β with γ and β of the condition, one of each for a channel; equations 4 and 5.

    As it is made it changes nothing: γ is 1 and β is 0 whatever the condition.
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = (
            nn.Sequential(nn.Linear(condition, channels), nn.ReLU(), nn.Linear(channels, channels))
            for _ in range(2)
        )
        for mlp, start in ((self.scale, 1.0), (self.shift, 0.0)):
            last = mlp[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, start)

    def forward(
        self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b c h w"]:
        """Scale and shift every channel."""
        gamma, beta = (rearrange(mlp(condition), "b c -> b c 1 1") for mlp in (self.scale, self.shift))
        return gamma * x + beta


class Fusion(nn.Module):
    """Two affine maps, a rectifier behind each, so that together they are no affine map (a DFBlock)."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.first = Affine(condition, channels)
        self.second = Affine(condition, channels)

    def forward(
        self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b c h w"]:
        """Channels as the condition wants them."""
        x = F.leaky_relu(self.first(x, condition), SLOPE)
        return F.leaky_relu(self.second(x, condition), SLOPE)


class UpBlock(nn.Module):
    """Twice the side, then a residual of fusions and convolutions; nothing is normalised (an UPBlock)."""

    def __init__(self, condition: int, channels: int, out: int) -> None:
        super().__init__()
        self.fuse_in = Fusion(condition, channels)
        self.conv_in = nn.Conv2d(channels, out, 3, padding=1)
        self.fuse_out = Fusion(condition, out)
        self.conv_out = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b d h2 w2"]:
        """The grid of the next finer level."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        h = self.conv_in(self.fuse_in(x, condition))
        h = self.conv_out(self.fuse_out(h, condition))
        out: Tensor = self.shortcut(x) + h
        return out


class Generator(nn.Module):
    """z and a sentence → a picture, in one pass; figure 2 of the paper."""

    def __init__(self, config: DfGanConfig) -> None:
        super().__init__()
        self.config = config
        coarse, condition = config.channels[::-1], config.noise + config.sentence
        self.said = Whitening(config.sentence)
        self.start = nn.Linear(config.noise, coarse[0] * GRID**2)
        self.blocks = nn.ModuleList(UpBlock(condition, channels, out) for channels, out in pairwise(coarse))
        self.colours = nn.Conv2d(coarse[-1], 3, 3, padding=1)

    def spoken(self, embedding: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
        """A text tower's embedding as s: evenly spread where `said` was fitted, else as it is."""
        return self.said(embedding)

    def forward(self, z: Float[Tensor, "b n"], s: Float[Tensor, "b s"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [-1, 1], or about so where nothing is squashed."""
        h = rearrange(self.start(z), "b (c h w) -> b c h w", h=GRID, w=GRID)
        condition = torch.cat([z, s], dim=1)
        for block in self.blocks:
            h = block(h, condition)
        pictures: Tensor = self.colours(F.leaky_relu(h, SLOPE))
        return pictures.tanh() if self.config.squashed else pictures


def noise(draws: Draws, config: DfGanConfig, *, truncation: float | None = None) -> Float[Tensor, "b n"]:
    """z for each stream of `draws`: standard normal, as in training, or truncated.

    A `truncation` ψ takes a normal that is cut at ±2 and multiplies it by ψ: nearer to the middle, less
    varied and cleaner. The released code measures at 0.88.
    """
    if truncation is None:
        return draws.normal(config.noise)
    # The cut normal's quantiles: of u in [0, 1) that share of what lies between the cuts.
    inside = math.erf(CUT / math.sqrt(2))
    u = draws.uniform(config.noise)
    return truncation * math.sqrt(2) * torch.erfinv((2 * u - 1) * inside)
