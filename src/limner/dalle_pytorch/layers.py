"""What DALLE-pytorch's transformer is made of: who sees whom, how far places turn, what is shifted."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

Kind = Literal["dense", "row", "column", "window", "centred"]
# Side of a window of image positions.
WINDOW = 5
# Where each kind of place is put on the other's axes: far away.
FAR_TEXT, FAR_IMAGE = 8192.0, -10.0
FASTEST = 5.0


def visible(kind: Kind, *, text: int, grid: int) -> Bool[Tensor, "n n"]:
    """True where the row's position sees the column's, of T text positions and then a W × W image.

    All see what came before them in the text. Of the image, dense: all before; row, column: those before in
    the same; window: the 5 × 5 positions of which this one is the last, so none to the right; centred: those
    before in the 5 × 5 around it.
    """
    n = text + grid**2
    before = torch.ones(n, n, dtype=torch.bool).tril()
    if kind == "dense":
        return before
    rows, columns = torch.arange(grid**2) // grid, torch.arange(grid**2) % grid
    up = rows[:, None] - rows[None, :]
    left = columns[:, None] - columns[None, :]
    near = {
        "row": up == 0,
        "column": left == 0,
        "window": (up >= 0) & (up < WINDOW) & (left >= 0) & (left < WINDOW),
        "centred": (up.abs() <= WINDOW // 2) & (left.abs() <= WINDOW // 2),
    }[kind]
    before[text:, text:] &= near
    return before


def angles(*, text: int, grid: int, head_width: int) -> Float[Tensor, "n d"]:
    """By how much every position turns the first dimensions of a head: a third each by text, row and column.

    Text counts by 10⁻⁴ to a power (Su et al. 2021); rows and columns lie in [-1, 1], at π to 5π. What is no
    text stands at 8192 in it, and what is no image at -10.
    """
    third = head_width // 3
    words = 10_000 ** (-torch.arange(0, third - third % 2, 2) / third)
    cells = math.pi * torch.linspace(1, FASTEST, third // 2)
    side = torch.linspace(-1, 1, grid)
    image = [repeat(side, "r -> (r c)", c=grid), repeat(side, "c -> (r c)", r=grid)]
    place = torch.stack(
        [
            torch.cat([torch.arange(text).float(), torch.full((grid**2,), FAR_TEXT)]),
            *(torch.cat([torch.full((text,), FAR_IMAGE), one]) for one in image),
        ]
    )
    turns = torch.cat([place[0, :, None] * words, *(axis[:, None] * cells for axis in place[1:])], dim=-1)
    return repeat(turns, "n d -> n (d two)", two=2)


def turned(x: Float[Tensor, "*b n d"], angles: Float[Tensor, "n a"]) -> Float[Tensor, "*b n d"]:
    """Turn the first A dimensions, in pairs of neighbours."""
    inside, outside = x.tensor_split([angles.shape[1]], dim=-1)
    even, odd = rearrange(inside, "... (d two) -> two ... d", two=2)
    across = rearrange([-odd, even], "two ... d -> ... (d two)")
    return torch.cat([inside * angles.cos() + across * angles.sin(), outside], dim=-1)


def shifted(x: Float[Tensor, "b n w"], *, text: int, grid: int) -> Float[Tensor, "b n w"]:
    """Half of a text row comes from the one before; of an image row, quarters from above and the left."""
    words, image = x.tensor_split([text], dim=1)
    late, own = words.chunk(2, dim=-1)
    words = torch.cat([F.pad(late, (0, 0, 1, -1)), own], dim=-1)
    above, left, *rest = image.chunk(4, dim=-1)
    above = F.pad(above, (0, 0, grid, 0))[:, : image.shape[1]]
    left = F.pad(left, (0, 0, 1, 0))[:, : image.shape[1]]
    first = torch.arange(image.shape[1], device=x.device) % grid == 0
    left = left.masked_fill(first[:, None], 0)
    return torch.cat([words, torch.cat([above, left, *rest], dim=-1)], dim=1)


class Attention(nn.Module):
    """Multi-head, with biases where it ends; queries, keys and values are all turned by where they stand."""

    def __init__(self, *, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        *,
        seen: Bool[Tensor, "n n"],
        angles: Float[Tensor, "n a"] | None,
    ) -> Float[Tensor, "b n w"]:
        """`seen`: who sees whom."""
        qkv = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        q, k, v = qkv if angles is None else turned(qkv, angles)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out(rearrange(y, "b h n d -> b n (h d)"))


class GatedUnit(nn.Module):
    """narrow(a · gelu(b)), a and b side by side from one layer (Shazeer 2020)."""

    def __init__(self, *, width: int, hidden: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, 2 * hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Each row for itself."""
        value, gate = self.widen(x).chunk(2, dim=-1)
        return self.narrow(value * F.gelu(gate))
