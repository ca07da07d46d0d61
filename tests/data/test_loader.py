"""Galleries: pixels and records stay aligned whatever is broken, and pictures lie as one sees them."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from limner.data import loader
from limner.data.folder import unreadable
from limner.data.loader import open_gallery, squared
from limner.errors import LimnerError

SHADES = {"a": 10, "b": 20, "c": 30, "d": 40}


def captioned(path: Path, picture: Image.Image, caption: str | None = None, **more: object) -> Path:
    picture.save(path, **more)
    path.with_suffix(".txt").write_text(caption or f"a {path.stem}")
    return path


def stunted(path: Path) -> Path:
    """Cut a PNG's pixels short and keep its checksums right, as a program with a full disk may."""
    whole, at, out = path.read_bytes(), 8, path.read_bytes()[:8]
    while at < len(whole):
        length, kind = struct.unpack(">I4s", whole[at : at + 8])
        body = whole[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            body = body[: len(body) // 2]
        out += struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))
        at += 12 + length
    path.write_bytes(out)
    return path


@pytest.fixture
def shades(tmp_path) -> Path:
    """Four flat pictures, each of a shade of its own."""
    for name, shade in SHADES.items():
        captioned(tmp_path / f"{name}.png", Image.new("RGB", (16, 16), (shade,) * 3))
    return tmp_path


def shown(folder: Path) -> dict[str, int]:
    """What a gallery of the folder shows under each picture's name."""
    gallery = open_gallery([folder], size=8)
    assert len(gallery.pixels) == len(gallery.records) == len(gallery.weights) == len(gallery.opaque)
    return {r.file.stem: int(p[0, 0, 0]) for r, p in zip(gallery.records, gallery.pixels, strict=True)}


def test_a_stunted_picture_is_named_and_left_out_each_time(shades) -> None:
    noise = Image.effect_noise((16, 16), 80)
    noise.save(shades / "b.png")
    path = stunted(shades / "b.png")
    assert unreadable(path) is None  # else this test would prove nothing
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match=r"1 pictures skipped, such as .*b\.png \(it cannot be decoded"):
            assert shown(shades) == {name: shade for name, shade in SHADES.items() if name != "b"}
    assert not [*(shades / ".limner").glob("*.partial")]


def test_the_reason_is_kept_where_the_folder_cannot_be_written(shades) -> None:
    Image.effect_noise((16, 16), 80).save(shades / "b.png")
    stunted(shades / "b.png")
    (shades / ".limner").write_text("in the way")
    with pytest.warns(UserWarning, match=r"b\.png \(it cannot be decoded"):
        assert shown(shades) == {name: shade for name, shade in SHADES.items() if name != "b"}


def test_nothing_but_stunted_pictures(tmp_path) -> None:
    stunted(captioned(tmp_path / "a.png", Image.effect_noise((16, 16), 80)))
    for _ in range(2):
        with pytest.raises(
            LimnerError, match=r"can be trained on.*a\.png \(it cannot be decoded.*data check"
        ):
            open_gallery([tmp_path], size=8)


def test_pixels_without_the_word_that_they_are_whole_are_read_again(shades) -> None:
    shown(shades)
    (kept,) = (shades / ".limner").glob("*.npy")
    (word,) = (shades / ".limner").glob("*.json")
    np.save(kept, np.zeros_like(np.load(kept)))
    assert set(shown(shades).values()) == {0}  # what is kept is what is shown
    word.unlink()
    assert shown(shades) == SHADES


def test_a_failure_leaves_no_partial_file(shades, monkeypatch) -> None:
    def full(*_: object, total: int) -> None:  # noqa: ARG001 (it stands in for watched)
        raise OSError("no space left")

    monkeypatch.setattr(loader, "watched", full)
    with pytest.raises(OSError, match="no space left"):
        open_gallery([shades], size=8)
    assert [*(shades / ".limner").iterdir()] == []


@pytest.mark.parametrize("caption", [None, " "])
def test_a_folder_without_captions_says_so_and_stays_as_it_is(tmp_path, caption) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    if caption is not None:
        (tmp_path / "a.txt").write_text(caption)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LimnerError, match=r"^no picture in .* has a caption: put a \.txt"):
        open_gallery([tmp_path], size=8)
    assert sorted(tmp_path.iterdir()) == before


def test_an_absent_split_leaves_the_folder_as_it_is(tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("file,caption,split\na.png,a,train\n")
    with pytest.raises(LimnerError, match="no pictures of the split concept"):
        open_gallery([tmp_path], size=8, splits=("concept",))
    assert not (tmp_path / ".limner").exists()


@pytest.mark.parametrize("side", [16, 25])
def test_margins_are_white_under_opaque_pictures_and_clear_under_others(side) -> None:
    wide = Image.new("RGB", (80, 40), "red")
    pixels = squared(wide, side)
    assert (pixels[..., 3] == 255).all()
    assert (pixels[0] == 255).all()
    assert tuple(pixels[side // 2, 0]) == (255, 0, 0, 255)
    hole = wide.convert("RGBA")
    hole.putpixel((40, 20), (0, 0, 0, 0))
    assert (squared(hole, side)[0, :, 3] == 0).all()


def test_an_opaque_picture_has_no_ground_in_its_captions(tmp_path) -> None:
    captioned(tmp_path / "a.jpg", Image.new("RGB", (80, 40), "red"))
    gallery = open_gallery([tmp_path], size=16)
    assert gallery.opaque.all()
    assert set(gallery.draw(seed=0, step=0, rows=range(50)).captions) == {"a a"}


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_sideways_photos_are_turned(tmp_path, ending) -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    picture = Image.new("RGB", (32, 32), "red")
    picture.paste("blue", (16, 0, 32, 32))
    captioned(tmp_path / f"a.{ending}", picture, exif=turned)
    pixels = open_gallery([tmp_path], size=32).pixels[0].astype(int)
    assert (pixels[2, :, 0] > 200).all()
    assert (pixels[-3, :, 2] > 200).all()


def test_broken_exif_costs_no_picture(tmp_path) -> None:
    captioned(tmp_path / "a.png", Image.new("RGB", (8, 8), "red"), exif=b"Exif\0\0garbage!garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gallery = open_gallery([tmp_path], size=8)
    assert gallery.pixels[0, 0, 0].tolist() == [255, 0, 0, 255]
