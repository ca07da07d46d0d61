"""What lies where in a picture, and in which colour: things are what differs from the ground.

It knows no names and nothing of painters. The ground is what the border shows; whatever differs from it hangs
together in pieces, and small pieces belong to the large one next to them, as the dot does to its i. That is
how `limner.data.scenes` lays things out: apart, on one ground.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from PIL import Image

from limner.data.colours import GROUNDS, dominant_colours, oklab
from limner.data.scenes import Relation

# How far from the ground a pixel must be to be of something, in OKLab, where black and white are 1 apart.
DIFFERENT = 0.06
# Of the picture: what is smaller is a speck.
SPECK = 0.003
# Of the largest: what is smaller is a piece of something and no thing.
PIECE = 0.25
# White around a thing that is cut out, of its longer side, as drawings have it.
MARGIN = 0.06


@dataclass(frozen=True)
class Thing:
    """One thing: the pixels that are its own, their number, and its centre from the upper left, in [0, 1]."""

    mask: NDArray[np.bool_]
    area: int
    across: float
    down: float


def pixels(picture: Image.Image) -> Float[np.ndarray, "h w 3"]:
    """A picture, transparency laid on white, in OKLab."""
    rgba = picture.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return oklab(np.asarray(flat) / 255.0)


def ground(lab: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "3"]:
    """The median colour of the border, a sixteenth of the picture wide in all."""
    wide = max(1, len(lab) // 32)
    inner = np.ones(lab.shape[:2], bool)
    inner[wide:-wide, wide:-wide] = False
    middle: NDArray[np.float64] = np.median(lab[inner], axis=0)
    return middle


def ground_name(picture: Image.Image) -> str:
    """Which of the named grounds the picture's is nearest to."""
    names = [*GROUNDS]
    marks = oklab(np.array([GROUNDS[name] for name in names]) / 255.0)
    return names[int(np.square(marks - ground(pixels(picture))).sum(axis=1).argmin())]


def things(picture: Image.Image) -> list[Thing]:
    """What there is, the largest first; empty where all is ground."""
    lab = pixels(picture)
    drawn = np.sqrt(np.square(lab - ground(lab)).sum(axis=-1)) > DIFFERENT
    found = pieces(drawn)
    sizes = [int(piece.sum()) for piece in found]
    if not sizes or max(sizes) < SPECK * drawn.size:
        return []
    large = [piece for piece, size in zip(found, sizes, strict=True) if size >= PIECE * max(sizes)]
    small = [
        piece
        for piece, size in zip(found, sizes, strict=True)
        if SPECK * drawn.size <= size < PIECE * max(sizes)
    ]
    owned = [piece.copy() for piece in large]
    for piece in small:
        owned[nearest(piece, large)] |= piece
    return sorted((_thing(mask) for mask in owned), key=lambda thing: -thing.area)


def _thing(mask: NDArray[np.bool_]) -> Thing:
    rows, columns = np.nonzero(mask)
    high, wide = mask.shape
    # The middle of the box, not the centre of mass: a spoon's is in its bowl.
    across = (columns.min() + columns.max() + 1) / 2 / wide
    down = (rows.min() + rows.max() + 1) / 2 / high
    return Thing(mask, len(rows), float(across), float(down))


def pieces(drawn: Bool[np.ndarray, "h w"]) -> list[NDArray[np.bool_]]:
    """The parts that hang together, by edges or corners."""
    labels = connected(drawn)
    return [labels == number for number in np.unique(labels[drawn])]


def connected(drawn: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """A number for every part that hangs together, 0 outside: the largest of its pixels' own numbers.

    Every pixel takes the largest number among its neighbours until nothing changes.
    """
    numbers = np.where(drawn, 1 + np.arange(drawn.size).reshape(drawn.shape), 0)
    while True:
        spread = np.where(drawn, largest_around(numbers), 0)
        if (spread == numbers).all():
            return numbers
        numbers = spread


def largest_around(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """For every pixel the largest of its own value and its eight neighbours'."""
    high, wide = values.shape
    around = np.pad(values, 1)
    nine = [around[y : y + high, x : x + wide] for y in range(3) for x in range(3)]
    found: NDArray[np.generic] = np.max(nine, axis=0)
    return found


def nearest(piece: Bool[np.ndarray, "h w"], others: Sequence[NDArray[np.bool_]]) -> int:
    """Which of the others a piece meets first when it grows on all sides."""
    grown: NDArray[np.generic] = piece
    while True:
        grown = largest_around(grown)
        # np.max gives an array of any kind, as far as its types know.
        met = [int(np.logical_and(grown, other).sum()) for other in others]
        if any(met):
            return int(np.argmax(met))


def colour_of(picture: Image.Image, thing: Thing) -> str:
    """The name of the colour that most of a thing has, among the basic ones."""
    rgb = np.asarray(picture.convert("RGB"))
    alpha = np.where(thing.mask, 255, 0).astype(np.uint8)
    return dominant_colours(np.dstack([rgb, alpha]))[0]


def cut_out(picture: Image.Image, thing: Thing) -> Image.Image:
    """The thing alone, on white, in a square of its own size and a small margin."""
    rows, columns = np.nonzero(thing.mask)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    rgb = np.asarray(picture.convert("RGB"))
    alone = Image.fromarray(np.where(thing.mask[..., None], rgb, 255).astype(np.uint8)).crop(box)
    side = round(max(alone.size) * (1 + 2 * MARGIN))
    laid = Image.new("RGB", (side, side), "white")
    laid.paste(alone, ((side - alone.width) // 2, (side - alone.height) // 2))
    return laid


def relation(first: Thing, second: Thing) -> Relation:
    """Where the first lies, seen from the second: along the axis on which they are farther apart."""
    across, down = first.across - second.across, first.down - second.down
    if abs(across) > abs(down):
        return "to the left of" if across < 0 else "to the right of"
    return "above" if down < 0 else "below"
