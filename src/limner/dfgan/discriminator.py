"""The discriminator: a picture's features, and one verdict on them with the sentence beside."""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from limner.dfgan.generator import GRID, SLOPE, DfGanConfig


class DownBlock(nn.Module):
    """Half the side: the pooled picture, and γ times a residual, where γ begins at 0."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(channels, out, 4, stride=2, padding=1, bias=False)
        self.refine = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """The grid of the next coarser level."""
        h = F.leaky_relu(self.halve(x), SLOPE)
        h = F.leaky_relu(self.refine(h), SLOPE)
        return F.avg_pool2d(self.shortcut(x), 2) + self.gamma * h


class Discriminator(nn.Module):
    """How real a picture is and how well the sentence fits it, in one number: the one-way output.

    There is no second output for the picture alone: its gradient would lead elsewhere than to a real picture
    of this sentence (section 3.3 of the paper).
    """

    def __init__(self, config: DfGanConfig) -> None:
        super().__init__()
        fine = config.channels
        self.look = nn.Conv2d(3, fine[0], 3, padding=1)
        self.blocks = nn.Sequential(*[DownBlock(channels, out) for channels, out in pairwise(fine)])
        self.join = nn.Conv2d(fine[-1] + config.sentence, 2 * config.width, 3, padding=1, bias=False)
        self.judge = nn.Conv2d(2 * config.width, 1, GRID, bias=False)

    def features(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 4 4"]:
        """What is seen of pictures in [-1, 1], before anything is said of them."""
        return cast(Tensor, self.blocks(self.look(x)))

    def verdict(self, features: Float[Tensor, "b c 4 4"], s: Float[Tensor, "b s"]) -> Float[Tensor, "b"]:
        """Above 0 for a real picture that the sentence tells of."""
        told = repeat(s, "b s -> b s h w", h=GRID, w=GRID)
        h = F.leaky_relu(self.join(torch.cat([features, told], dim=1)), SLOPE)
        return rearrange(self.judge(h), "b 1 1 1 -> b")

    def forward(self, x: Float[Tensor, "b 3 h w"], s: Float[Tensor, "b s"]) -> Float[Tensor, "b"]:
        """The verdict on pictures with their sentences."""
        return self.verdict(self.features(x), s)
