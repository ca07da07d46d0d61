"""Pictures of training: a batch laid out as one image, and a name for a whole gallery."""

import hashlib
import json

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.data.loader import COLOURED_GROUNDS, Gallery


def grid(pictures: Float[Tensor, "n 3 h w"], *, columns: int) -> Image.Image:
    """Lay pictures in [-1, 1] out row by row; a last row that is short is filled with white."""
    missing = -len(pictures) % columns
    filled = torch.cat([pictures, pictures.new_ones(missing, *pictures.shape[1:])])
    sheet = rearrange(filled, "(r k) c h w -> (r h) (k w) c", k=columns)
    return Image.fromarray(((sheet.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())


def fingerprint(gallery: Gallery) -> str:
    """Sixteen hexadecimal digits for which pictures these are, how large, and on which grounds.

    What is computed from pictures and kept bears it in its name: another folder, or a picture that has
    changed since, is never taken for what was there before.
    """
    listing = [
        [
            str(record.file),
            record.file.stat().st_size,
            record.file.stat().st_mtime_ns,
            [gallery.ground(picture, number) for number in range(COLOURED_GROUNDS + 1)],
        ]
        for picture, record in enumerate(gallery.records)
    ]
    return hashlib.sha256(json.dumps([gallery.size, listing]).encode()).hexdigest()[:16]
