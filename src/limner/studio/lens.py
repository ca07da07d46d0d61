"""A picture under the lens: what CLIP reads in it, and what autoencoders keep of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from limner.evaluation.reconstruction import psnr
from limner.pipelines.autoencoders import grid_picture
from limner.pipelines.embedding import Reader, pictured, worded
from limner.pipelines.explaining import explained
from limner.pipelines.pictures import seen
from limner.pipelines.settings import checked_prompt
from limner.pipelines.stages import to_images
from limner.pipelines.words import checked_words
from limner.server.painters import Check
from limner.studio.known import Known
from limner.vae import Vae

MOST_WORDS = 24
PANEL = 256
# Numbers of the VAE that are moved, and pictures for each.
MOVED, VALUES = 6, 7


@dataclass(frozen=True)
class Likeness:
    """Words, and the cosine of the picture with them."""

    words: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What an autoencoder keeps of a picture: what comes back, its grids of words, and what that costs."""

    name: str
    before: Image.Image
    after: Image.Image
    grids: tuple[tuple[str, Image.Image], ...]
    bits: float
    psnr: float


def lines(text: str) -> list[str]:
    """What stands on each line, or between commas. ValueError for none, too many, or no words."""
    found = [part.strip() for line in text.splitlines() for part in line.split(",") if part.strip()]
    if not found:
        raise ValueError("words are missing: give some, with commas between, such as a red apple, a cat")
    if len(found) > MOST_WORDS:
        raise ValueError(f"words are {len(found)}: give at most {MOST_WORDS}")
    for one in found:
        checked_prompt(one, "words")
        checked_words(one, "words")
    return list(dict.fromkeys(found))


def likenesses(reader: Reader, image: Image.Image, words: Sequence[str], check: Check) -> list[Likeness]:
    """How well a picture goes with each of several words, the best first."""
    z_i = pictured(reader.clip, [image])[0]
    found = []
    for one in words:
        check()
        found.append(Likeness(one, float(z_i @ worded(reader.clip, reader.tokenizer, one))))
    return sorted(found, key=lambda one: -one.cosine)


def heat(reader: Reader, image: Image.Image, words: str) -> Image.Image:
    """Which parts of a picture speak for words, in red, and which against them, in blue."""
    return explained(reader, words, image).heat(PANEL)


def kept(known: Known, image: Image.Image, check: Check) -> list[Kept]:
    """What each autoencoder that ships keeps of a picture."""
    found = []
    for model in known.autoencoders:
        check()
        pictures = seen([image], model.resolution)
        again = model.reconstruct(pictures)
        grids = []
        for name, grid in model.tokens(pictures).items():
            height, width = grid[0].shape
            told = f"{name}: {len(grid.unique())} of {model.vocabulary} words in {width}×{height} places"
            grids.append((told, grid_picture(grid[0], PANEL)))
        found.append(
            Kept(
                name=model.name,
                before=to_images(pictures)[0],
                after=to_images(again)[0],
                grids=tuple(grids),
                bits=float(model.bits(pictures)),
                psnr=float(psnr(pictures, again)),
            )
        )
    return found


def walk(known: Known, first: Image.Image, last: Image.Image, steps: int) -> list[Image.Image]:
    """Pictures on the straight way between two in the VAE's numbers. ValueError where no VAE ships."""
    vae = _vae(known)
    one, other = seen([first, last], vae.config.resolution).to(next(vae.parameters()).device)
    return to_images(vae.interpolate(one, other, steps))


def moved(known: Known, image: Image.Image) -> list[tuple[str, list[Image.Image]]]:
    """The VAE's numbers that tell most of a picture, each moved from -2 to 2 with all others held."""
    vae = _vae(known)
    picture = seen([image], vae.config.resolution).to(next(vae.parameters()).device)
    found = vae.traversals(picture, min(MOVED, vae.config.latent), steps=VALUES)
    told = zip(found.numbers.tolist(), found.kl.tolist(), found.pictures, strict=True)
    return [(f"number {number}, KL {kl:.2f}", to_images(row)) for number, kl, row in told]


def _vae(known: Known) -> Vae:
    model = known.autoencoder("vae")
    if model is None or not isinstance(model.network, Vae):
        raise ValueError("no VAE ships with this copy of limner: train one with limner train vae")
    return model.network
