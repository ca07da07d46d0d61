"""The mean and covariance of pictures that come by and are not kept.

Chan, Golub & LeVeque 1983, "Algorithms for Computing the Sample Variance", equation 1.5: moments of two parts
make those of the whole. Sums of squares, from which means are taken away at the end, would lose what two
large numbers have apart.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limner.evaluation.frechet import Gaussian


class Moments:
    """Running moments of rows of `width` features, in float64: memory of width², however many rows."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        # The sum of products of what is left when the mean is taken away.
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    def add(self, rows: Float[Tensor, "b d"]) -> None:
        """Take in some more rows, or none."""
        if rows.shape[1] != len(self.mean):
            raise ValueError(f"rows: {rows.shape[1]} features, and the others have {len(self.mean)}")
        if len(rows) == 0:
            return
        x = rows.detach().cpu().double()
        mean = x.mean(dim=0)
        centred, apart = x - mean, mean - self.mean
        total = self.count + len(x)
        self.scatter += centred.T @ centred
        self.scatter += torch.outer(apart, apart) * (self.count * len(x) / total)
        self.mean += apart * (len(x) / total)
        self.count = total

    def gaussian(self) -> Gaussian:
        """What has come by so far; covariance with n - 1. ValueError for fewer than two rows."""
        if self.count < 2:
            raise ValueError(f"rows: {self.count} so far, a covariance needs at least two")
        return Gaussian(self.mean.clone(), self.scatter / (self.count - 1))
