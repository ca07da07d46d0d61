"""GLIDE's text encoder: a bidirectional transformer whose padding is learned position by position."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.layers.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """`context` positions, always all used; `condition_width` is the U-Net's time-embedding width."""

    context: int
    vocabulary: int
    width: int
    layers: int
    heads: int
    condition_width: int


class TextEncoder(nn.Module):
    """Token ids → one row a position for attention, and one vector for the time embedding.

    A padded position holds a learned embedding of its own instead of token plus position; nothing is masked
    and nothing is causal; the vector comes from the *last* position, padded or not. An empty caption is
    padding throughout.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(0.01 * torch.randn(config.context, config.width))
        self.padding = nn.Parameter(0.01 * torch.randn(config.context, config.width))
        self.transformer = Transformer(
            width=config.width, layers=config.layers, heads=config.heads, activation="gelu"
        )
        self.norm = nn.LayerNorm(config.width)
        self.pool = nn.Linear(config.width, config.condition_width)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(
        self, ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b e"]]:
        """Read ids (B, context) of which `mask` marks the real tokens."""
        if ids.shape[1] != self.config.context:
            raise ValueError(f"ids: {ids.shape[1]} positions, but this encoder pads to {self.config.context}")
        real = rearrange(mask, "b l -> b l 1")
        x = torch.where(real, self.embed(ids) + self.positions, self.padding)
        x = self.norm(self.transformer(x))
        return x, self.pool(x[:, -1])
