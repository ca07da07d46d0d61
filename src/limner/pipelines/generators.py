"""VAE, VQ-VAE and VQ-VAE-2 the other way round: new pictures, of nothing that anybody asked for.

>>> load_generator("vqvae").sample(Draws([0, 1, 2, 3]))
"""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from limner import checkpoint
from limner.autoregression import Sampling
from limner.draws import Draws
from limner.pipelines.autoencoders import model_folder
from limner.pipelines.devices import device_named
from limner.pipelines.loading import digest_of, loaded
from limner.vae import Vae, VaeConfig
from limner.vqvae import CodePrior, CodePriorConfig, VqVae, VqVae2, VqVae2Config, VqVaeConfig
from limner.vqvae.generate import paint, paint_two_levels

# The priors of each, coarse codes first.
PRIORS: dict[str, tuple[str, ...]] = {"vae": (), "vqvae": ("prior",), "vqvae2": ("top", "bottom")}


@dataclass(frozen=True, kw_only=True)
class Generator:
    """One of the three with what its codes are drawn from: a normal, or the priors of its grids."""

    name: str
    digest: str
    network: Vae | VqVae | VqVae2
    priors: tuple[CodePrior, ...]

    def sample(self, draws: Draws, *, sampling: Sampling | None = None) -> Float[Tensor, "b 3 h w"]:
        """A picture in [-1, 1] for each stream of `draws`, the same alone and among others.

        `sampling`: how a prior's codes are drawn; None: as the prior has it. ValueError where it is given to
        the VAE, which draws no codes.
        """
        match self.network:
            case Vae():
                if sampling is not None:
                    raise ValueError(f"sampling is {sampling}, but the vae draws no codes: leave it out")
                return self.network.sample(draws)
            case VqVae():
                return paint(self.network, self.priors[0], draws, sampling=sampling or Sampling())
            case _:
                top, bottom = self.priors
                return paint_two_levels(self.network, top, bottom, draws, sampling=sampling or Sampling())


def load_generator(name: str, *, weights: Path | None = None, device: str = "cpu") -> Generator:
    """The generator called vae, vqvae or vqvae2, with the weights that ship or those in `weights`.

    Raises ValueError for another name or a device that is not there, LimnerError for weights that do not
    load. The dVAE is not among them: what draws its words is DALL-E 1.
    """
    if name not in PRIORS:
        more = ": dalle1 draws its words (limner paint --model dalle1)" if name == "dvae" else ""
        raise ValueError(f"name is {name!r}{more}; choose {', '.join(PRIORS)}")
    place, folder = device_named(device), model_folder(name, weights)
    first, *others = parts_of(name, folder).values()
    network: Vae | VqVae | VqVae2
    match name:
        case "vae":
            network = loaded(first, VaeConfig, Vae, place)
        case "vqvae":
            network = loaded(first, VqVaeConfig, VqVae, place)
        case _:
            network = loaded(first, VqVae2Config, VqVae2, place)
    priors = tuple(loaded(part, CodePriorConfig, CodePrior, place) for part in others)
    return Generator(name=name, digest=digest(name, folder), network=network, priors=priors)


def parts_of(name: str, folder: Path) -> dict[str, Path]:
    """The checkpoint folders of a model in `folder`, by what they hold, the autoencoder first."""
    if name == "vae":
        return {"vae": folder}
    return {part: folder / part for part in ("autoencoder", *PRIORS[name])}


def digest(name: str, folder: Path) -> str:
    """The short name of all weights in `folder` together."""
    digests = [checkpoint.digest(part) for part in parts_of(name, folder).values()]
    return digests[0] if len(digests) == 1 else digest_of(digests)
