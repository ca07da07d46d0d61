"""How sure a Fréchet distance is: whole groups of paintings drawn again, and the distance of each sample.

A resample costs a decomposition. Of fewer pictures than features it is of their inner products, and quick; of
more it is of covariances, and fewer are drawn.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from limner.evaluation.frechet import Gaussian, distance_through, frechet_distance, gaussian, square_root
from limner.evaluation.intervals import Estimate, around, redrawn
from limner.evaluation.moments import Moments

RESAMPLES, RESAMPLES_OF_MANY = 100, 20
# Rows that are taken in at once.
ROWS = 1000


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
    value = frechet_distance(real, gaussian(painted))
    of = _of_few if len(painted) <= painted.shape[1] else _of_many
    return around(value, list(of(real, painted, groups, seed=seed)), len(painted))


def _of_few(
    real: Gaussian, painted: Float[Tensor, "n d"], groups: Sequence[str], *, seed: int
) -> Iterator[float]:
    """Distances of resamples through inner products of rows: (n, n) matrices, however many features.

    With the rows A of a centred cloud over √(n - 1), Σ₂ = AᵀA, and Σ₁Σ₂ has the eigenvalues of A Σ₁ Aᵀ.
    """
    x = painted.double() - painted.double().mean(dim=0)
    away = real.mean - painted.double().mean(dim=0)
    products, through, along = x @ x.T, x @ real.covariance @ x.T, x @ away
    for drawn in redrawn(groups, resamples=RESAMPLES, seed=seed):
        weights = torch.from_numpy(drawn).double()
        total = float(weights.sum())
        if total < 2:
            continue
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
        yield max(0.0, float(apart + real.covariance.trace() + own - 2 * overlap))


def _of_many(
    real: Gaussian, painted: Float[Tensor, "n d"], groups: Sequence[str], *, seed: int
) -> Iterator[float]:
    """The same through covariances, (d, d), a few rows at a time, however many rows."""
    root = square_root(real.covariance)
    for drawn in redrawn(groups, resamples=RESAMPLES_OF_MANY, seed=seed):
        moments = Moments(painted.shape[1])
        weights = torch.from_numpy(drawn)
        for rows, times in zip(painted.split(ROWS), weights.split(ROWS), strict=True):
            moments.add(rows.repeat_interleave(times, dim=0))
        if moments.count > 1:
            yield distance_through(root, real, moments.gaussian())
