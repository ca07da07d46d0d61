"""Memories of a sequence, one for each attention pattern: a step reads only what its pattern lets it see.

What a step looks at lies side by side: the text, then the few image positions in sight. Attention does not
care in what order keys lie, so a row's window is a ring, in which the newest takes the oldest's place.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.autoregression import Cache, DenseCache
from limner.dalle1.attention import SparseAttention
from limner.dalle1.masks import offsets
from limner.dalle1.model import Dalle1, Dalle1Config
from limner.layers.transformer import Block


class SparseCache:
    """What the patterns share: text and as much image as is given in one pass, then one position at a time.

    `near`: keys and values that the next position looks at, (B, 2, heads, T + those of the image, d).
    """

    def __init__(
        self, attention: SparseAttention, like: Tensor, *, batch: int, heads: int, seen: int
    ) -> None:
        self.attention = attention
        self.text = attention.text
        self.image = attention.grid**2
        self.past = 0
        self.width = like.shape[1]
        self.fused = (batch, 3, heads, self.width // heads)
        self.near = self.reserve(like, self.text + seen)

    def reserve(self, like: Tensor, *length: int) -> Tensor:
        """Room for keys and values, (B, 2, heads, *length, d), like the weights in dtype and place."""
        batch, _, heads, size = self.fused
        return like.new_zeros(batch, 2, heads, *length, size)

    def attend(
        self, q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
    ) -> Float[Tensor, "b h n d"]:
        """Read the text and the first n - T image positions."""
        if self.past:
            raise ValueError(f"q: {q.shape[2]} positions at once after {self.past}; go on one by one")
        y: Tensor = self.attention(q, k, v)
        rows = torch.stack([k, v], dim=1)
        self.near[:, :, :, : self.text] = rows[:, :, :, : self.text]
        for row in rows[:, :, :, self.text :].unbind(3):
            self.write(row)
        return y

    def step(self, qkv: Float[Tensor, "b w3"]) -> Float[Tensor, "b w"]:
        """Read one image position more."""
        fused = qkv.view(self.fused)
        near = self.look(fused.narrow(1, 1, 2))
        q = fused.select(1, 0).unsqueeze(2)
        y = F.scaled_dot_product_attention(q, near.select(1, 0), near.select(1, 1))
        return y.reshape(-1, self.width)

    def nearest(self, seen: int) -> Tensor:
        """The text and the first `seen` image positions in sight."""
        return self.near.narrow(3, 0, self.text + seen)

    def claim(self) -> int:
        """The number of the image position that comes next."""
        if self.past == self.image:
            raise ValueError(f"qkv: the image has {self.image} positions, and all have been read")
        self.past += 1
        return self.past - 1

    def write(self, row: Float[Tensor, "b 2 h d"]) -> int:
        """Remember the keys and values of the next image position; its number."""
        raise NotImplementedError

    def look(self, row: Float[Tensor, "b 2 h d"]) -> Tensor:
        """Remember the next image position, and lay out what it sees."""
        raise NotImplementedError


class RowCache(SparseCache):
    """The last W + 1 positions, in a ring."""

    def __init__(self, attention: SparseAttention, like: Tensor, *, batch: int, heads: int) -> None:
        self.ring = attention.grid + 1
        super().__init__(attention, like, batch=batch, heads=heads, seen=self.ring)

    def write(self, row: Float[Tensor, "b 2 h d"]) -> int:
        """In the oldest's place."""
        p = self.claim()
        self.near.select(3, self.text + p % self.ring).copy_(row)
        return p

    def look(self, row: Float[Tensor, "b 2 h d"]) -> Tensor:
        """The ring, as far as it is filled."""
        p = self.write(row)
        return self.near if p + 1 >= self.ring else self.nearest(p + 1)


class ColumnCache(SparseCache):
    """All columns; the one that is being read lies by the text."""

    def __init__(self, attention: SparseAttention, like: Tensor, *, batch: int, heads: int) -> None:
        super().__init__(attention, like, batch=batch, heads=heads, seen=attention.grid)
        self.grid = attention.grid
        self.columns = self.reserve(like, self.grid, self.grid)

    def write(self, row: Float[Tensor, "b 2 h d"]) -> int:
        """Below those of its column."""
        p = self.claim()
        self.columns[:, :, :, p % self.grid, p // self.grid] = row
        return p

    def look(self, row: Float[Tensor, "b 2 h d"]) -> Tensor:
        """Its column so far."""
        p = self.write(row)
        seen = p // self.grid + 1
        column = self.columns.select(3, p % self.grid).narrow(3, 0, seen)
        self.near.narrow(3, self.text, seen).copy_(column)
        return self.nearest(seen)


class ConvolutionCache(SparseCache):
    """The whole image; the cells of the window are gathered beside the text."""

    def __init__(
        self, attention: SparseAttention, like: Tensor, *, batch: int, heads: int, kernel: int
    ) -> None:
        back = offsets("convolution", grid=attention.grid, kernel=kernel)
        super().__init__(attention, like, batch=batch, heads=heads, seen=len(back))
        self.rows = self.reserve(like, self.image)
        steps = torch.tensor(back, device=like.device)
        self.windows = [p - steps[: sum(o <= p for o in back)] for p in range(self.image)]

    def write(self, row: Float[Tensor, "b 2 h d"]) -> int:
        """In raster order."""
        p = self.claim()
        self.rows.select(3, p).copy_(row)
        return p

    def look(self, row: Float[Tensor, "b 2 h d"]) -> Tensor:
        """The cells of its window."""
        window = self.windows[self.write(row)]
        seen = len(window)
        self.near.narrow(3, self.text, seen).copy_(self.rows.index_select(3, window))
        return self.nearest(seen)


def caches(model: Dalle1, batch: int) -> list[Cache]:
    """An empty memory for each layer, in the dtype and place of the model's weights."""
    config, made = model.config, list[Cache]()
    for block, kind in zip(model.transformer.blocks, config.pattern, strict=True):
        assert isinstance(block, Block)
        like, heads, attention = block.attention.qkv.weight, config.heads, model.attention[kind]
        assert isinstance(attention, SparseAttention)
        if kind == "row":
            made.append(RowCache(attention, like, batch=batch, heads=heads))
        elif kind == "column":
            made.append(ColumnCache(attention, like, batch=batch, heads=heads))
        elif kind == "convolution":
            made.append(ConvolutionCache(attention, like, batch=batch, heads=heads, kernel=config.kernel))
        else:
            length, size = config.text_context + config.image, config.width // heads
            made.append(
                DenseCache(
                    batch=batch, heads=heads, length=length, size=size, dtype=like.dtype, device=like.device
                )
            )
    return made


def cache_bytes(config: Dalle1Config, dtype: torch.dtype) -> int:
    """Memory that the caches of one sequence take; guidance makes two sequences of one picture."""
    text, grid = config.text_context, config.grid
    rows = {
        "row": text + grid + 1,
        "column": text + grid + config.image,
        "convolution": text + len(offsets("convolution", grid=grid, kernel=config.kernel)) + config.image,
        "dense": text + config.image,
    }
    return 2 * config.width * dtype.itemsize * sum(rows[kind] for kind in config.pattern)
