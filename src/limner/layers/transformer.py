"""The pre-LN transformer that CLIP's towers, GLIDE's text encoder and unCLIP's prior are all made of."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

Activation = Literal["gelu", "quick_gelu"]
# Queries, keys and values, (B, heads, N, d) each → what every query gathered, of the same shape.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def quick_gelu(x: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """x·σ(1.702 x): the activation of CLIP's published weights. Exact GELU gives silently wrong features."""
    return x * torch.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    """Multi-head self-attention with fused, biased projections laid out [q | k | v]."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: {heads} does not divide the width {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        *,
        causal: bool = False,
        key_mask: Bool[Tensor, "b n"] | None = None,
        attend: Attend | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Mix rows; `causal` and `key_mask` as in `Transformer`, `attend` as in `Block`."""
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        if attend is not None:
            return self.out(rearrange(attend(q, k, v), "b h n d -> b n (h d)"))
        mask = None if key_mask is None else rearrange(key_mask, "b n -> b 1 1 n")
        if causal and mask is not None:
            n = x.shape[1]
            mask = mask & torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None)
        out: Tensor = self.out(rearrange(y, "b h n d -> b n (h d)"))
        return out


class Block(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x)), the latter `hidden` wide, by default four times `width`."""

    def __init__(self, *, width: int, heads: int, activation: Activation, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or 4 * width
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width=width, heads=heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.activation = quick_gelu if activation == "quick_gelu" else F.gelu

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        *,
        causal: bool = False,
        key_mask: Bool[Tensor, "b n"] | None = None,
        attend: Attend | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Refine rows; `causal` and `key_mask` as in `Transformer`.

        `attend` takes the place of both: it alone decides who looks at whom, so that a room can bring a
        sparse pattern or a memory of rows read before.
        """
        x = x + self.attention(self.norm_attention(x), causal=causal, key_mask=key_mask, attend=attend)
        return x + self.narrow(self.activation(self.widen(self.norm_mlp(x))))


class Transformer(nn.Module):
    """A stack of blocks, without embeddings or final norm: those belong to the rooms.

    Initialised as CLIP's text tower is: attention in N(0, 1/w), both residual outputs N(0, 1/(2 w L)),
    the widening layer N(0, 1/(2 w)), biases zero.
    """

    def __init__(
        self, *, width: int, layers: int, heads: int, activation: Activation, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width=width, heads=heads, activation=activation, hidden=hidden) for _ in range(layers)
        )
        for module in self.blocks:
            assert isinstance(module, Block)
            nn.init.normal_(module.attention.qkv.weight, std=width**-0.5)
            nn.init.normal_(module.attention.out.weight, std=(2 * width * layers) ** -0.5)
            nn.init.normal_(module.widen.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(module.narrow.weight, std=(2 * width * layers) ** -0.5)
            for linear in (module.attention.qkv, module.attention.out, module.widen, module.narrow):
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        *,
        causal: bool = False,
        key_mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """`causal`: position i sees positions ≤ i. `key_mask`: False hides a position from every query."""
        for block in self.blocks:
            x = block(x, causal=causal, key_mask=key_mask)
        return x
