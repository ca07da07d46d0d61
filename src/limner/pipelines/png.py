"""Pictures on disk: PNG files that remember how they were painted, and sheets of many pictures."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from limner.errors import LimnerError

MARGIN = 8
FONT_SIZE = 13
CAPTION_LINES = 2


def encode_png(image: Image.Image, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a PNG file that holds `metadata`; read it back as `PIL.Image.open(path).text`."""
    info = PngInfo()
    for key, value in metadata.items():
        info.add_itxt(key, value)
    packed = io.BytesIO()
    image.save(packed, format="PNG", pnginfo=info)
    return packed.getvalue()


def save_png(image: Image.Image, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a PNG with its metadata, whole or not at all."""
    write(path, encode_png(image, metadata))


def write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, making the folders above it. LimnerError where that fails."""
    part = path.with_name(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LimnerError(f"cannot write {path}: {error.strerror or error}; give another place") from error


def contact_sheet(
    images: Sequence[Image.Image], captions: Sequence[str], *, columns: int | None = None
) -> Image.Image:
    """All pictures side by side with their captions below, on white; by default about as wide as high."""
    if not images or len(images) != len(captions):
        raise ValueError(
            f"images and captions are {len(images)} and {len(captions)}: give as many, at least one"
        )
    across = columns or next(n for n in range(1, len(images) + 1) if n * n >= len(images))
    rows = -(-len(images) // across)
    side = max(max(image.size) for image in images)
    font = ImageFont.load_default(size=FONT_SIZE)
    line = FONT_SIZE + 3
    width, height = side + MARGIN, side + MARGIN + CAPTION_LINES * line
    sheet = Image.new("RGB", (across * width + MARGIN, rows * height + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, across)
        left, top = MARGIN + column * width, MARGIN + row * height
        sheet.paste(image, (left, top))
        for i, words in enumerate(_lines(caption, font, side)):
            pen.text((left, top + side + 1 + i * line), words, fill="black", font=font)
    return sheet


def _lines(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The caption broken into lines that fit, the last one cut if need be."""
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = lines[:CAPTION_LINES]
    if len(lines) > CAPTION_LINES:
        kept[-1] += "…"
    return [_cut(words, font, width) for words in kept]


def _cut(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while font.getlength(words) > width and len(words) > 1:
        words = words[:-2].rstrip() + "…"
    return words
