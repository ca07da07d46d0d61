"""Who sees whom: DALL-E 1's four attention patterns, and the order of its layers.

A sequence is T text positions, then an image of W rows of W positions. Text sees text, causally. An image
position sees all of the text, and of the image:

- row: itself and the W positions before it in raster order, around the ends of rows;
- column: itself and those above it;
- convolution: the causal half of a kernel, which also reaches around the ends of rows;
- dense: itself and all before it (not in the paper; what the others are measured against).

Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation", section 2.2 and appendix B.1.
"""

from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

Kind = Literal["row", "column", "convolution", "dense"]


def published_order(layers: int) -> tuple[Kind, ...]:
    """The kind of layer i, from 1: column where (i - 2) mod 4 = 0, else row; the last is the convolution.

    Of the paper's 64 layers 47 are row, 16 column, 1 convolution.
    """
    return tuple(
        "convolution" if i == layers else "column" if (i - 2) % 4 == 0 else "row"
        for i in range(1, layers + 1)
    )


def offsets(kind: Kind, *, grid: int, kernel: int) -> tuple[int, ...]:
    """How far back in raster order an image position looks, smallest first, as far as the image begins.

    The kernel's cell dr rows up and dc columns left is W·dr + dc back, whichever row that falls in.
    """
    if kind == "row":
        return tuple(range(grid + 1))
    if kind == "column":
        return tuple(range(0, grid**2, grid))
    if kind == "dense":
        return tuple(range(grid**2))
    reach = kernel // 2
    cells = (grid * dr + dc for dr in range(reach + 1) for dc in range(-reach, reach + 1))
    return tuple(sorted({back for back in cells if 0 <= back < grid**2}))


def mask(kind: Kind, *, text: int, grid: int, kernel: int) -> Bool[Tensor, "n n"]:
    """The whole pattern over T + W² positions: True where the row's position sees the column's.

    This is the definition; `attention` computes the same without ever making it.
    """
    n = text + grid**2
    back = torch.arange(n)[:, None] - torch.arange(n)[None, :]
    seen = torch.isin(back, torch.tensor(offsets(kind, grid=grid, kernel=kernel)))
    seen[:text] = back[:text] >= 0
    seen[text:, :text] = True
    return seen
