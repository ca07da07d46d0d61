from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from limner.data.captions import STYLES
from limner.data.folder import Record
from limner.errors import LimnerError
from limner.evaluation.names import BENCHMARK
from limner.evaluation.sheet import (
    CELL,
    COLUMNS,
    COMPOSED,
    EIGHT,
    GAP,
    KNOWN,
    PROMPTS,
    UNSEEN,
    chosen,
    contact_sheet,
    full_sheet,
)


def shade(number: int) -> tuple[int, int, int]:
    return (3 * number, 255 - 3 * number, 40)


def paint(prompts: Sequence[str]) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), shade(prompts.index(prompt))) for prompt in prompts]


def test_the_sheet_is_what_it_says():
    assert (len(KNOWN), len(UNSEEN), len(COMPOSED)) == (32, 16, 16)
    assert len(set(PROMPTS)) == 64
    tags = {style.tags[0] for style in STYLES.values()}
    nouns = [prompt.split(", ")[0] for prompt in KNOWN + UNSEEN]
    assert len(set(nouns)) == 48
    assert all(prompt.split(", ")[1] in tags for prompt in KNOWN + UNSEEN)


def test_eight_are_laid_out_as_large_as_they_are(tmp_path: Path):
    assert len(EIGHT) == 8
    assert PROMPTS[8:64:8] == EIGHT[1:]
    with Image.open(full_sheet(paint, tmp_path / "full.png")) as opened:
        sheet = opened.convert("RGB")
    found = sheet.getcolors(sheet.width * sheet.height)
    assert found is not None
    pixels = {colour: count for count, colour in found}
    assert [pixels[shade(number)] for number in range(8)] == [32 * 32] * 8
    with pytest.raises(ValueError, match="gave 0 pictures for 8 prompts"):
        full_sheet(lambda _: [], tmp_path / "none.png")


def test_every_picture_is_in_its_place(tmp_path: Path):
    path = contact_sheet(paint, tmp_path / "deep" / "sheet.png")
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]
    with Image.open(path) as opened:
        sheet = opened.convert("RGB")
    colours = [
        (round(x / (CELL + GAP)), y)
        for x in range(GAP + CELL // 2, sheet.width, CELL + GAP)
        for y in range(sheet.height)
        if sheet.getpixel((x, y)) == shade(0)
    ]
    assert colours
    found = {sheet.getpixel((x, y)) for x in range(0, sheet.width, 8) for y in range(0, sheet.height, 8)}
    assert {shade(number) for number in range(64)} <= found
    # Read row by row, as the prompts stand.
    centres = []
    for number in range(64):
        column = number % COLUMNS
        x = GAP + column * (CELL + GAP) + CELL // 2
        ys = [y for y in range(0, sheet.height, 4) if sheet.getpixel((x, y)) == shade(number)]
        centres.append(sum(ys) / len(ys))
    rows = [centres[start : start + COLUMNS] for start in range(0, 64, COLUMNS)]
    assert all(len(set(row)) == 1 for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_too_few_pictures_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="63 pictures"):
        contact_sheet(lambda prompts: paint(prompts)[:-1], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LimnerError, match="cannot write"):
        contact_sheet(paint, tmp_path / "file" / "sheet.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(LimnerError, match="cannot write"):
        contact_sheet(paint, tmp_path / "taken.png")
    assert not list(tmp_path.glob(".*"))


def test_prompts_are_chosen_by_hash_alone():
    records = [
        Record(
            Path("x.png"),
            ("x",),
            {
                "hexcode": hexcode,
                "name": f"thing {hexcode}",
                "style": style,
                "group": "objects",
                "split": split,
            },
        )
        for style, split in (("noto", "train"), ("twemoji", "train"), ("fluent-3d", "pair"))
        for hexcode in BENCHMARK[:60]
    ]
    first = chosen(records, "train", 32)
    assert len(set(first)) == len(first) == 32
    assert chosen(records[::-1], "train", 32) == first
    assert {prompt.split(", ")[1] for prompt in first} == {"Noto style", "Twemoji style"}
    pairs = chosen(records, "pair", 16, without=first)
    assert {prompt.split(", ")[1] for prompt in pairs} == {"3D style"}
    assert {p.split(", ")[0] for p in pairs}.isdisjoint(p.split(", ")[0] for p in first)
