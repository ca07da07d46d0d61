"""How far painted pictures are from real ones, as clouds of features: Fréchet and kernel distance.

Both are zero when the two clouds are alike. The Fréchet distance compares means and covariances, and from few
pictures it comes out too large (there are 1280 variances to estimate); the kernel distance has no such bias,
and comes with a standard error. So read them side by side, and beside the same number for two sets of real
pictures.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SUBSETS = 100
SUBSET = 1000


@dataclass(frozen=True)
class Gaussian:
    """The mean (d,) and covariance (d, d) of a cloud of features, float64."""

    mean: Tensor
    covariance: Tensor


def gaussian(features: Float[Tensor, "n d"]) -> Gaussian:
    """The Gaussian of this cloud; covariance with n - 1 and no shrinkage."""
    if len(features) < 2:
        raise ValueError(f"features: {len(features)} rows, a covariance needs at least two")
    x = features.double()
    centred = x - x.mean(dim=0)
    return Gaussian(x.mean(dim=0), centred.T @ centred / (len(x) - 1))


def frechet_distance(real: Gaussian, painted: Gaussian) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½): Heusel et al. 2017, eq. 6 (Dowson & Landau 1982)."""
    if real.mean.shape != painted.mean.shape:
        raise ValueError(
            f"painted: {len(painted.mean)} features, real: {len(real.mean)}; take both from one network"
        )
    return distance_through(square_root(real.covariance), real, painted)


def distance_through(root: Float[Tensor, "d d"], real: Gaussian, painted: Gaussian) -> float:
    """The same of several from one `real`, the root of whose covariance, which costs most, is known."""
    apart = (real.mean - painted.mean).square().sum()
    # Σ₁Σ₂ has the eigenvalues of √Σ₁ Σ₂ √Σ₁, which is symmetric: no complex numbers, no iteration.
    inner = root @ painted.covariance @ root
    overlap = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    distance = apart + real.covariance.trace() + painted.covariance.trace() - 2 * overlap
    return max(0.0, float(distance))


def square_root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The positive semi-definite square root of a symmetric matrix; rounding below zero counts as zero."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


@dataclass(frozen=True)
class KernelDistance:
    """A squared distance (which chance may put below zero) and its standard error."""

    value: float
    error: float


def kernel_distance(
    real: Float[Tensor, "n d"],
    painted: Float[Tensor, "m d"],
    *,
    seed: int,
    subset: int = SUBSET,
    subsets: int = SUBSETS,
) -> KernelDistance:
    """Mean unbiased MMD² over random subsets, kernel (x·y/d + 1)³: Bińkowski et al. 2018, section 3.1.

    Subsets have `subset` rows of each side, or as many as the smaller side has. The error is the standard
    deviation over the subsets: how far another such subset might be off.
    """
    size = min(subset, len(real), len(painted))
    if size < 2:
        raise ValueError(f"real and painted: {len(real)} and {len(painted)} rows, at least two of each")
    stream = torch.Generator().manual_seed(seed)
    x, y = real.double(), painted.double()
    values = []
    for _ in range(subsets):
        rows = torch.randperm(len(x), generator=stream)[:size]
        others = torch.randperm(len(y), generator=stream)[:size]
        values.append(unbiased_mmd(x[rows], y[others]))
    found = torch.stack(values)
    return KernelDistance(float(found.mean()), float(found.std()))


def unbiased_mmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """The unbiased estimate of MMD²: Gretton et al. 2012, eq. 3. No row is compared with itself."""
    n, m = len(x), len(y)
    within_x, within_y = kernel(x, x), kernel(y, y)
    return (
        (within_x.sum() - within_x.trace()) / (n * (n - 1))
        + (within_y.sum() - within_y.trace()) / (m * (m - 1))
        - 2 * kernel(x, y).mean()
    )


def kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """(x·y/d + 1)³."""
    return (x @ y.T / x.shape[1] + 1) ** 3
