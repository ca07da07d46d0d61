"""Pairs whose answer is plain, to find out who looks: real drawings of the package's own sample.

Realism: a drawing beside noise in its own colours. Caption: a drawing of what the caption says beside one of
something else. Diversity: a grid of as many drawings beside a grid of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from limner.data.folder import read
from limner.data.sample import TRAIN_STYLES, sample_dir
from limner.pipelines.pictures import open_picture
from limner.vote.schedule import Question

Pixels: TypeAlias = Image.Image
# The drawing shown beside number i is number i + OTHER: far enough that it is of another thing.
OTHER = 31


@dataclass(frozen=True)
class Drawing:
    """A real drawing, and what it shows in words."""

    caption: str
    file: str


def drawings() -> list[Drawing]:
    """One of each thing in the sample, in one style, in its order."""
    folder = sample_dir()
    found = []
    for record in read(folder).records:
        if record.facts.get("style") == TRAIN_STYLES[0]:
            found.append(Drawing(str(record.facts["name"]), str(record.file)))
    return found


def check(
    there: Sequence[Drawing], question: Question, number: int, *, sound: bool, count: int
) -> list[Pixels]:
    """One side of check `number`, as `count` pictures: the one to choose if `sound`, else the other."""
    one = number % len(there)
    if question == "caption":
        return [_opened(there[one if sound else (one + OTHER) % len(there)])]
    if question == "realism":
        drawing = _opened(there[one])
        return [drawing if sound else noise(drawing, number)]
    return [_opened(there[(one + (turn if sound else 0)) % len(there)]) for turn in range(count)]


def noise(picture: Pixels, seed: int) -> Pixels:
    """Every pixel of the picture somewhere else, half of them in colours drawn anew."""
    pixels = np.asarray(picture.convert("RGB"))
    chance = np.random.default_rng(seed)
    spread = chance.permutation(pixels.reshape(-1, 3)).reshape(pixels.shape)
    drawn = chance.integers(0, 256, pixels.shape, dtype=np.uint8)
    return Image.fromarray(np.where(chance.random(pixels.shape[:2])[..., None] < 0.5, spread, drawn))


def _opened(drawing: Drawing) -> Pixels:
    from pathlib import Path

    return on_white(open_picture(Path(drawing.file)))


def on_white(picture: Pixels) -> Pixels:
    """Without transparency."""
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
