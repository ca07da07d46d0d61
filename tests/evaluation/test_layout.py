"""Where things lie and what colour they have, in pictures that are made so."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from limner.data.colours import GROUNDS
from limner.evaluation.layout import (
    colour_of,
    connected,
    cut_out,
    ground_name,
    nearest,
    relation,
    things,
)

RED, GREEN, BLUE = (229, 57, 53), (76, 175, 80), (33, 150, 243)


def scene(*discs: tuple[float, float, float, tuple[int, int, int]], ground: str = "white") -> Image.Image:
    """Discs (centre across and down, radius, colour) in a picture of 64 pixels."""
    picture = Image.new("RGB", (64, 64), GROUNDS[ground])
    pen = ImageDraw.Draw(picture)
    for x, y, r, colour in discs:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    return picture


@pytest.mark.parametrize("ground", GROUNDS)
def test_every_named_ground_is_told_from_the_others(ground: str):
    assert ground_name(scene((32, 32, 20, RED), ground=ground)) == ground


def test_an_empty_picture_has_nothing_in_it():
    assert things(scene()) == []
    # Nor has one with a speck.
    assert things(scene((32, 32, 1, RED))) == []


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_things_are_counted(count: int):
    centres = [(16, 16), (48, 16), (16, 48), (48, 48)][:count]
    assert len(things(scene(*[(x, y, 12, GREEN) for x, y in centres]))) == count


def test_small_pieces_belong_to_the_nearest_thing():
    picture = scene((16, 40, 11, RED), (48, 40, 12, BLUE), (16, 18, 3, RED))
    blue, red = things(picture)
    assert colour_of(picture, blue) == "blue"
    assert colour_of(picture, red) == "red"
    # The dot is part of the red thing, whose box reaches up to it.
    assert red.mask[18, 16]
    assert red.down < blue.down


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((16, 32), (48, 34), "to the left of"),
        ((48, 32), (16, 34), "to the right of"),
        ((30, 16), (34, 48), "above"),
        ((30, 48), (34, 16), "below"),
    ],
)
def test_relations(first: tuple[int, int], second: tuple[int, int], expected: str):
    large, small = things(scene((*first, 12, RED), (*second, 10, BLUE)))
    assert relation(large, small) == expected


def test_a_recoloured_thing_has_another_colour():
    for colour, name in ((RED, "red"), (GREEN, "green"), (BLUE, "blue")):
        picture = scene((32, 32, 20, colour), ground="yellow")
        assert colour_of(picture, things(picture)[0]) == name


def test_a_thing_is_cut_out_alone_and_on_white():
    picture = scene((16, 16, 12, RED), (48, 48, 11, BLUE), ground="dark blue")
    alone = cut_out(picture, things(picture)[0])
    assert alone.width == alone.height == round(25 * 1.12)
    assert {colour for _, colour in alone.getcolors() or []} == {RED, (255, 255, 255)}


def test_parts_hang_together_by_corners():
    drawn = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool)
    labels = connected(drawn)
    assert labels[0, 0] == labels[1, 1]
    assert len({*labels[drawn].tolist()}) == 3
    assert not labels[~drawn].any()


def test_the_nearest_is_met_first():
    masks = [np.zeros((9, 9), bool) for _ in range(3)]
    masks[0][4, 4] = masks[1][0, 0] = masks[2][4, 7] = True
    assert nearest(masks[0], masks[1:]) == 1
    assert nearest(masks[0], masks[:0:-1]) == 0
