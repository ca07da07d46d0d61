"""What is known of a picture that is to be mended, and what of it is to be painted anew."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageChops
from torch import Tensor

from limner.data.loader import squared
from limner.glide import Known
from limner.pipelines.pictures import WHITE


@dataclass(frozen=True)
class Kept:
    """What is known of pictures (B, 3, S, S), and where, (B, 1, S, S): 1 where they are."""

    pictures: Float[Tensor, "b 3 s s"]
    mask: Float[Tensor, "b 1 s s"]

    def to(self, device: torch.device) -> "Kept":
        """On another device."""
        return Kept(self.pictures.to(device), self.mask.to(device))

    def of(self, rows: int) -> "Kept":
        """The same for each of so many rows."""
        times = rows // len(self.pictures)
        return Kept(*(repeat(part, "b c h w -> (n b) c h w", n=times) for part in (self.pictures, self.mask)))

    def at(self, side: int) -> "Kept":
        """Reduced to `side`: means of pixels, known where all of them are."""
        factor = self.pictures.shape[-1] // side
        return Kept(F.avg_pool2d(self.pictures, factor), -F.max_pool2d(-self.mask, factor))

    @property
    def known(self) -> Known:
        """As the networks take it."""
        return Known(self.pictures, self.mask)


def known_of(image: Image.Image, mask: Image.Image, side: int) -> Kept:
    """A picture on white, squared, at `side`, and where it is known: where nothing of a pixel is erased.

    What is erased is taken out before the picture is resized, so that nothing of it stays in its neighbours.
    Raises ValueError for a mask of another size, and for one that leaves nothing to paint or nothing known.
    """
    if mask.size != image.size:
        raise ValueError(
            f"mask is {mask.width}×{mask.height} pixels and image {image.width}×{image.height}: give a mask "
            "of the same size"
        )
    wanted = np.asarray(mask.convert("L")) > 127
    if not wanted.any():
        raise ValueError("mask has nothing white (or transparent) in it: mark what to paint")
    if wanted.all():
        raise ValueError("mask is white (or transparent) throughout: leave something to keep, or use paint")
    whole = max(image.size)
    corner = ((whole - image.width) // 2, (whole - image.height) // 2)
    flat = Image.new("RGBA", (whole, whole), WHITE)
    flat.alpha_composite(image.convert("RGBA"), corner)
    marked = Image.new("L", (whole, whole), 0)
    marked.paste(Image.fromarray(np.where(wanted, 255, 0).astype(np.uint8)), corner)
    flat.putalpha(ImageChops.invert(marked))
    known = torch.from_numpy(~touched(np.asarray(marked) > 0, side)).float()
    # Premultiplied while it is resized: a known pixel has the colour of what is known.
    colours = torch.from_numpy(squared(flat, side)[..., :3].copy()).float() / 127.5 - 1
    return Kept(rearrange(colours, "h w c -> 1 c h w"), rearrange(known, "h w -> 1 1 h w"))


def touched(marked: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Which of side × side pixels cover any part of a marked one of a square."""
    whole = len(marked)
    edges = np.arange(side + 1) * whole
    first, last = edges[:-1] // side, -(-edges[1:] // side)
    sums = np.zeros((whole + 1, whole + 1), dtype=np.int64)
    sums[1:, 1:] = marked.cumsum(axis=0).cumsum(axis=1)
    rows = sums[last] - sums[first]
    found: NDArray[np.bool_] = (rows[:, last] - rows[:, first]) > 0
    return found


def mask_of(picture: Image.Image) -> Image.Image:
    """Where to paint, white: where a picture is transparent, or, if it nowhere is, where it is white."""
    alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    wanted = alpha < 128 if alpha.min() < 128 else np.asarray(picture.convert("L")) > 127
    return Image.fromarray(np.where(wanted, 255, 0).astype(np.uint8))


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Where to paint, white: the pixels of left, top, right, bottom (these two excluded).

    Raises ValueError for a box that is empty or not within the picture.
    """
    left, top, right, bottom = box
    width, height = size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"mask is the box {left},{top},{right},{bottom}, and the picture has {width}×{height} pixels: "
            "give LEFT,TOP,RIGHT,BOTTOM within it"
        )
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask
