"""VAE, VQ-VAE, VQ-VAE-2 and dVAE behind one door: what each keeps of a picture, and what comes back of it.

So is VQGAN, of which no weights ship: somebody else's, as they are or converted.

>>> model = load_autoencoder("dvae")
>>> model.reconstruct(seen([image], model.resolution))
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from limner import checkpoint
from limner.dvae import DVae, DVaeConfig
from limner.errors import LimnerError
from limner.formats import network as opened_network
from limner.formats import opened, usable
from limner.formats.hub import resolved
from limner.pipelines.devices import device_named
from limner.pipelines.loading import loaded
from limner.vae import Vae, VaeConfig, kl_to_normal
from limner.vqgan import VqGan, VqGanConfig
from limner.vqvae import CodePriorConfig, VqVae, VqVae2, VqVae2Config, VqVaeConfig
from limner.vqvae.two_levels import TOP_FACTOR
from limner.weights import shipped

# The real root of x⁴ = x + 1, of which Roberts' sequence in the cube is made.
PHI3 = 1.2207440846057596


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """One of the five, whose weights have this `digest`, trained on pictures of `resolution` pixels a side.

    Pictures (B, 3, H, W) are in [-1, 1], and what is made of them comes back to where they lie. The VAE takes
    its own resolution alone, the others any that their grids divide: ValueError for the rest.
    """

    name: str
    digest: str
    resolution: int
    network: Vae | VqVae | VqVae2 | DVae | VqGan

    @property
    def vocabulary(self) -> int | None:
        """How many words there are for a place of a grid; None of the VAE, which has neither."""
        match self.network:
            case Vae():
                return None
            case DVae():
                return self.network.config.vocabulary
            case VqGan():
                return self.network.config.codes
            case _:
                return self.network.config.codebook.codes

    def reconstruct(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """What comes back: from the words, or from the mean of the VAE's posterior."""
        return self.network.reconstruct(self._there(pictures)).to(pictures.device)

    @torch.no_grad()
    def tokens(self, pictures: Float[Tensor, "b 3 h w"]) -> dict[str, Int[Tensor, "b _h _w"]]:
        """The numbers of the words, as grids by name, coarse ones first; none of the VAE."""
        seen = self._there(pictures)
        match self.network:
            case Vae():
                grids: dict[str, Tensor] = {}
            case VqVae() | VqGan():
                grids = {"codes": self.network.encode(seen)}
            case VqVae2():
                grids = self.network.encode(seen)._asdict()
            case DVae():
                grids = {"tokens": self.network.tokens(seen)}
        return {name: grid.to(pictures.device) for name, grid in grids.items()}

    @torch.no_grad()
    def bits(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
        """What storing each picture takes: log₂ K for every word, however frequent; KL / ln 2 of the VAE.

        The latter is what a draw from q(z|x) costs somebody who knows the prior (Hinton & van Camp 1993).
        """
        if isinstance(self.network, Vae):
            nats = kl_to_normal(self.network.encode(self._there(pictures))).sum(dim=1)
            return nats.to(pictures.device) / math.log(2)
        assert self.vocabulary is not None
        places = sum(grid[0].numel() for grid in self.tokens(pictures[:1]).values())
        return torch.full((len(pictures),), places * math.log2(self.vocabulary), device=pictures.device)

    def _there(self, pictures: Tensor) -> Tensor:
        return pictures.to(next(self.network.parameters()).device)


def load_autoencoder(name: str, *, weights: Path | None = None, device: str = "cpu") -> Autoencoder:
    """The autoencoder called vae, vqvae, vqvae2 or dvae, with the weights that ship or those in `weights`.

    `weights`: the model that `limner train` left, or a folder around it; for dvae also DALL-E 1's. vqgan does
    not ship: its `weights` are taming-transformers' checkpoint, or the folder that it was converted into.
    Raises ValueError for another name or a device that is not there, LimnerError for weights that do not
    load.
    """
    if name not in (*LOADERS, "vqgan"):
        raise ValueError(f"name is {name!r}: choose {', '.join(LOADERS)}, vqgan")
    place = device_named(device)
    if name == "vqgan":
        if weights is None:
            raise LimnerError("no weights for vqgan ship: give --weights the path of somebody's VQGAN")
        return _vqgan(resolved(Path(weights)), place)
    return LOADERS[name](model_folder(name, weights), place)


def model_folder(name: str, weights: Path | None) -> Path:
    """Where the model lies: what ships, or `weights`, or below it as training or a folder of many has it."""
    folder = shipped(name) if weights is None else resolved(Path(weights))
    for inside in (name, "model"):
        if (folder / inside).is_dir():
            folder = folder / inside
    return folder


def load_autoencoders(
    weights: Path | None = None, *, device: str = "cpu"
) -> tuple[list[Autoencoder], list[str]]:
    """All of the four that ship, or lie in `weights` under their names, and the names of the others.

    The dVAE may also lie in `weights`/dalle1. Raises LimnerError where there is none at all.
    """
    found: list[Autoencoder] = []
    absent: list[str] = []
    for name in LOADERS:
        try:
            folder = shipped(name) if weights is None else _below(weights, name)
        except LimnerError:
            absent.append(name)
        else:
            found.append(load_autoencoder(name, weights=folder, device=device))
    if not found:
        where = "this copy of limner" if weights is None else str(weights)
        raise LimnerError(
            f"no autoencoder in {where}: give a folder that holds {', '.join(LOADERS)}, or some of them"
        )
    return found, absent


def _below(weights: Path, name: str) -> Path:
    for folder in (weights / name, weights / "dalle1" / name):
        if folder.is_dir():
            return folder
    raise LimnerError(f"no weights for {name} in {weights}")


def _vae(folder: Path, device: torch.device) -> Autoencoder:
    network = loaded(folder, VaeConfig, Vae, device)
    digest, resolution = checkpoint.digest(folder), network.config.resolution
    return Autoencoder(name="vae", digest=digest, resolution=resolution, network=network)


def _dvae(folder: Path, device: torch.device) -> Autoencoder:
    network = loaded(folder, DVaeConfig, DVae, device)
    digest, resolution = checkpoint.digest(folder), network.config.resolution
    return Autoencoder(name="dvae", digest=digest, resolution=resolution, network=network)


# The two below take any size and do not say which they know; their priors, which write whole grids, do.


def _vqvae(folder: Path, device: torch.device) -> Autoencoder:
    network = loaded(folder / "autoencoder", VqVaeConfig, VqVae, device)
    prior, _ = checkpoint.load(folder / "prior", CodePriorConfig)
    digest, resolution = checkpoint.digest(folder / "autoencoder"), prior.side * network.config.factor
    return Autoencoder(name="vqvae", digest=digest, resolution=resolution, network=network)


def _vqvae2(folder: Path, device: torch.device) -> Autoencoder:
    network = loaded(folder / "autoencoder", VqVae2Config, VqVae2, device)
    prior, _ = checkpoint.load(folder / "top", CodePriorConfig)
    digest, resolution = checkpoint.digest(folder / "autoencoder"), prior.side * TOP_FACTOR
    return Autoencoder(name="vqvae2", digest=digest, resolution=resolution, network=network)


def _vqgan(path: Path, device: torch.device) -> Autoencoder:
    """limner's own folder, or what others have saved."""
    if not path.exists() or checkpoint.is_ours(path):
        network, digest = loaded(path, VqGanConfig, VqGan, device), checkpoint.digest(path)
    else:
        found = usable(opened(path))
        theirs = opened_network(found.parts[0])
        if not isinstance(theirs, VqGan):
            raise LimnerError(f"{path} is {found.format}: give a VQGAN, encoder and decoder")
        network, digest = theirs.to(device), found.contents.digest()[:12]
    resolution = network.config.resolution
    return Autoencoder(name="vqgan", digest=digest, resolution=resolution, network=network)


# Those that ship.
LOADERS: dict[str, Callable[[Path, torch.device], Autoencoder]] = {
    "vae": _vae,
    "vqvae": _vqvae,
    "vqvae2": _vqvae2,
    "dvae": _dvae,
}


def word_colours(words: Int[Tensor, "*n"]) -> Int[Tensor, "*n 3"]:
    """A colour of its own, 0 to 255, for every word, the same in every picture.

    Roberts 2018, "The unreasonable effectiveness of quasirandom sequences": his sequence fills the cube of
    colours evenly, so that words of neighbouring numbers look nothing like each other.
    """
    steps = torch.tensor([PHI3**-1, PHI3**-2, PHI3**-3], dtype=torch.float64)
    spread = (0.5 + rearrange(words.double().cpu(), "... -> ... 1") * steps) % 1
    return (256 * spread).long()


def grid_picture(words: Int[Tensor, "h w"], side: int) -> Image.Image:
    """A grid of words as a picture of `side` pixels, each word a square of its colour."""
    small = Image.fromarray(word_colours(words).to(torch.uint8).numpy())
    return small.resize((side, side), Image.Resampling.NEAREST)
