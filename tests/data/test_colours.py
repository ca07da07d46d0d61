"""Colours get the names that people give them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.data.colours import GROUNDS, NAMES, dominant_colours, oklab, shares
from limner.data.folder import Record, read
from limner.data.sample import TRAIN_STYLES, sample_dir

FLAT = {
    (255, 0, 0): "red",
    (255, 128, 0): "orange",
    (255, 230, 40): "yellow",
    (0, 160, 0): "green",
    (0, 140, 140): "teal",
    (20, 60, 230): "blue",
    (120, 40, 170): "purple",
    (255, 130, 180): "pink",
    (110, 70, 45): "brown",
    (240, 222, 185): "beige",
    (5, 5, 5): "black",
    (128, 128, 128): "grey",
    (252, 252, 252): "white",
}


def patch(*paints: tuple[int, int, int], alpha: int = 255) -> np.ndarray:
    """A picture of equally wide stripes."""
    stripes = [np.full((16, 16, 4), (*paint, alpha), np.uint8) for paint in paints]
    return np.concatenate(stripes, 1)


@pytest.mark.parametrize(("paint", "name"), FLAT.items())
def test_flat_patches(paint: tuple[int, int, int], name: str) -> None:
    assert dominant_colours(patch(paint)) == [name]


def test_every_basic_colour_is_reached() -> None:
    assert set(FLAT.values()) == set(NAMES)


def test_largest_area_first_and_small_areas_unsaid() -> None:
    picture = patch((255, 0, 0), (255, 0, 0), (0, 160, 0))
    picture[0, :3] = (20, 60, 230, 255)
    assert dominant_colours(picture) == ["red", "green"]
    assert dominant_colours(patch(*list(FLAT)[:6])) != []
    assert len(dominant_colours(patch(*list(FLAT)[:6]))) == 3


def test_invisible_pixels_have_no_colour() -> None:
    picture = patch((255, 0, 0), (0, 0, 255))
    picture[:, 16:, 3] = 0
    assert shares(picture) == pytest.approx({name: float(name == "red") for name in NAMES})
    assert dominant_colours(patch((255, 0, 0), alpha=0)) == []


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=6), st.integers(40, 255))
def test_shares_make_a_whole(paints: list[tuple[int, int, int]], alpha: int) -> None:
    found = shares(patch(*paints, alpha=alpha))
    assert sum(found.values()) == pytest.approx(1)
    named = dominant_colours(patch(*paints, alpha=alpha))
    assert named[0] == max(found, key=lambda name: found[name])
    assert 1 <= len(named) <= 3


def test_oklab_of_white_and_red() -> None:
    # Ottosson 2020 gives white as (1, 0, 0); red from his reference conversion.
    assert oklab(np.array([1.0, 1.0, 1.0])) == pytest.approx([1, 0, 0], abs=1e-6)
    assert oklab(np.array([1.0, 0.0, 0.0])) == pytest.approx([0.627955, 0.224863, 0.125846], abs=1e-6)


@pytest.fixture(scope="module")
def drawn() -> dict[tuple[str, str], Record]:
    records = read(sample_dir()).records
    return {(str(r.facts["style"]), str(r.facts["name"])): r for r in records}


@pytest.mark.parametrize("style", TRAIN_STYLES)
@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("red apple", "red"),
        ("green apple", "green"),
        ("evergreen tree", "green"),
        ("elephant", "grey"),
        ("grinning face", "yellow"),
        ("blue heart", "blue"),
        ("frog", "green"),
        ("sunflower", "yellow"),
    ],
)
def test_real_drawings(drawn: dict[tuple[str, str], Record], style: str, name: str, colour: str) -> None:
    record = drawn[style, name]
    with Image.open(record.file) as picture:
        found = dominant_colours(np.asarray(picture.convert("RGBA")))
    assert colour in found[:2]
    assert found[0] == record.facts["colours"][0]


def test_grounds_are_fourteen_different_colours() -> None:
    assert len(set(GROUNDS.values())) == len(GROUNDS) == 14


def test_the_shape_is_checked() -> None:
    with pytest.raises(ValueError, match="height, width, 4"):
        shares(np.zeros((4, 4, 3), np.uint8))
