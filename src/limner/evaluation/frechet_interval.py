"""How sure a Fréchet distance is: whole groups of paintings drawn again, and the distance of each sample.

A resample costs a decomposition. Of fewer pictures than features it is of their inner products, and quick; of
more it is of covariances, and fewer are drawn.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.evaluation.frechet import Gaussian, distance_through, square_root
from limner.evaluation.intervals import Estimate, around, redrawn
from limner.evaluation.moments import Moments

RESAMPLES, RESAMPLES_OF_MANY = 100, 20
# Rows that are taken in at once.
ROWS = 1000
# How often each row counts, of two rows or more → the distance of such a sample.
Distance: TypeAlias = Callable[[Int[Tensor, "n"]], float]


def frechet_estimate(
    real: Gaussian, painted: Float[Tensor, "n d"], groups: Sequence[str], *, seed: int
) -> Estimate:
    """The distance of `painted` from `real`, and the bootstrap's interval over groups of paintings.

    `real` is held: the interval is of what another sample of paintings, as large, might have scored.
    """
    if len(painted) != len(groups):
        raise ValueError(
            f"painted, groups: {len(painted)} rows and {len(groups)}; give the group of each row"
        )
    if len(painted) < 2:
        raise ValueError(f"painted: {len(painted)} rows, a covariance needs at least two")
    few = len(painted) <= painted.shape[1]
    distance = (through_products if few else through_covariances)(real, painted)
    value = distance(torch.ones(len(painted), dtype=torch.int64))
    drawn = redrawn(groups, resamples=RESAMPLES if few else RESAMPLES_OF_MANY, seed=seed)
    return around(value, [distance(torch.from_numpy(one)) for one in drawn], len(painted))


def through_products(real: Gaussian, painted: Float[Tensor, "n d"]) -> Distance:
    """Through inner products of rows: (n, n) matrices, however many features.

    With the rows A of a centred cloud over √(n - 1), Σ₂ = AᵀA, and Σ₁Σ₂ has the eigenvalues of A Σ₁ Aᵀ.
    """
    mean = painted.double().mean(dim=0)
    x, away = painted.double() - mean, real.mean - mean
    products, through, along = x @ x.T, x @ real.covariance @ x.T, x @ away

    def distance(times: Int[Tensor, "n"]) -> float:
        weights = times.double()
        total = float(weights.sum())
        share = weights / total
        rows = share > 0
        moved = share @ products @ share
        apart = away.square().sum() - 2 * share @ along + moved
        own = (weights @ products.diagonal() - total * moved) / (total - 1)
        # Centred on the resample's mean: (I - 1pᵀ) K (I - p1ᵀ).
        toward = through @ share
        inner = through - toward[:, None] - toward[None, :] + share @ toward
        root = (weights / (total - 1)).sqrt()
        inner = (root[:, None] * inner * root[None, :])[rows][:, rows]
        overlap = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
        return max(0.0, float(apart + real.covariance.trace() + own - 2 * overlap))

    return distance


def through_covariances(real: Gaussian, painted: Float[Tensor, "n d"]) -> Distance:
    """Through covariances, (d, d), of a few rows at a time, however many rows."""
    known = square_root(real.covariance)

    def distance(times: Int[Tensor, "n"]) -> float:
        moments = Moments(painted.shape[1])
        for rows, often in zip(painted.split(ROWS), times.split(ROWS), strict=True):
            moments.add(rows.repeat_interleave(often, dim=0))
        return distance_through(known, real, moments.gaussian())

    return distance
