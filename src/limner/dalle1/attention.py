"""The masks of `masks`, computed without what they hide.

Rows and convolutions: a block of W queries looks at its own block and the few before it that its offsets
reach. Columns: transposed, so that a column is one short causal sequence. Text and image scores meet in one
softmax, and no score of a pair further apart than a block is ever computed. Plain PyTorch on any device.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from limner.dalle1.masks import Kind, offsets


class SparseAttention(nn.Module):
    """One pattern, for T text positions and then as much of a W × W image as there is.

    It holds no parameters, so layers of one kind share it. Text comes whole; the image may end anywhere.
    """

    hidden: Tensor

    def __init__(self, kind: Kind, *, text: int, grid: int, kernel: int) -> None:
        super().__init__()
        self.kind = kind
        self.text = text
        self.grid = grid
        back = offsets(kind, grid=grid, kernel=kernel)
        # How many earlier blocks of W positions a block has to look at.
        self.reach = math.ceil(back[-1] / grid) if kind in ("row", "convolution") else 0
        hidden = torch.zeros(0, dtype=torch.bool)
        if kind == "column":
            hidden = torch.ones(grid, grid, dtype=torch.bool).triu(1)
        elif kind in ("row", "convolution"):
            queries = torch.arange(grid)[:, None]
            keys = torch.arange(-self.reach * grid, grid)[None, :]
            seen = torch.isin(queries - keys, torch.tensor(back))
            starts = torch.arange(grid)[:, None, None] * grid
            hidden = ~(seen & (starts + keys >= 0))
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(
        self, q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
    ) -> Float[Tensor, "b h n d"]:
        """Mix n ≥ T positions."""
        if self.kind == "dense":
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if q.shape[2] < self.text:
            raise ValueError(f"q: {q.shape[2]} positions, fewer than the {self.text} of the text")
        (text_q, image_q), (text_k, image_k), (text_v, image_v) = (
            x.tensor_split([self.text], dim=2) for x in (q, k, v)
        )
        text = F.scaled_dot_product_attention(text_q, text_k, text_v, is_causal=True)
        length = image_q.shape[2]
        if length == 0:
            return text
        # A last row that is short is filled up with positions that nobody looks at and nobody reads.
        missing = -length % self.grid
        image_q, image_k, image_v = (F.pad(x, (0, 0, 0, missing)) for x in (image_q, image_k, image_v))
        mix = self._columns if self.kind == "column" else self._band
        image = mix(image_q * q.shape[-1] ** -0.5, image_k, image_v, text_k, text_v)
        return torch.cat([text, image[:, :, :length]], dim=2)

    def _columns(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h n d"],
        v: Float[Tensor, "b h n d"],
        text_k: Float[Tensor, "b h t d"],
        text_v: Float[Tensor, "b h t d"],
    ) -> Float[Tensor, "b h n d"]:
        q, k, v = (rearrange(x, "b h (r c) d -> b h c r d", c=self.grid) for x in (q, k, v))
        rows = q.shape[3]
        y = one_softmax(q, k, v, text_k, text_v, self.hidden[:rows, :rows])
        return rearrange(y, "b h c r d -> b h (r c) d")

    def _band(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h n d"],
        v: Float[Tensor, "b h n d"],
        text_k: Float[Tensor, "b h t d"],
        text_v: Float[Tensor, "b h t d"],
    ) -> Float[Tensor, "b h n d"]:
        q, k, v = (rearrange(x, "b h (r w) d -> b h r w d", w=self.grid) for x in (q, k, v))
        k, v = (self._reached(x) for x in (k, v))
        y = one_softmax(q, k, v, text_k, text_v, self.hidden[: q.shape[2]])
        return rearrange(y, "b h r w d -> b h (r w) d")

    def _reached(self, x: Float[Tensor, "b h r w d"]) -> Float[Tensor, "b h r m d"]:
        """Every block behind the `reach` blocks before it, in order; zeros before the first."""
        rows = x.shape[2]
        padded = F.pad(x, (0, 0, 0, 0, self.reach, 0))
        return torch.cat([padded[:, :, back : back + rows] for back in range(self.reach + 1)], dim=3)


def one_softmax(
    q: Float[Tensor, "b h g w d"],
    k: Float[Tensor, "b h g m d"],
    v: Float[Tensor, "b h g m d"],
    text_k: Float[Tensor, "b h t d"],
    text_v: Float[Tensor, "b h t d"],
    hidden: Tensor,
) -> Float[Tensor, "b h g w d"]:
    """Every query looks at all of the text and at its own group's keys that are not hidden.

    Scores, not keys, are joined: joining keys would copy the text once for each group.
    """
    t, groups = text_k.shape[2], q.shape[2]
    to_text = rearrange(q, "b h g w d -> b h (g w) d") @ text_k.mT
    to_image = (q @ k.mT).masked_fill(hidden, -torch.inf)
    scores = torch.cat([rearrange(to_text, "b h (g w) t -> b h g w t", g=groups), to_image], dim=-1)
    # Half precision holds a score, not a sum of hundreds of exponentials.
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(dim=-1, dtype=exact).to(v.dtype)
    from_text = rearrange(weights[..., :t], "b h g w t -> b h (g w) t") @ text_v
    return rearrange(from_text, "b h (g w) d -> b h g w d", g=groups) + weights[..., t:] @ v
