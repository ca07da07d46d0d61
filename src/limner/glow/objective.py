"""The exact likelihood, in bits per dimension."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from limner.draws import Draws
from limner.glow.model import Glow
from limner.objective import Loss, Objective, unwrapped


class Pictures(NamedTuple):
    """Pictures (B, 3, H, W) in [-1, 1], and what the top prior hears of each, (B, K), or None."""

    pictures: Tensor
    condition: Tensor | None = None


def bits_per_dimension(log_density: Float[Tensor, "b"], *, dimensions: int, bits: int) -> Float[Tensor, "b"]:
    """−log₂ of the probability of a bin of width 2^−bits, for each colour value of a picture.

    An upper bound of the discrete −log₂ P, in expectation over the spreading (Theis et al. 2016, 3.1).
    """
    return -log_density / (dimensions * math.log(2)) + bits


def glow_objective() -> Objective[Pictures]:
    """−log₂ p(x) per dimension; Kingma & Dhariwal, equation 2. One who knows nothing needs all the bits."""

    def objective(model: nn.Module, batch: Pictures, draws: Draws) -> Loss:
        glow = unwrapped(model, Glow)
        x = glow.dequantised(batch.pictures, draws)
        encoded = model(x, batch.condition)
        bits = bits_per_dimension(encoded.log_density, dimensions=x[0].numel(), bits=glow.config.bits)
        return Loss(
            total=bits.mean(),
            report={"bits": bits.detach().mean()},
            baseline=float(glow.config.bits),
        )

    return objective
