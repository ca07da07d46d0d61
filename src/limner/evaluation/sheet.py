"""The contact sheet of 64 prompts: what a painter can do, with nothing picked afterwards.

The prompts were chosen before anything was painted and are what the seed 0 makes of them: 32 names in a style
in which training has seen them, 16 pairs of style and name that it has never seen together though it knows
both, and 16 compositions, written by hand.
"""

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from limner.data.captions import STYLES
from limner.data.folder import Record
from limner.data.splits import fraction
from limner.data.words import named
from limner.errors import LimnerError
from limner.evaluation.names import BENCHMARK, plain
from limner.pipelines.png import contact_sheet as beside

TRAINED, PAIRS = 32, 16

# chosen(records, "train", 32) and chosen(records, "pair", 16) of the painters' folder.
KNOWN: tuple[str, ...] = (
    "a blossom, glossy gradient style",
    "a clamp, Twemoji style",
    "a clown face, Noto style",
    "a thermometer, flat style",
    "a teacup without handle, flat style",
    "a mahjong red dragon, Noto style",
    "a pool 8 ball, glossy gradient style",
    "a detective, Noto style",
    "a pig, Noto style",
    "a snowflake, glossy gradient style",
    "a kiss, Twemoji style",
    "an outbox tray, Noto style",
    "mount fuji, glossy gradient style",
    "a flag in hole, 3D style",
    "a speaker medium volume, 3D style",
    "a horizontal traffic light, Twemoji style",
    "a speaking head, flat style",
    "a t-shirt, glossy gradient style",
    "a lemon, glossy gradient style",
    "bowling, Noto style",
    "a cow, flat style",
    "a grinning face with big eyes, Twemoji style",
    "a tornado, 3D style",
    "a mouth, 3D style",
    "a game die, flat style",
    "a ram, flat style",
    "a briefcase, glossy gradient style",
    "shaved ice, Twemoji style",
    "a baby, flat style",
    "a graduation cap, Twemoji style",
    "a high-heeled shoe, Noto style",
    "an oncoming bus, Twemoji style",
)
UNSEEN: tuple[str, ...] = (
    "a last quarter moon face, Twemoji style",
    "sweat droplets, 3D style",
    "a blowfish, flat style",
    "a dango, Noto style",
    "cooked rice, glossy gradient style",
    "a bug, Noto style",
    "a loudly crying face, Noto style",
    "a monorail, glossy gradient style",
    "a couple with heart, 3D style",
    "a backhand index pointing down, Twemoji style",
    "a reminder ribbon, glossy gradient style",
    "a person wearing turban, flat style",
    "a magnifying glass tilted left, flat style",
    "a left speech bubble, glossy gradient style",
    "hundred points, Noto style",
    "a motor boat, Twemoji style",
)
COMPOSED: tuple[str, ...] = (
    "a red apple to the left of a blue car on a pale blue ground",
    "three stars",
    "a cat above a pizza",
    "a purple umbrella",
    "a rocket to the right of a house on a dark blue ground",
    "two cats",
    "a blue strawberry",
    "a guitar, a trumpet and a violin",
    "a crown above a frog on a pale green ground",
    "four lemons on a lavender ground",
    "a dog to the right of a tree",
    "an orange fish on a yellow ground",
    "a yellow bus to the left of a pink bicycle",
    "an elephant below a cloud",
    "two carrots",
    "a key, a bell, a balloon and a banana",
)
PROMPTS: tuple[str, ...] = KNOWN + UNSEEN + COMPOSED
"""All 64, in the order of the sheet."""
EIGHT: tuple[str, ...] = PROMPTS[::8]
"""Those of them that are laid out at full size: the first of every row."""

HEADINGS = (
    (0, "names in a style that training has seen them in"),
    (len(KNOWN), "pairs of style and name that it has not seen together"),
    (len(KNOWN) + len(UNSEEN), "compositions"),
)
COLUMNS = 8
CELL = 144
GAP = 8
FONT_SIZE, LINE, LINES = 12, 15, 3
HEADING = 28


def chosen(records: Sequence[Record], split: str, count: int, without: Sequence[str] = ()) -> list[str]:
    """The prompts, name and style, of the `count` drawings of a split that the hash puts first.

    Only the benchmark's names take part, each once, and none of the prompts in `without`.
    """
    taken = {prompt.split(",")[0] for prompt in without}
    candidates = sorted(
        (record for record in records if record.facts.get("split") == split and plain(record)),
        key=lambda record: fraction("sheet", str(record.facts["style"]), str(record.facts["hexcode"])),
    )
    prompts: list[str] = []
    for record in candidates:
        noun = named(str(record.facts["name"]))
        if noun not in taken and record.facts["hexcode"] in BENCHMARK and len(prompts) < count:
            taken.add(noun)
            prompts.append(f"{noun}, {STYLES[str(record.facts['style'])].tags[0]}")
    return prompts


def contact_sheet(paint: Callable[[Sequence[str]], list[Image.Image]], path: Path) -> Path:
    """Paint all 64 prompts and lay them out under three headings, as a PNG at `path`.

    `paint` gives one picture for each prompt, in order. Raises LimnerError when `path` cannot be written.
    """
    return _saved(laid_out(_painted(paint, PROMPTS)), path)


def full_sheet(paint: Callable[[Sequence[str]], list[Image.Image]], path: Path) -> Path:
    """The same of `EIGHT` of them, each picture as large as it is painted."""
    return _saved(beside(_painted(paint, EIGHT), EIGHT, columns=len(EIGHT) // 2), path)


def _painted(
    paint: Callable[[Sequence[str]], list[Image.Image]], prompts: Sequence[str]
) -> list[Image.Image]:
    pictures = paint(prompts)
    if len(pictures) != len(prompts):
        raise ValueError(f"paint: gave {len(pictures)} pictures for {len(prompts)} prompts; one for each")
    return pictures


def _saved(sheet: Image.Image, path: Path) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            sheet.save(part, format="PNG", optimize=True)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise LimnerError(f"cannot write the contact sheet {path}: {error.strerror or error}") from error
    return path


def laid_out(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of the 64 prompts in rows of eight, each with its prompt below."""
    width, height = CELL + GAP, CELL + LINE * LINES + GAP
    rows = len(PROMPTS) // COLUMNS
    sheet = Image.new("RGB", (COLUMNS * width + GAP, rows * height + len(HEADINGS) * HEADING), "white")
    pen = ImageDraw.Draw(sheet)
    small, large = ImageFont.load_default(size=FONT_SIZE), ImageFont.load_default(size=FONT_SIZE + 3)
    for number, (prompt, picture) in enumerate(zip(PROMPTS, pictures, strict=True)):
        row, column = divmod(number, COLUMNS)
        above = [words for first, words in HEADINGS if first <= number]
        x, y = GAP + column * width, row * height + len(above) * HEADING
        if column == 0 and number in dict(HEADINGS):
            pen.text((GAP, y - HEADING + 7), above[-1], fill="black", font=large)
        sheet.paste(picture.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS), (x, y))
        lines = textwrap.wrap(prompt, 24, max_lines=LINES, placeholder="…")
        pen.multiline_text((x, y + CELL + 1), "\n".join(lines), fill=(60, 60, 60), font=small, spacing=2)
    return sheet
