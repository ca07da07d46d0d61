"""Other people's pictures: read from a file, and as the networks see them."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.data.folder import upright
from limner.data.loader import composited, squared
from limner.errors import LimnerError

WHITE = (255, 255, 255)


def open_picture(path: Path) -> Image.Image:
    """The picture in a file, whole and upright, as RGBA. LimnerError for a missing or damaged one."""
    if not path.is_file():
        raise LimnerError(f"no picture at {path}: give the path of a PNG, JPEG or WebP file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                return upright(opened).convert("RGBA")
    except Exception as error:  # Pillow's readers raise whatever a malformed file makes them raise.
        raise LimnerError(f"cannot read {path} as a picture ({error}): give a PNG, JPEG or WebP") from error


def fingerprint(image: Image.Image) -> str:
    """Twelve hexadecimal digits for which picture this is: of its size and pixels, not of its file."""
    told = f"{image.width}x{image.height}".encode() + image.convert("RGBA").tobytes()
    return hashlib.sha256(told).hexdigest()[:12]


def seen(images: Sequence[Image.Image], side: int) -> Float[Tensor, "b 3 h w"]:
    """Pictures on white, squared with margins, brought to `side`, in [-1, 1]: as pictures are trained on."""
    return composited(np.stack([squared(image, side) for image in images]), [WHITE] * len(images))
