"""One drawing to one square RGBA picture: vector or bitmap, centred, with a small margin."""

import io
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

MARGIN = 0.05
"""Free border on each side, as a share of the picture."""

ZOOM = 1.35
"""A drawing that is small on its own canvas grows at most by this, so that a small square stays small."""

PROBE = 96
RECIPE = "1"
"""Written into every picture: one painted by another recipe is painted again."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A drawing before it has a size: SVG markup or the bytes of a bitmap file."""

    svg: str = ""
    bitmap: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A square window in a drawing's own units."""

    left: float
    top: float
    side: float


def render(drawing: Drawing, size: int) -> Image.Image:
    """The drawing as RGBA, `size` by `size`; its ink is centred and fills all but the margin.

    Raises `ValueError` when it cannot be read or is empty.
    """
    return _from_svg(drawing.svg, size) if drawing.svg else _from_bitmap(drawing.bitmap, size)


def _from_svg(svg: str, size: int) -> Image.Image:
    left, top, width, height = _canvas(svg)
    side = max(width, height)
    whole = Box(left=left + (width - side) / 2, top=top + (height - side) / 2, side=side)
    # A small first look finds the ink; the second aims the window at it, so nothing is ever resampled.
    probe = _resvg(_window(svg, whole), PROBE)
    box = _aim(probe, whole)
    # Ink that runs to the canvas edge may run on beyond it: there, and only there, pay for a clip.
    x0, y0, x1, y1 = probe.getbbox() or (0, 0, PROBE, PROBE)
    inside = min(x0, y0) > 0 and max(x1, y1) < PROBE
    return _resvg(_window(svg, box) if inside else _clipped(svg, whole, box), size)


def _from_bitmap(content: bytes, size: int) -> Image.Image:
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGBA")
    side = max(picture.size)
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    box = _aim(square, Box(left=0.0, top=0.0, side=float(side)))
    # Room for a window that reaches over the edge; colours are weighed by alpha while they are mixed.
    pad = math.ceil(max(0.0, -box.left, -box.top, box.left + box.side - side, box.top + box.side - side))
    roomy = Image.new("RGBA", (side + 2 * pad, side + 2 * pad))
    roomy.paste(square, (pad, pad))
    corner = (box.left + pad, box.top + pad, box.left + pad + box.side, box.top + pad + box.side)
    return roomy.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS, box=corner).convert("RGBA")


def _aim(picture: Image.Image, seen: Box) -> Box:
    """The window around the ink of `picture`, which shows `seen`."""
    ink = picture.getchannel("A").point(lambda alpha: 255 if alpha > 12 else 0).getbbox()
    if ink is None:
        raise ValueError("the drawing is empty")
    unit = seen.side / picture.width
    x0, y0, x1, y1 = (edge * unit for edge in ink)
    side = max(max(x1 - x0, y1 - y0) / (1 - 2 * MARGIN), seen.side / ZOOM)
    return Box(left=seen.left + (x0 + x1 - side) / 2, top=seen.top + (y0 + y1 - side) / 2, side=side)


_ROOT = re.compile(r"<svg\b[^>]*>", re.DOTALL)
_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*("[^"]*"|'[^']*')""")


def _attributes(root: str) -> dict[str, str]:
    return {name: value[1:-1] for name, value in _ATTRIBUTE.findall(root)}


def _canvas(svg: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of what the SVG shows."""
    root = _ROOT.search(svg)
    if root is None:
        raise ValueError("the SVG has no <svg> element")
    found = _attributes(root.group())
    if "viewBox" in found:
        left, top, width, height = (float(word) for word in found["viewBox"].replace(",", " ").split())
    else:
        left = top = 0.0
        width, height = (float(re.sub(r"[a-z%]+$", "", found.get(key, "0"))) for key in ("width", "height"))
    if width <= 0 or height <= 0:
        raise ValueError("the SVG has no size")
    return left, top, width, height


def _seat(found: dict[str, str], box: Box, size: float, at: tuple[float, float]) -> str:
    """An <svg> tag that keeps the root's own attributes, shows `box` and takes up `size` at `at`."""
    placed = {"xmlns": "http://www.w3.org/2000/svg", "xmlns:xlink": "http://www.w3.org/1999/xlink"} | found
    placed |= {"x": str(at[0]), "y": str(at[1]), "width": str(size), "height": str(size)}
    placed |= {"viewBox": f"{box.left} {box.top} {box.side} {box.side}"}
    placed.pop("preserveAspectRatio", None)
    return "<svg" + "".join(f' {key}="{value}"' for key, value in placed.items()) + ">"


def _window(svg: str, window: Box) -> str:
    """The same drawing seen through `window`."""
    root = _ROOT.search(svg)
    assert root is not None
    return _seat(_attributes(root.group()), window, float(PROBE), (0.0, 0.0)) + svg[root.end() :]


def _clipped(svg: str, whole: Box, window: Box) -> str:
    """The same drawing, cut off at its own canvas `whole`, seen through `window`."""
    root = _ROOT.search(svg)
    assert root is not None
    inner = _seat(_attributes(root.group()), whole, whole.side, (whole.left, whole.top))
    return _seat({}, window, float(PROBE), (0.0, 0.0)) + inner + svg[root.end() :] + "</svg>"


def _resvg(svg: str, size: int) -> Image.Image:
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, dpi=96.0, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as opened:
        return opened.convert("RGBA")


def stamp(package: str) -> str:
    """What a picture says about its own making."""
    return f"{package} recipe {RECIPE}"


def save(picture: Image.Image, path: Path, package: str) -> None:
    """Write a PNG with its stamp; the file is either whole or not there."""
    said = PngImagePlugin.PngInfo()
    said.add_text("Source", stamp(package))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        picture.save(part, format="PNG", pnginfo=said, compress_level=4)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def reopen(path: Path, size: int, package: str) -> Image.Image | None:
    """The picture at `path` if it is whole, of this size and painted by this recipe; else None."""
    try:
        with Image.open(path) as opened:
            opened.verify()
        with Image.open(path) as opened:
            opened.load()
            fits = opened.size == (size, size) and opened.mode == "RGBA"
            said = opened.info.get("Source") == stamp(package)
            return opened.copy() if fits and said else None
    except (OSError, SyntaxError, ValueError):
        return None


def small(picture: Image.Image, side: int = 64) -> np.ndarray:
    """The picture shrunk with its alpha, (side, side, 4) uint8: enough to count colours on."""
    shrunk = picture.convert("RGBa").resize((side, side), Image.Resampling.BOX).convert("RGBA")
    return np.asarray(shrunk)
