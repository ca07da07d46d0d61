"""Is it a copy? How near each painting comes to the training picture that is most like it.

Real drawings that training has not seen come near some that it has, too: another style's of the same thing.
A painting that comes nearer than 99 in 100 of these do may be a copy, and is shown beside its nearest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limner.evaluation.intervals import Estimate, cautious

QUANTILE = 0.99
# Rows whose cosines are held at once.
BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Copying:
    """The cosine with the nearest training picture, in the judge's features.

    `beyond`: the share of paintings nearer than `threshold`, which one in a hundred real held-out drawings
    are; `median` and `real_median` are of paintings and of these drawings.
    """

    beyond: Estimate
    threshold: float
    median: float
    real_median: float


def nearest(
    features: Float[Tensor, "n f"], training: Float[Tensor, "m f"]
) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """The cosine with the most alike row of `training`, and that row's number."""
    of = F.normalize(training, dim=1).T
    found = [(F.normalize(some, dim=1) @ of).max(dim=1) for some in features.split(BLOCK)]
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def copying(
    painted: Float[Tensor, "n"], held_out: Float[Tensor, "m"], groups: Sequence[str], *, seed: int
) -> Copying:
    """From nearest cosines of paintings, which belong together by `groups`, and of real held-out drawings."""
    threshold = torch.quantile(held_out, QUANTILE)
    return Copying(
        beyond=cautious((painted > threshold).tolist(), groups, seed=seed),
        threshold=float(threshold),
        median=float(painted.median()),
        real_median=float(held_out.median()),
    )
