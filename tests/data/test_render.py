"""Drawings become square pictures: centred, with a margin, nothing resampled, nothing let in."""

import io

import numpy as np
import pytest
from PIL import Image

from limner.data.render import MARGIN, ZOOM, Drawing, render, reopen, save, small, stamp

pytest.importorskip("resvg_py")

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'


def svg(body: str, head: str = HEAD) -> Drawing:
    return Drawing(svg=f"{head}{body}</svg>")


def bitmap(box: tuple[int, int, int, int], size: tuple[int, int] = (100, 100)) -> Drawing:
    picture = Image.new("RGBA", size)
    picture.paste((200, 30, 30, 255), box)
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", lossless=True)
    return Drawing(bitmap=stream.getvalue())


def ink(picture: Image.Image) -> tuple[int, int, int, int]:
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > 127 else 0).getbbox()
    assert box is not None
    return box


DRAWINGS = [
    svg('<rect x="2" y="4" width="26" height="20" fill="red"/>'),
    svg('<circle cx="14" cy="17" r="13" fill="blue"/>'),
    svg('<rect x="-2" y="4" width="26" height="20" fill="red"/>'),
    svg('<rect x="110" y="60" width="70" height="90"/>', '<svg viewBox="100 50 100 100" width="10mm">'),
    bitmap((5, 20, 92, 80)),
]


@pytest.mark.parametrize("drawing", DRAWINGS)
@pytest.mark.parametrize("size", [48, 64, 200])
def test_ink_is_centred_within_the_margin(drawing: Drawing, size: int) -> None:
    picture = render(drawing, size)
    assert (picture.mode, picture.size) == ("RGBA", (size, size))
    x0, y0, x1, y1 = ink(picture)
    # The first look is 96 pixels wide: half of one of its pixels is what the aim can be off by.
    slack = 1 + size / 96
    assert abs((x0 + x1) / 2 - size / 2) <= slack
    assert abs((y0 + y1) / 2 - size / 2) <= slack
    assert abs(max(x1 - x0, y1 - y0) - size * (1 - 2 * MARGIN)) <= 2 * slack


def test_a_small_square_stays_smaller_than_a_large_one() -> None:
    tiny = render(svg('<rect x="14" y="14" width="4" height="4"/>'), 320)
    x0, y0, x1, y1 = ink(tiny)
    assert x1 - x0 == pytest.approx(40 * ZOOM, abs=2)
    assert y1 - y0 == pytest.approx(40 * ZOOM, abs=2)


def test_ink_beyond_the_canvas_stays_unseen() -> None:
    # Half of this bar lies outside the canvas; drawn again with a margin it must not come in.
    picture = np.asarray(render(svg('<rect x="-30" y="10" width="60" height="12" fill="red"/>'), 320))
    width = ink(Image.fromarray(picture))[2] - ink(Image.fromarray(picture))[0]
    height = ink(Image.fromarray(picture))[3] - ink(Image.fromarray(picture))[1]
    assert width / height == pytest.approx(30 / 12, rel=0.02)


def test_shades_and_opacity_are_kept() -> None:
    drawing = svg('<rect x="1" y="1" width="30" height="30" fill="#4080c0" fill-opacity="0.5"/>')
    assert np.asarray(render(drawing, 64))[32, 32] == pytest.approx([0x40, 0x80, 0xC0, 128], abs=2)


def test_edges_do_not_darken() -> None:
    # Mixing colours without weighing them by alpha would let black seep in from the invisible ground.
    picture = np.asarray(render(bitmap((5, 20, 92, 80)), 61))
    seen = picture[picture[..., 3] > 64][:, :3]
    assert (seen.astype(int) - [200, 30, 30]).min() >= -8
    assert np.abs(small(Image.fromarray(picture), 16)[8, 8, :3].astype(int) - [200, 30, 30]).max() <= 3


@pytest.mark.parametrize(
    "drawing",
    [
        svg(""),
        Drawing(svg="no drawing at all"),
        Drawing(svg='<svg width="0" height="0"></svg>'),
        svg("<rect"),
        bitmap((0, 0, 0, 0)),
    ],
)
def test_what_cannot_be_drawn_is_a_value_error(drawing: Drawing) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        render(drawing, 32)


def test_saved_pictures_are_known_again(tmp_path) -> None:
    picture = render(DRAWINGS[0], 32)
    path = tmp_path / "deep" / "one.png"
    save(picture, path, "set@1")
    assert [file.name for file in path.parent.iterdir()] == ["one.png"]
    with Image.open(path) as opened:
        assert opened.info["Source"] == stamp("set@1")
    found = reopen(path, 32, "set@1")
    assert found is not None
    assert found.tobytes() == picture.tobytes()


def test_another_size_package_or_a_broken_file_is_painted_again(tmp_path) -> None:
    path = tmp_path / "one.png"
    assert reopen(path, 32, "set@1") is None
    save(render(DRAWINGS[0], 32), path, "set@1")
    assert reopen(path, 64, "set@1") is None
    assert reopen(path, 32, "set@2") is None
    whole = path.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:cut])
        assert reopen(path, 32, "set@1") is None
    path.write_bytes(whole[:80] + bytes(30) + whole[110:])
    assert reopen(path, 32, "set@1") is None
