"""Keys and values of the rows read so far, in memory that is reserved once.

`step` is called once a layer and token, where every call into PyTorch counts: it reshapes with plain views.
"""

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Cache(Protocol):
    """One layer's memory: it takes the rows that follow, and lets them look at those before."""

    def attend(
        self, q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
    ) -> Float[Tensor, "b h n d"]:
        """Remember n more rows and mix them with all that they may see."""
        ...

    def step(self, qkv: Float[Tensor, "b w3"]) -> Float[Tensor, "b w"]:
        """`attend` for a single row, straight from the fused projection [q | k | v], heads side by side."""
        ...


class DenseCache:
    """Every row sees itself and all rows before it. Room for `length` rows, in one tensor."""

    def __init__(
        self, *, batch: int, heads: int, length: int, size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.length = length
        self.past = 0
        # Keys and values side by side, so that a new row is written with one copy.
        self.rows = torch.zeros(batch, 2, heads, length, size, dtype=dtype, device=device)
        self.keys, self.values = self.rows[:, 0], self.rows[:, 1]
        self.fused = (batch, 3, heads, size)
        self.width = heads * size

    def _claim(self, n: int) -> tuple[int, int]:
        """Where the next n rows begin and end."""
        start, end = self.past, self.past + n
        if end > self.length:
            raise ValueError(f"rows: {n} more after {start}, but there is room for {self.length} in all")
        self.past = end
        return start, end

    def attend(
        self, q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
    ) -> Float[Tensor, "b h n d"]:
        """Remember n more rows; row i of them sees all earlier ones and the first i + 1 of these."""
        n = q.shape[2]
        start, end = self._claim(n)
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        if start == 0:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        seen = torch.ones(n, end, dtype=torch.bool, device=q.device).tril(start)
        return F.scaled_dot_product_attention(
            q, self.keys[:, :, :end], self.values[:, :, :end], attn_mask=seen
        )

    def step(self, qkv: Float[Tensor, "b w3"]) -> Float[Tensor, "b w"]:
        """`attend` for one row: a copy and an attention without a mask."""
        start, end = self._claim(1)
        fused = qkv.view(self.fused)
        self.rows.select(3, start).copy_(fused.narrow(1, 1, 2))
        q = fused.select(1, 0).unsqueeze(2)
        y = F.scaled_dot_product_attention(q, self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end))
        return y.reshape(-1, self.width)
