"""Contact sheets: a row for each prompt, a column for everybody, and nothing picked.

The prompts are the first of the list, which the hash or the file put first; the pictures are the first of
each.
"""

import io
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from limner.comparison.found import Comparison, Painted

# Prompts on the sheet of everybody, and on each one's own.
SHOWN, SHOWN_OF_ONE = 16, 6
MOST_OF_ONE = 8
CELL, GAP, LEFT, TOP = 112, 6, 190, 40
FONT, LINE = 12, 15
INK = (40, 40, 40)


def everybody(of: Comparison) -> Image.Image:
    """The first picture of the first prompts by everybody."""
    prompts = of.prompts[:SHOWN]
    rows = [[files_of(one, row, of.count)[0] for one in of.painted] for row in range(len(prompts))]
    return laid([one.title for one in of.painted], prompts, rows)


def own(of: Comparison, one: Painted) -> Image.Image:
    """All pictures of the first prompts by one, as far as they fit."""
    prompts, across = of.prompts[:SHOWN_OF_ONE], min(of.count, MOST_OF_ONE)
    rows = [files_of(one, row, of.count)[:across] for row in range(len(prompts))]
    return laid([""] * across, prompts, rows, top=GAP)


def files_of(one: Painted, prompt: int, count: int) -> list[Image.Image]:
    """The pictures of a prompt."""
    found = []
    for file in one.files[prompt * count : (prompt + 1) * count]:
        with Image.open(file) as opened:
            found.append(opened.convert("RGB"))
    return found


def laid(
    titles: Sequence[str], prompts: Sequence[str], rows: Sequence[Sequence[Image.Image]], *, top: int = TOP
) -> Image.Image:
    """Pictures in a grid with titles above and prompts to the left, on white."""
    size = (LEFT + len(titles) * (CELL + GAP), top + len(rows) * (CELL + GAP))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT)
    for column, title in enumerate(titles):
        words = "\n".join(textwrap.wrap(title, 18, break_on_hyphens=False)[:2])
        at = (LEFT + column * (CELL + GAP) + CELL / 2, top - GAP)
        pen.multiline_text(at, words, fill=INK, font=font, anchor="md", align="center", spacing=2)
    for row, (prompt, pictures) in enumerate(zip(prompts, rows, strict=True)):
        y = top + row * (CELL + GAP)
        words = "\n".join(textwrap.wrap(prompt, 28, max_lines=CELL // LINE - 1, placeholder="…"))
        pen.multiline_text((GAP, y + CELL / 2), words, fill=INK, font=font, anchor="lm", spacing=3)
        for column, picture in enumerate(pictures):
            larger = picture.width > CELL
            how = Image.Resampling.LANCZOS if larger else Image.Resampling.BICUBIC
            sheet.paste(picture.resize((CELL, CELL), how), (LEFT + column * (CELL + GAP), y))
    return sheet


def png(sheet: Image.Image) -> bytes:
    """Its file."""
    packed = io.BytesIO()
    sheet.save(packed, format="PNG", optimize=True)
    return packed.getvalue()
