"""The brush: a picture to mark on, by mouse, finger or keyboard."""

import base64
import binascii
import io
from importlib.resources import files

import gradio as gr
from PIL import Image

from limner.server.errors import Refused
from limner.server.pictures import MOST_PIXELS, picture

# A mask need not be finer than pictures are painted, and what is drawn on is sent back and forth.
LARGEST_SHOWN = 512


def brush() -> gr.HTML:
    """The component: its property `picture` is a data URL to mark on, its value one of the mask, or ""."""
    folder = files("limner.studio")
    return gr.HTML(
        "",
        html_template=(folder / "brush.html").read_text(encoding="utf-8"),
        js_on_load=(folder / "brush.js").read_text(encoding="utf-8"),
        picture="",
        elem_id="lm-brush",
    )


def to_mark(image: Image.Image) -> Image.Image:
    """A picture as it is marked on and mended: on white, of a size that a browser draws at once."""
    small = image.convert("RGBA")
    small.thumbnail((LARGEST_SHOWN, LARGEST_SHOWN), Image.Resampling.LANCZOS)
    ground = Image.new("RGBA", small.size, "white")
    return Image.alpha_composite(ground, small).convert("RGB")


def marked(mask: str | None) -> Image.Image:
    """Where the brush has been, white: of its data URL. Raises Refused where it has marked nothing."""
    if not mask:
        raise Refused("nothing is marked: draw over what shall be painted anew")
    try:
        data = base64.b64decode(mask.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise Refused("the mask cannot be read: clear it and draw it again") from error
    return picture(data, "mask", pixels=MOST_PIXELS).getchannel("A")


def as_request(image: Image.Image, mask: Image.Image) -> tuple[bytes, bytes]:
    """A picture and where to paint it anew, as the images API takes them: transparent where to paint."""
    cut = Image.new("RGBA", mask.size, "black")
    cut.putalpha(mask.point(lambda value: 0 if value > 127 else 255))
    return _png(image), _png(cut)


def _png(image: Image.Image) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()
