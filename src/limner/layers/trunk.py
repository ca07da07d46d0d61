"""Residual matrices on one vector: the cheapest place to keep what has to be known by heart.

A parameter of a convolution or of a transformer is multiplied once for every place or token, one of a trunk
once for a picture. Before it stand vectors brought to one scale in all directions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """`width` of the vector, and how many residual `layers` it passes."""

    width: int
    layers: int


class Layer(nn.Module):
    """x + W₂ GELU(W₁ LayerNorm(x)), twice as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        """Refine a vector."""
        out: Tensor = x + self.out(F.gelu(self.widen(self.norm(x))))
        return out


class Trunk(nn.Module):
    """`layers` of these, and a norm."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[Layer(config.width) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        """What is to be said, in the width of the trunk."""
        out: Tensor = self.norm(self.layers(x))
        return out


class Whitening(nn.Module):
    """An affine map to mean 0 and, nearly, unit covariance; fitted, not learned by gradients.

    CLIP's embeddings vary a thousand times more along a few directions than along most, and what tells one
    thing from another lies in these as well. As it is made the map changes nothing.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("axes", torch.eye(width))

    @torch.no_grad()
    def fit(self, vectors: Float[Tensor, "n d"], *, floor: float) -> None:
        """Take mean and axes from `vectors`; `floor`, a share of the mean variance, is added to each one's.

        So directions that hardly vary stay small. Mean and axes are rounded to what bfloat16 can hold, for so
        they are stored and a network gets used to them. Raises ValueError for no more vectors than dimensions
        and for a floor that is not positive.
        """
        n, d = vectors.shape
        if n <= d:
            raise ValueError(f"vectors: {n} of {d} dimensions, which span less: give more than {d}")
        if floor <= 0:
            raise ValueError(f"floor: {floor} is no share of the variance; give a positive number")
        x = vectors.double()
        mean = x.mean(dim=0)
        values, basis = torch.linalg.eigh((x - mean).T @ (x - mean) / n)
        values = values.clamp(min=0)
        axes = basis / (values + floor * values.mean()).sqrt()
        self.mean.copy_(mean.bfloat16())
        self.axes.copy_(axes.bfloat16())

    def forward(self, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """In float32 whatever the arithmetic: two embeddings may differ by less than half precision shows."""
        with torch.autocast(vectors.device.type, enabled=False):
            return (vectors.float() - self.mean.float()) @ self.axes.float()

    def inverse(self, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Back again."""
        with torch.autocast(vectors.device.type, enabled=False):
            # On the CPU, since not every device inverts; the matrix is small.
            back = torch.linalg.inv(self.axes.float().cpu()).to(self.axes.device)
            return vectors.float() @ back + self.mean.float()
