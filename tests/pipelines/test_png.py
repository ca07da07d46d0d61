"""Pictures on disk: they remember how they were painted, and are whole or not there."""

import hashlib
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.errors import LimnerError
from limner.pipelines.png import contact_sheet, encode_png, save_png

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
# PNG's international text holds all of Unicode but NUL; surrogates are not Unicode at all.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


@given(TEXT, TEXT)
def test_metadata_comes_back_word_for_word(prompt, settings):
    import io

    data = encode_png(PICTURE, {"prompt": prompt, "settings": settings})
    with Image.open(io.BytesIO(data)) as image:
        assert image.text == {"prompt": prompt, "settings": settings}
        assert image.convert("RGB").tobytes() == PICTURE.tobytes()


def test_the_same_picture_is_the_same_bytes():
    once, again = (hashlib.sha256(encode_png(PICTURE, {"prompt": "梨"})).digest() for _ in range(2))
    assert once == again


def test_folders_are_made_and_files_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "pear.png"
    save_png(Image.new("RGB", (8, 8)), path, {"prompt": "old"})
    save_png(PICTURE, path, {"prompt": "new"})
    with Image.open(path) as image:
        assert image.text == {"prompt": "new"}
    assert os.listdir(path.parent) == ["pear.png"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    (tmp_path / "pear.png").mkdir()
    (tmp_path / "pear.png" / "x").touch()
    with pytest.raises(LimnerError, match=r"^cannot write .*pear\.png: .*give another place"):
        save_png(PICTURE, tmp_path / "pear.png", {})
    assert os.listdir(tmp_path) == ["pear.png"]
    with pytest.raises(LimnerError, match=r"^cannot write"):
        save_png(PICTURE, tmp_path / "pear.png" / "x" / "y.png", {})
    assert os.listdir(tmp_path / "pear.png") == ["x"]


@pytest.mark.parametrize(
    ("count", "columns", "across"), [(1, None, 1), (4, None, 2), (5, None, 3), (3, 3, 3)]
)
def test_a_sheet_shows_every_picture_whole_and_in_order(count, columns, across):
    shades = [Image.new("RGB", (32, 32), (40 * k, 0, 255)) for k in range(count)]
    sheet = np.asarray(contact_sheet(shades, ["a pear"] * count, columns=columns))
    # Blue is in the pictures alone: white and black have as much red as blue.
    seen = [
        k for k in range(count) for _ in range(int(np.all(sheet == (40 * k, 0, 255), axis=-1).sum()) // 1024)
    ]
    assert seen == [*range(count)]
    rows, places = np.nonzero(np.all(sheet == (0, 0, 255), axis=-1))
    assert (rows.min(), places.min()) == (8, 8)
    assert sheet.shape[1] == across * 40 + 8


def test_a_sheet_cuts_captions_that_do_not_fit_and_writes_the_rest():
    plain = np.asarray(contact_sheet([PICTURE.resize((96, 96))], [""]))
    short = np.asarray(contact_sheet([PICTURE.resize((96, 96))], ["a pear"]))
    long = np.asarray(contact_sheet([PICTURE.resize((96, 96))], ["pear " * 200 + "x" * 500]))
    assert plain.shape == short.shape == long.shape
    assert (short != plain).any()
    # Nothing is written into the margins.
    assert (long[:, -8:] == 255).all()
    with pytest.raises(ValueError, match=r"^images and captions are 1 and 2"):
        contact_sheet([PICTURE], ["a", "b"])
    with pytest.raises(ValueError, match=r"^images and captions are 0 and 0"):
        contact_sheet([], [])
