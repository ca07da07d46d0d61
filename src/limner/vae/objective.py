"""The evidence lower bound, summed as the bound is: nats a picture, mean over the batch."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from limner.distributed import averaged
from limner.draws import Draws
from limner.objective import Loss, Objective, unwrapped
from limner.vae.model import Vae, kl_to_normal

# An 8-bit level of a picture in [-1, 1] is this wide.
LEVEL = 2 / 255
# A latent number that carries less than this many nats is not in use.
IN_USE = 0.1


class Pictures(NamedTuple):
    """Pictures (B, 3, H, W) in [-1, 1]."""

    pictures: Tensor


def squared_error(mean: Float[Tensor, "b *d"], pictures: Float[Tensor, "b *d"]) -> Float[Tensor, "b"]:
    """Σ (x − μ)² of each picture: summed over pixels, never averaged, or β would mean something else."""
    return (pictures - mean.float()).square().flatten(1).sum(dim=1)


def bits_per_dimension(
    nats: Float[Tensor, "*b"], *, dimensions: int, sigma: float, level: float = LEVEL
) -> Float[Tensor, "*b"]:
    """What the bound promises a lossless code to need for each colour value of an 8-bit picture.

    `nats`: Σ (x − μ)²/(2σ²) + KL of a picture of that many `dimensions`. Adds the Gaussian's constant, and
    takes the density times the width of a `level` for the probability of that level.
    """
    constant = 0.5 * math.log(2 * math.pi * sigma**2) - math.log(level)
    return (nats / dimensions + constant) / math.log(2)


def vae_objective(*, beta: float) -> Objective[Pictures]:
    """−ELBO = Σ (x − μ)²/(2σ²) + β KL(q(z|x) ‖ N(0, 1)), without the constant: Kingma & Welling, eq. 10.

    Reports the KL in nats a picture, the error (mean squared, in [-1, 1]), the bound in bits per dimension
    (with β = 1, whatever β trains), and how many latent numbers are in use. A model that knows nothing says
    the batch's mean picture, at no KL.
    """

    def objective(model: nn.Module, batch: Pictures, draws: Draws) -> Loss:
        config = unwrapped(model, Vae).config
        pictures = batch.pictures
        output = model(pictures, draws.normal(config.latent))
        error = squared_error(output.pictures, pictures)
        kl = kl_to_normal(output.posterior)
        misfit, rate = error / (2 * config.sigma**2), kl.sum(dim=1)
        dimensions = pictures[0].numel()
        report = {
            "kl": rate.mean(),
            "error": error.mean() / dimensions,
            "bits": bits_per_dimension(misfit + rate, dimensions=dimensions, sigma=config.sigma).mean(),
            "in_use": (kl.mean(dim=0) > IN_USE).float().sum(),
        }
        mean = averaged(pictures.mean(dim=0)).expand_as(pictures)
        alone = averaged(squared_error(mean, pictures) / (2 * config.sigma**2))
        return Loss(
            total=(misfit + beta * rate).mean(),
            report={name: value.detach() for name, value in report.items()},
            baseline=float(alone.mean()),
        )

    return objective
