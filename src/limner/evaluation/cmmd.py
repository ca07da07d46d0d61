"""CMMD: how far two clouds of CLIP embeddings are apart, with no Gaussian assumed.

Jayasumana et al. 2024, "Rethinking FID: Towards a Better Evaluation Metric for Image Generation", section 4:
the squared maximum mean discrepancy of unit embeddings with the kernel exp(-‖x - y‖² / 2σ²), σ = 10, times
1000. As in the authors' code it is the estimate that compares each row with itself as well, which is never
below 0 and from few pictures too large. Their embeddings are those of CLIP ViT-L/14 at 336 pixels; those of
another CLIP give other numbers, which compare among themselves only.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.evaluation.intervals import RESAMPLES, Estimate, around, cells

SIGMA = 10.0
SCALE = 1000.0
BLOCK = 2048
# Groups are drawn again by sums over pairs of them, of which this many are at most kept apart.
MOST_CELLS = 500


def cmmd(real: Float[Tensor, "n d"], painted: Float[Tensor, "m d"]) -> float:
    """1000 · MMD² of the rows as they are: give unit embeddings."""
    _refuse_few(real, painted)
    one = torch.zeros(len(real), dtype=torch.int64), torch.zeros(len(painted), dtype=torch.int64)
    within = [
        kernel_sums(x, x, of, of, 1, 1) / len(x) ** 2 for x, of in zip((real, painted), one, strict=True)
    ]
    between = kernel_sums(real, painted, *one, 1, 1) / (len(real) * len(painted))
    return SCALE * float(within[0] + within[1] - 2 * between)


def cmmd_estimate(
    real: Float[Tensor, "n d"], painted: Float[Tensor, "m d"], groups: Sequence[str], *, seed: int
) -> Estimate:
    """The same, and the bootstrap's interval over groups of paintings; `real` is held."""
    _refuse_few(real, painted)
    if len(painted) != len(groups):
        raise ValueError(
            f"painted, groups: {len(painted)} rows and {len(groups)}; give the group of each row"
        )
    of, count = cells(groups, MOST_CELLS)
    places, alone = torch.from_numpy(of), torch.zeros(len(real), dtype=torch.int64)
    own = float(kernel_sums(real, real, alone, alone, 1, 1)) / len(real) ** 2
    within = kernel_sums(painted, painted, places, places, count, count).numpy()
    between = kernel_sums(real, painted, alone, places, 1, count).numpy()[0] / len(real)
    sizes = np.bincount(of, minlength=count).astype(np.float64)

    def value(weights: np.ndarray) -> float:
        rows = weights @ sizes
        return SCALE * float(own + weights @ within @ weights / rows**2 - 2 * weights @ between / rows)

    stream = np.random.default_rng(seed)
    drawn = (stream.multinomial(count, np.full(count, 1 / count)) for _ in range(RESAMPLES))
    return around(value(np.ones(count)), [value(one.astype(np.float64)) for one in drawn], len(painted))


def kernel_sums(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    of_x: Int[Tensor, "n"],
    of_y: Int[Tensor, "m"],
    count_x: int,
    count_y: int,
) -> Float[Tensor, "p q"]:
    """The kernel of every row of x with every row of y, summed over the rows of each pair of cells.

    `of_x` and `of_y`: the cell of each row, below `count_x` and `count_y`. A block of rows at a time.
    """
    found = torch.zeros(count_x, count_y, dtype=torch.float64)
    for rows, theirs in zip(x.split(BLOCK), of_x.split(BLOCK), strict=True):
        across = torch.zeros(len(rows), count_y, dtype=torch.float64)
        for others, ours in zip(y.split(BLOCK), of_y.split(BLOCK), strict=True):
            across.index_add_(1, ours, kernel(rows.double(), others.double()))
        found.index_add_(0, theirs, across)
    return found


def kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """exp(-‖x - y‖² / 2σ²)."""
    apart = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)[None, :] - 2 * x @ y.T
    return torch.exp(-apart / (2 * SIGMA**2))


def _refuse_few(real: Float[Tensor, "n d"], painted: Float[Tensor, "m d"]) -> None:
    if not len(real) or not len(painted):
        raise ValueError(f"real and painted: {len(real)} and {len(painted)} rows, at least one of each")
