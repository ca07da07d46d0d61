"""Is it real, and is all that is real there? Precision and recall of clouds of features; and their spread.

Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models", section 2: a
cloud is taken for the union of balls around its points, each as large as the distance to the k-th nearest
neighbour. From few pictures both come out small; they compare settings, not papers.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

K = 3


def covered(cloud: Float[Tensor, "n d"], points: Float[Tensor, "m d"], *, k: int = K) -> Bool[Tensor, "m"]:
    """Which `points` lie in a ball around one of the `cloud`.

    With real features for the cloud and painted ones for the points their share is the precision; the other
    way round the recall. Raises ValueError for a cloud of k points or fewer.
    """
    if len(cloud) <= k:
        raise ValueError(f"cloud: {len(cloud)} points, and their neighbour number {k} is asked for")
    cloud, points = cloud.double(), points.double()
    # The nearest to each point is itself.
    reach = torch.cdist(cloud, cloud).topk(k + 1, largest=False).values[:, -1]
    return (torch.cdist(points, cloud) <= reach).any(dim=1)


def spread(features: Float[Tensor, "n d"], groups: Sequence[str]) -> list[float]:
    """For each group of two rows or more, the mean cosine distance between its rows; 0 for copies."""
    unit = F.normalize(features.double(), dim=1)
    found = []
    for name in dict.fromkeys(groups):
        rows = unit[[row for row, group in enumerate(groups) if group == name]]
        n = len(rows)
        if n > 1:
            apart = 1 - rows @ rows.T
            found.append(float(apart.triu(1).sum() / (n * (n - 1) / 2)))
    return found
