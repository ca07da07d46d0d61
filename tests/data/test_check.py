"""A report on a folder: it counts right, finds what is there twice, and draws what it saw."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageEnhance
from rich.console import Console

from limner.data.check import check
from limner.data.folder import unusable, upright
from limner.data.sample import sample_dir
from limner.errors import LimnerError


@pytest.fixture
def folder(tmp_path) -> Path:
    """A cat twice, a dimmed one, a dog, a broken file and one without a caption."""
    source = tmp_path / "own"
    source.mkdir()
    scene = Image.effect_mandelbrot((90, 60), (-2.2, -1.2, 1.0, 1.2), 60).convert("RGB")
    scene.save(source / "cat.png")
    scene.save(source / "cat_again.png")
    ImageEnhance.Brightness(scene).enhance(0.99).save(source / "cat_dimmed.png")
    dog = Image.new("RGB", (40, 40), "white")
    ImageDraw.Draw(dog).polygon([(3, 30), (20, 2), (38, 36)], fill="brown")
    dog.save(source / "dog.png")
    (source / "broken.png").write_text("no")
    dog.rotate(90).save(source / "silent.png")
    rows = [{"file": f"{n}.png", "captions": [f"a {n}", f"a {n} on a mat"]} for n in ("cat", "dog", "broken")]
    rows += [{"file": f"cat_{n}.png", "caption": "the cat"} for n in ("again", "dimmed")]
    (source / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return source


def test_counts(folder) -> None:
    report = check(folder)
    assert (report.pictures, report.captions) == (4, 6)
    assert report.sizes == {"90x60": 3, "40x40": 1}
    assert report.words == (2, 2.0, 5)
    assert report.vocabulary == len({"a", "cat", "dog", "on", "mat", "the"})
    assert {problem.path.name for problem in report.problems} == {"broken.png", "silent.png"}
    assert not report.ok
    assert report.sheet is None
    assert report.splits == {}


def test_duplicates_exact_and_near(folder) -> None:
    report = check(folder)
    assert [{path.name for path in group} for group in report.exact] == [{"cat.png", "cat_again.png"}]
    assert [{path.name for path in group} for group in report.near] == [
        {"cat.png", "cat_again.png", "cat_dimmed.png"}
    ]


def test_the_contact_sheet_shows_the_pictures(folder, tmp_path) -> None:
    out = tmp_path / "sheet.png"
    assert check(folder, out).sheet == out
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        colours = sheet.convert("RGB").getcolors(1 << 20)
    assert any(colour == (165, 42, 42) and count > 1000 for count, colour in colours)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_sideways_pictures_are_seen_upright(tmp_path) -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (20, 0, 40, 20))
    picture.save(tmp_path / "a.png", exif=turned)
    (tmp_path / "a.txt").write_text("red over blue")
    out = tmp_path / "sheet" / "sheet.png"
    out.parent.mkdir()
    assert check(tmp_path, out).sizes == {"20x40": 1}
    with Image.open(out) as sheet:
        assert sheet.getpixel((4 + 64, 4 + 30)) == (255, 0, 0)
        assert sheet.getpixel((4 + 64, 4 + 98)) == (0, 0, 255)


@pytest.mark.parametrize("caption", [None, " "])
def test_a_folder_without_captions_is_told_what_to_do(tmp_path, caption) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    if caption is not None:
        (tmp_path / "a.txt").write_text(caption)
    report, stream = check(tmp_path), io.StringIO()
    report.print(Console(file=stream, width=200))
    assert "words a caption" not in stream.getvalue()
    assert unusable(tmp_path, report.problems).startswith(
        f"no picture in {tmp_path} has a caption: put a .txt"
    )


def test_ten_are_named_and_all_where_that_is_asked_for(tmp_path) -> None:
    for number in range(14):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")

    def named(**most: int | None) -> str:
        stream = io.StringIO()
        check(tmp_path).print(Console(file=stream, width=200), **most)
        return stream.getvalue()

    assert named().count("it has no caption") == 10
    assert "and 4 more: --all names them" in named()
    assert named(most=None).count("it has no caption") == 14


def test_files_of_other_kinds_are_counted(tmp_path) -> None:
    for name in ("a.HEIC", "b.heic", "c.avif", "notes", "a.txt", ".hidden.heic"):
        (tmp_path / name).write_text("a pear")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    report, stream = check(tmp_path), io.StringIO()
    assert dict(report.passed_over) == {".heic": 2, ".avif": 1, "without an ending": 1}
    report.print(Console(file=stream, width=200))
    assert "2 .heic, 1 .avif" in stream.getvalue()


def test_sixteen_bits_of_grey_are_not_white(tmp_path) -> None:
    deep = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode.startswith("I")
        seen = np.asarray(upright(opened).convert("RGB"))
    assert (seen[..., 0] == deep >> 8).all()
    # Turned all the same, and a dark one is as dark as it is.
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 3
    Image.fromarray(deep // 300).save(tmp_path / "b.png", exif=turned)
    with Image.open(tmp_path / "b.png") as opened:
        assert (np.asarray(upright(opened)) == (deep // 300 >> 8)[::-1, ::-1]).all()
    wide = Image.fromarray(np.array([[70_000, 300], [0, 1]], dtype=np.int32))
    wide.save(tmp_path / "c.tiff")
    with Image.open(tmp_path / "c.tiff") as opened:
        assert np.asarray(upright(opened)).tolist() == [[255, 1], [0, 0]]


def test_an_unwritable_sheet_is_one_line(folder, tmp_path) -> None:
    with pytest.raises(LimnerError, match="contact sheet"):
        check(folder, tmp_path / "nowhere" / "sheet.png")


def test_the_report_names_paths(folder) -> None:
    stream = io.StringIO()
    check(folder).print(Console(file=stream, width=200))
    said = stream.getvalue()
    for words in (
        "broken.png: it cannot be opened",
        "silent.png: it has no caption",
        "cat.png, cat_again.png",
    ):
        assert words in said
    assert "4" in said


def test_the_shipped_sample_is_clean() -> None:
    report = check(sample_dir())
    assert report.ok
    assert not report.exact
    assert report.sizes == {"64x64": report.pictures}
    assert report.splits["train"] > 300


def test_no_folder() -> None:
    with pytest.raises(LimnerError, match="there is no folder"):
        check(Path("nowhere at all"))
