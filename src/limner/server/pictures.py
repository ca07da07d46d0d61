"""Pictures as they are sent: opened only if they are pictures, and no larger than is asked for."""

import base64
import binascii
import io
import math
import re

from PIL import Image

from limner.data.folder import upright
from limner.server.errors import Refused

# The rest of what Pillow reads is not sent by anybody who means well.
FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST_SIDE = 8192
# What a server takes unless it is told otherwise.
MOST_PIXELS = 4096 * 4096
DATA_URL = re.compile(r"data:image/[\w.+-]{1,40};base64,", re.ASCII)


def picture(data: bytes, name: str, *, pixels: int) -> Image.Image:
    """The picture in `data`, upright, as RGBA, of at most so many pixels.

    Its size is read before it is unpacked, so a bomb stays packed. Raises Refused, calling it `name`, for
    anything else.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            if math.prod(opened.size) > pixels or max(opened.size) > LARGEST_SIDE:
                raise Refused(
                    f"{name} is {opened.width}×{opened.height} pixels: send at most {pixels:,} pixels, "
                    f"{LARGEST_SIDE} a side",
                    param=name,
                    code="image_too_large",
                )
            return upright(opened).convert("RGBA")
    except Refused:
        raise
    except Exception as error:  # Pillow's readers raise whatever a malformed file makes them raise.
        raise Refused(
            f"{name} is not a picture that can be read: send a PNG, JPEG or WebP",
            param=name,
            code="invalid_image",
        ) from error


def erased(mask: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    """Where to paint, white: where `mask` is transparent. Raises Refused for another size, or nothing."""
    if mask.size != size:
        raise Refused(
            f"mask is {mask.width}×{mask.height} pixels and image {size[0]}×{size[1]}: send a mask of the "
            "same size",
            param="mask",
            code="invalid_mask",
        )
    wanted = mask.getchannel("A").point(lambda alpha: 255 if alpha < 128 else 0)
    lowest, highest = wanted.getextrema()
    if highest == 0:
        missing = "" if name == "mask" else ", and there is no mask"
        raise Refused(
            f"{name} has nothing transparent in it{missing}: make transparent what is to be painted anew",
            param=name,
            code="invalid_mask",
        )
    if lowest == 255:
        raise Refused(
            f"{name} is transparent throughout: leave something to keep, or use /v1/images/generations",
            param=name,
            code="invalid_mask",
        )
    return wanted


def marked(image: bytes, mask: bytes | None, *, pixels: int) -> tuple[Image.Image, Image.Image]:
    """A picture and where to paint it anew, white: where the mask is transparent, or else it itself is.

    Raises Refused for what is no picture, for a mask of another size, and for one that leaves nothing.
    """
    whole = picture(image, "image", pixels=pixels)
    if mask is None:
        return whole, erased(whole, whole.size, "image")
    return whole, erased(picture(mask, "mask", pixels=pixels), whole.size, "mask")


def of_data_url(text: str, name: str) -> bytes | None:
    """The bytes of a data:image/… URL, None for other words. Raises Refused for one that is broken."""
    if not text.startswith("data:"):
        return None
    found = DATA_URL.match(text)
    try:
        if found is None:
            raise ValueError("no image in base64")
        return base64.b64decode(text[found.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(
            f"{name} is {text[:30]!r}…, a data URL that cannot be read: send data:image/png;base64,…",
            param=name,
            code="invalid_image",
        ) from error
