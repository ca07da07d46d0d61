"""Is it real, and is all that is real there? Precision and recall of clouds of features; and their spread.

Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models", section 2: a
cloud is taken for the union of balls around its points, each as large as the distance to the k-th nearest
neighbour. From few pictures both come out small; they compare settings, not papers.

The real pictures are held, as they are for Fréchet distances: everybody is compared with the same ones, and
an interval is of what other paintings would have scored. For the precision paintings are drawn again like any
other rows; for the recall, where they are the cloud, see `recall_estimate`.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from limner.evaluation.intervals import Estimate, Z, around, score

K = 3
# Halves of the paintings that the interval of the recall is of.
HALVES = 20
# Rows whose distances are held at once: a block takes a few dozen megabytes.
BLOCK = 1024
# Below this two points are one.
TINY = 1e-12


def covered(cloud: Float[Tensor, "n d"], points: Float[Tensor, "m d"], *, k: int = K) -> Bool[Tensor, "m"]:
    """Which `points` lie in a ball around one of the `cloud`.

    With real features for the cloud and painted ones for the points their share is the precision; the other
    way round the recall. Raises ValueError for a cloud of k points or fewer.
    """
    if len(cloud) <= k:
        raise ValueError(f"cloud: {len(cloud)} points, and their neighbour number {k} is asked for")
    radii = reach(cloud, k=k)
    inside = torch.zeros(len(points), dtype=torch.bool)
    for start in range(0, len(points), BLOCK):
        some = points[start : start + BLOCK].double()
        hit = torch.zeros(len(some), dtype=torch.bool)
        for centres, wide in zip(cloud.split(BLOCK), radii.split(BLOCK), strict=True):
            hit |= (torch.cdist(some, centres.double()) <= wide).any(dim=1)
        inside[start : start + BLOCK] = hit
    return inside


def recall_estimate(painted: Float[Tensor, "n d"], real: Float[Tensor, "m d"], *, seed: int) -> Estimate:
    """The share of `real` that the cloud of `painted` covers, and its interval over paintings.

    One row of `painted` for each prompt. A row drawn twice would be its own neighbour and its ball a point,
    so that nothing is drawn with replacement: halves scatter around their mean as far as wholes do around
    theirs, for a half varies twice as much and shares a half with the whole (Shao & Wu 1989, the delete-d
    jackknife with d = n/2; Politis & Romano 1994). Of fewer than two times K + 1 prompts, or where all halves
    agree, it is Wilson's interval of as many trials as there are prompts. ValueError for fewer than two.
    """
    n = len(painted)
    if n < 2:
        raise ValueError(f"painted: {n} rows, of which none has a neighbour; give two at least")
    value = _share(painted, real, k=min(K, n - 1))
    low, high = score(value, float(n), Z)
    if n >= 2 * (K + 1):
        stream = np.random.default_rng(seed)
        halves = [_share(painted[stream.permutation(n)[: n // 2]], real, k=K) for _ in range(HALVES)]
        if len(set(halves)) > 1:
            found = around(value, halves, n)
            low, high = max(0.0, found.low), min(1.0, found.high)
    return Estimate(value=value, low=low, high=high, total=n)


def _share(cloud: Float[Tensor, "n d"], points: Float[Tensor, "m d"], *, k: int) -> float:
    return float(covered(cloud, points, k=k).double().mean())


def reach(cloud: Float[Tensor, "n d"], *, k: int = K) -> Float[Tensor, "n"]:
    """How far each point's k-th nearest neighbour is, itself not counted. A block of distances at a time."""
    found = []
    for some in cloud.split(BLOCK):
        nearest = torch.empty(len(some), 0, dtype=torch.float64)
        for others in cloud.split(BLOCK):
            apart = torch.cat([nearest, torch.cdist(some.double(), others.double())], dim=1)
            nearest = apart.topk(min(k + 1, apart.shape[1]), dim=1, largest=False).values
        # The nearest to each point is itself.
        found.append(nearest[:, -1])
    return torch.cat(found)


def realism(cloud: Float[Tensor, "n d"], points: Float[Tensor, "m d"], *, k: int = K) -> Float[Tensor, "m"]:
    """How real each point looks: above 1 inside a ball, the less the farther away; equation 3 of the paper.

    The largest ratio of a ball's reach to the distance from its centre. As there, the wider half of the balls
    is left out, for a lone point's ball is so large that anything lies in it.
    """
    radii = reach(cloud, k=k)
    kept = radii <= radii.median()
    centres, radii = cloud[kept], radii[kept]
    found = []
    for some in points.split(BLOCK):
        best = torch.zeros(len(some), dtype=torch.float64)
        for others, wide in zip(centres.split(BLOCK), radii.split(BLOCK), strict=True):
            apart = torch.cdist(some.double(), others.double()).clamp(min=TINY)
            best = torch.maximum(best, (wide / apart).max(dim=1).values)
        found.append(best)
    return torch.cat(found)


def spread(features: Float[Tensor, "n d"], groups: Sequence[str]) -> list[float]:
    """For each group of two rows or more, the mean cosine distance between its rows; 0 for copies."""
    unit = F.normalize(features.double(), dim=1)
    places: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        places.setdefault(group, []).append(row)
    found = []
    for mine in places.values():
        rows = unit[mine]
        n = len(rows)
        if n > 1:
            apart = 1 - rows @ rows.T
            found.append(float(apart.triu(1).sum() / (n * (n - 1) / 2)))
    return found
