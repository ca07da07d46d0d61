"""A classifier of noised pictures: the U-Net's way down, and attention that gathers what is there."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from limner.adm.model import IMAGENET, unet
from limner.layers.embeddings import TimeEmbedding
from limner.layers.unet import AttentionBlock, Level, ResidualBlock, UNetConfig, descent, group_norm


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """`resolution` in pixels, the only one that it takes; of `unet` the way down, `out_channels` classes."""

    resolution: int
    unet: UNetConfig

    @property
    def side(self) -> int:
        """Side in places of the coarsest map."""
        return int(self.resolution // 2 ** (len(self.unet.multipliers) - 1))


class AttentionPool(nn.Module):
    """The mean of all places asks what is there, as in CLIP's residual towers; a linear layer answers."""

    def __init__(self, config: ClassifierConfig, *, channels: int) -> None:
        super().__init__()
        self.heads = config.unet.heads_of(channels)
        self.positions = nn.Parameter(torch.randn(config.side**2 + 1, channels) / channels**0.5)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, config.unet.out_channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Gather a feature map."""
        places = rearrange(x, "b c h w -> b (h w) c")
        rows = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1) + self.positions
        q, k, v = rearrange(self.qkv(rows), "b n (three g d) -> three b g n d", three=3, g=self.heads)
        y = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        return self.out(rearrange(y, "b g 1 d -> b (g d)"))


class NoisedClassifier(nn.Module):
    """(x_t, t) → a logit for each class.

    The gradient of ln p(y | x_t) by x_t guides (Dhariwal & Nichol 2021, section 4).
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        unet = config.unet
        self.time = TimeEmbedding(width=unet.sinusoids, out=unet.embedding_width)
        self.stem = nn.Conv2d(unet.in_channels, unet.channels * unet.multipliers[0], 3, padding=1)
        down, (*_, channels) = descent(unet)
        self.down = nn.ModuleList(down)
        self.middle_in = ResidualBlock(channels=channels, out=channels, config=unet)
        self.middle_attention = AttentionBlock(channels=channels, config=unet)
        self.middle_out = ResidualBlock(channels=channels, out=channels, config=unet)
        self.norm = group_norm(channels)
        self.pool = AttentionPool(config, channels=channels)

    def forward(self, x: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"]) -> Float[Tensor, "b k"]:
        """Classify noised pictures of `resolution` pixels; ValueError for others."""
        side = self.config.resolution
        if x.shape[2:] != (side, side):
            raise ValueError(f"x: {x.shape[2]}×{x.shape[3]} pixels, but this classifier takes {side}×{side}")
        embedding = self.time(t)
        h = self.stem(x)
        for step in self.down:
            h = step(h, embedding, None, None) if isinstance(step, Level) else step(h, embedding)
        h = self.middle_attention(self.middle_in(h, embedding), None, None)
        h = self.middle_out(h, embedding)
        out: Tensor = self.pool(F.silu(self.norm(h)))
        return out


def imagenet(side: int) -> ClassifierConfig:
    """ImageNet's, of 64, 128, 256 or 512 pixels: 65, 43, 54 and 54 million parameters."""
    half = {64: 128, 128: 128, 256: 128, 512: 64}
    backbone = replace(
        unet(side),
        out_channels=IMAGENET,
        channels=half[side],
        time_width=128 if side == 512 else None,
        depth=4 if side == 64 else 2,
        heads=None,
    )
    return ClassifierConfig(resolution=side, unet=backbone)
