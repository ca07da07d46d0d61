"""What DALL-E mini's two halves are made of: attention and a gated unit, no bias in either, normed twice.

NormFormer (Shleifer et al. 2021): what leaves the attention, and what is within the unit, is normed as well
as what goes in.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limner.layers.transformer import Attend

# Keys and values of what is looked at, (B, heads, N, d) each.
Remembered = tuple[Tensor, Tensor]
causal: Callable[[Tensor, Tensor, Tensor], Tensor] = partial(F.scaled_dot_product_attention, is_causal=True)


def seeing(mask: Bool[Tensor, "b n"]) -> Attend:
    """Every query looks at all positions that are True."""
    return partial(F.scaled_dot_product_attention, attn_mask=rearrange(mask, "b n -> b 1 1 n"))


class Attention(nn.Module):
    """Multi-head attention without biases, of a sequence to itself or to one that is remembered."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: {heads} does not divide the width {width}")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def split(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b h n d"]:
        """Heads apart."""
        return rearrange(x, "b n (h d) -> b h n d", h=self.heads)

    def remember(self, x: Float[Tensor, "b n w"]) -> Remembered:
        """Keys and values of a sequence."""
        return self.split(self.key(x)), self.split(self.value(x))

    def forward(
        self, x: Float[Tensor, "b n w"], *, attend: Attend, memory: Remembered | None = None
    ) -> Float[Tensor, "b n w"]:
        """Mix the rows of `memory`, or of x itself where there is none; `attend` decides who sees whom."""
        keys, values = self.remember(x) if memory is None else memory
        return self.out(rearrange(attend(self.split(self.query(x)), keys, values), "b h n d -> b n (h d)"))


class GatedUnit(nn.Module):
    """narrow(norm(gelu(gate·x) × widen·x)) of a normed x: GEGLU (Shazeer 2020) with a norm inside."""

    def __init__(self, *, width: int, hidden: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.widen = nn.Linear(width, hidden, bias=False)
        self.norm_hidden = nn.LayerNorm(hidden)
        self.narrow = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Each row for itself."""
        x = self.norm_in(x)
        return self.narrow(self.norm_hidden(F.gelu(self.gate(x)) * self.widen(x)))


class EncoderBlock(nn.Module):
    """x += norm(attention(norm(x))); x += unit(x)."""

    def __init__(self, *, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width=width, heads=heads)
        self.norm_attended = nn.LayerNorm(width)
        self.unit = GatedUnit(width=width, hidden=hidden)

    def forward(self, x: Float[Tensor, "b n w"], *, attend: Attend) -> Float[Tensor, "b n w"]:
        """`attend` hides the padding."""
        x = x + self.norm_attended(self.attention(self.norm_attention(x), attend=attend))
        return x + self.unit(x)


class DecoderBlock(nn.Module):
    """As the encoder's, and in between the caption is looked at in the same way."""

    def __init__(self, *, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width=width, heads=heads)
        self.norm_attended = nn.LayerNorm(width)
        self.norm_reading = nn.LayerNorm(width)
        self.reading = Attention(width=width, heads=heads)
        self.norm_read = nn.LayerNorm(width)
        self.unit = GatedUnit(width=width, hidden=hidden)

    def forward(
        self, x: Float[Tensor, "b n w"], *, attend: Attend, caption: Remembered, visible: Attend
    ) -> Float[Tensor, "b n w"]:
        """`attend`: among the image's rows; `visible`: of the caption, whose keys and values are given."""
        x = x + self.norm_attended(self.attention(self.norm_attention(x), attend=attend))
        x = x + self.norm_read(self.reading(self.norm_reading(x), attend=visible, memory=caption))
        return x + self.unit(x)
