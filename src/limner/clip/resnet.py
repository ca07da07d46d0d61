"""CLIP's other picture tower: a residual network that ends in attention instead of an average.

Radford et al. 2021, section 2.4: ResNet-D's stem of three convolutions (He et al. 2019), strides by averaging
(Zhang 2019), and one query, the mean of the last map, that attends to its places.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from limner.clip.tower import Features, PictureTower

# A block's output has this many times the channels of the convolution in its middle.
WIDENING = 4


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Sizes of the residual picture tower; `stride` divides `resolution`, both in pixels.

    `width`: channels after the stem, even. `blocks`: how many each stage has, four stages in the paper; every
    stage after the first halves the map and doubles the channels. `heads`: of the pooling attention, over
    `features` channels, which they divide; 64 channels each in the paper.
    """

    resolution: int
    width: int
    blocks: tuple[int, ...]
    heads: int

    # A noise level stands in the class token's place, and here is none: this tower reads clean pictures.
    times: ClassVar[None] = None

    @property
    def stride(self) -> int:
        """Pixels from one place of the last map to the next, 32 in the paper."""
        return 2 ** (len(self.blocks) + 1)

    @property
    def features(self) -> int:
        """Channels of the last map, 32 · width in the paper."""
        return WIDENING * self.width * 2 ** (len(self.blocks) - 1)


class Convolution(nn.Module):
    """Convolution → BatchNorm, whose shift makes a bias needless."""

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Convolve and normalise, by the batch's statistics in training, by those gathered there after it."""
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """1×1 narrow → 3×3 → average → 1×1 widen, plus the averaged input.

    A convolution with a stride would drop three places in four, and alias; here all convolutions go place by
    place and an average does the striding, on both ways before the 1×1 convolution. The gain of the last
    norm starts at 0, so that only the way around is open at first.
    """

    def __init__(self, *, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = WIDENING * width
        self.narrow = Convolution(channels, width, 1)
        self.mix = Convolution(width, width, 3)
        self.average = nn.Identity() if stride == 1 else nn.AvgPool2d(stride)
        self.widen = Convolution(width, out, 1)
        self.skip = nn.Identity() if (channels, stride) == (out, 1) else Convolution(channels, out, 1)
        nn.init.zeros_(self.widen.norm.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Refine a map, or bring it down by this block's stride."""
        h = F.relu(self.narrow(x))
        h = F.relu(self.mix(h))
        h = self.widen(self.average(h))
        return F.relu(h + self.skip(self.average(x)))


class AttentionPool(nn.Module):
    """The mean of all places asks, it and the places answer: one row of multi-head attention.

    Weights in N(0, 1/d), positions too.
    """

    def __init__(self, *, places: int, width: int, heads: int, out: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: {heads} does not divide the {width} channels of the last map")
        self.heads = heads
        self.positions = nn.Parameter(width**-0.5 * torch.randn(1 + places, width))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, out)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.normal_(linear.weight, std=width**-0.5)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Features:
        """Pool a map; the tokens are what is attended to, the mean first, positions added."""
        x = rearrange(x, "b d h w -> b (h w) d")
        x = torch.cat([reduce(x, "b n d -> b 1 d", "mean"), x], dim=1) + self.positions
        q, k, v = (
            rearrange(rows, "b n (heads d) -> b heads n d", heads=self.heads)
            for rows in (self.query(x[:, :1]), self.key(x), self.value(x))
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return Features(self.out(rearrange(y, "b heads 1 d -> b (heads d)")), x)


class ResNetTower(PictureTower):
    """Pixels → stem → stages of bottlenecks → attention pooling."""

    def __init__(self, config: ResNetConfig, *, embedding: int) -> None:
        super().__init__(resolution=config.resolution)
        if not config.blocks or min(config.blocks) < 1:
            raise ValueError(f"blocks: {config.blocks}, but a tower has a stage and every stage a block")
        if config.width % 2:
            raise ValueError(f"width: {config.width} is odd, and the stem begins with half of it")
        if config.resolution % config.stride:
            raise ValueError(
                f"resolution: {config.resolution} is no multiple of the {config.stride} pixels that "
                f"{len(config.blocks)} stages make one place of"
            )
        self.config = config
        self.stem = nn.ModuleList(
            [
                Convolution(3, config.width // 2, 3, stride=2),
                Convolution(config.width // 2, config.width // 2, 3),
                Convolution(config.width // 2, config.width, 3),
            ]
        )
        stages, channels = [], config.width
        for number, depth in enumerate(config.blocks):
            width = config.width * 2**number
            first = Bottleneck(channels=channels, width=width, stride=1 if number == 0 else 2)
            channels = WIDENING * width
            rest = (Bottleneck(channels=channels, width=width, stride=1) for _ in range(depth - 1))
            stages.append(nn.Sequential(first, *rest))
        self.stages = nn.Sequential(*stages)
        self.pool = AttentionPool(
            places=(config.resolution // config.stride) ** 2,
            width=config.features,
            heads=config.heads,
            out=embedding,
        )

    def forward(self, pictures: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"] | None = None) -> Features:
        """Read pictures in [-1, 1]; `t` is there because other towers know noise levels, and refused.

        Tokens are what the attention reads: the mean first, then the places of the last map, each with its
        position, (B, 1 + places, features).
        """
        if t is not None:
            raise ValueError("t: this tower reads clean pictures; leave it out")
        x = self.standardised(pictures)
        for convolution in self.stem:
            x = F.relu(convolution(x))
        x = F.avg_pool2d(x, 2)
        x = self.stages(x)
        return self.pool(x)
