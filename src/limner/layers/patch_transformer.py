"""A transformer in place of the U-Net: patches, caption and time are all tokens of one sequence.

The U-ViT of Bao et al. 2022, "All are Worth Words: A ViT Backbone for Diffusion Models", figure 1: the second
half of the blocks sees, besides what it is given, what the block opposite in the first half gave.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limner.layers.embeddings import TimeEmbedding
from limner.layers.transformer import Block
from limner.layers.unet import zeroed


@dataclass(frozen=True, kw_only=True)
class PatchTransformerConfig:
    """`patch` × `patch` pixels of a picture of `resolution` are one token; `layers` is odd.

    `context_width`: width of the caption's rows, which stand in the sequence of every layer.
    """

    resolution: int
    in_channels: int
    out_channels: int
    patch: int
    width: int
    layers: int
    heads: int
    context_width: int

    # A sequence is laid out by attention from its first layer on, so it needs no canvas.
    canvas = 0

    @property
    def embedding_width(self) -> int:
        """Width of the time embedding, and of whatever is added to it."""
        return self.width


class PatchTransformer(nn.Module):
    """(x_t, t, condition, context) → prediction at the resolution of x_t, as `UNet` gives it."""

    def __init__(self, config: PatchTransformerConfig) -> None:
        super().__init__()
        if config.layers % 2 == 0:
            raise ValueError(f"layers: {config.layers}, but halves around a middle need an odd number")
        if config.resolution % config.patch:
            raise ValueError(f"patch: {config.patch} does not divide {config.resolution} pixels")
        self.config = config
        area, width = config.patch**2, config.width
        self.time = TimeEmbedding(width=width, out=width)
        self.stem = nn.Conv2d(config.in_channels * area, width, 1)
        self.context = nn.Linear(config.context_width, width)
        self.positions = nn.Parameter(0.02 * torch.randn((config.resolution // config.patch) ** 2, width))

        def block() -> Block:
            return Block(width=width, heads=config.heads, activation="gelu")

        half = config.layers // 2
        self.first = nn.ModuleList(block() for _ in range(half))
        self.middle = block()
        self.joins = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(half))
        self.second = nn.ModuleList(block() for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.head = zeroed(nn.Linear(width, config.out_channels * area))

    def read(self, context: Float[Tensor, "b l d"]) -> tuple[Tensor, ...]:
        """Caption rows as tokens of the sequence: all that can be done before a picture is there."""
        return (self.context(context),)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, "b"],
        *,
        condition: Float[Tensor, "b e"] | None = None,
        context: Float[Tensor, "b l d"] | tuple[Tensor, ...],
        context_mask: Bool[Tensor, "b l"] | None = None,
        canvas: Tensor | None = None,
    ) -> Float[Tensor, "b c_out h w"]:
        """Predict from the noised picture `x` at times `t`; the arguments are those of `UNet`."""
        if canvas is not None:
            raise ValueError("canvas: attention lays pictures out here; leave it out")
        (words,) = self.read(context) if isinstance(context, Tensor) else context
        patch, side = self.config.patch, self.config.resolution
        if x.shape[-2:] != (side, side):
            raise ValueError(f"x: {x.shape[2]}×{x.shape[3]} pixels, but this network knows {side}×{side}")
        time = self.time(t) if condition is None else self.time(t) + condition
        folded = rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=patch, q=patch)
        patches = rearrange(self.stem(folded), "b d h w -> b (h w) d") + self.positions
        h = torch.cat([rearrange(time, "b d -> b 1 d"), words, patches], dim=1)
        mask = None
        if context_mask is not None:
            shown = context_mask.new_ones(len(x), 1 + patches.shape[1])
            mask = torch.cat([shown[:, :1], context_mask, shown[:, 1:]], dim=1)
        skips = []
        for block in self.first:
            h = block(h, key_mask=mask)
            skips.append(h)
        h = self.middle(h, key_mask=mask)
        for join, block in zip(self.joins, self.second, strict=True):
            h = block(join(torch.cat([h, skips.pop()], dim=-1)), key_mask=mask)
        out = self.head(self.norm(h[:, -patches.shape[1] :]))
        grid = side // patch
        return rearrange(out, "b (h w) (c p q) -> b c (h p) (w q)", h=grid, p=patch, q=patch)
