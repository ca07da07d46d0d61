"""VAE, VQ-VAE, VQ-VAE-2 and Glow the other way round: new pictures, of nothing that anybody asked for.

>>> load_generator("vqvae").sample(Draws([0, 1, 2, 3]))
"""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from limner import checkpoint
from limner.autoregression import Sampling
from limner.draws import Draws
from limner.glow import Glow, GlowConfig
from limner.pipelines.autoencoders import model_folder
from limner.pipelines.devices import device_named
from limner.pipelines.loading import digest_of, loaded
from limner.vae import Vae, VaeConfig
from limner.vqvae import CodePrior, CodePriorConfig, VqVae, VqVae2, VqVae2Config, VqVaeConfig
from limner.vqvae.generate import paint, paint_two_levels

# The priors of each, coarse codes first.
PRIORS: dict[str, tuple[str, ...]] = {"vae": (), "vqvae": ("prior",), "vqvae2": ("top", "bottom"), "glow": ()}
# What is drawn from unless somebody says otherwise: codes as their priors have them, and Glow's noise as the
# paper's figures have it. The VAE has none.
TEMPERATURES = {"vqvae": 1.0, "vqvae2": 1.0, "glow": 0.7}


@dataclass(frozen=True, kw_only=True)
class Generator:
    """One of the four with what its codes are drawn from: a normal, or the priors of its grids."""

    name: str
    digest: str
    network: Vae | VqVae | VqVae2 | Glow
    priors: tuple[CodePrior, ...]

    def sample(self, draws: Draws, *, temperature: float | None = None) -> Float[Tensor, "b 3 h w"]:
        """A picture in [-1, 1] for each stream of `draws`, the same alone and among others.

        `temperature`: below 1 for likelier codes, or less noise; None: that of `TEMPERATURES`. ValueError
        where it is given to the VAE, which has none.
        """
        if isinstance(self.network, Vae):
            if temperature is not None:
                raise ValueError(f"temperature is {temperature}, but the vae has none: leave it out")
            return self.network.sample(draws)
        chosen = TEMPERATURES[self.name] if temperature is None else temperature
        match self.network:
            case Glow():
                return self.network.sample(draws, temperature=chosen)
            case VqVae():
                return paint(self.network, self.priors[0], draws, sampling=Sampling(temperature=chosen))
            case _:
                top, bottom = self.priors
                sampling = Sampling(temperature=chosen)
                return paint_two_levels(self.network, top, bottom, draws, sampling=sampling)


def load_generator(name: str, *, weights: Path | None = None, device: str = "cpu") -> Generator:
    """The generator called vae, vqvae, vqvae2 or glow, with the weights that ship or those in `weights`.

    Raises ValueError for another name or a device that is not there, LimnerError for weights that do not
    load. The dVAE is not among them: what draws its words is DALL-E 1.
    """
    if name not in PRIORS:
        more = ": dalle1 draws its words (limner paint --model dalle1)" if name == "dvae" else ""
        raise ValueError(f"name is {name!r}{more}; choose {', '.join(PRIORS)}")
    place, folder = device_named(device), model_folder(name, weights)
    first, *others = parts_of(name, folder).values()
    network: Vae | VqVae | VqVae2 | Glow
    match name:
        case "vae":
            network = loaded(first, VaeConfig, Vae, place)
        case "vqvae":
            network = loaded(first, VqVaeConfig, VqVae, place)
        case "glow":
            network = loaded(first, GlowConfig, Glow, place)
        case _:
            network = loaded(first, VqVae2Config, VqVae2, place)
    priors = tuple(loaded(part, CodePriorConfig, CodePrior, place) for part in others)
    return Generator(name=name, digest=digest(name, folder), network=network, priors=priors)


def parts_of(name: str, folder: Path) -> dict[str, Path]:
    """The checkpoint folders of a model in `folder`, by what they hold, the network itself first."""
    if not PRIORS[name]:
        return {name: folder}
    return {part: folder / part for part in ("autoencoder", *PRIORS[name])}


def digest(name: str, folder: Path) -> str:
    """The short name of all weights in `folder` together."""
    digests = [checkpoint.digest(part) for part in parts_of(name, folder).values()]
    return digests[0] if len(digests) == 1 else digest_of(digests)
