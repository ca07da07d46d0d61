"""JPEG beside Pillow's, each degradation in closed form, and rows that do not know of each other."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.draws import Draws
from limner.layers import corruptions
from limner.layers.corruptions import blurred, degraded, jpeg


def pillow(pictures, quality):
    """The same through a real file."""
    rows = []
    for picture in pictures:
        levels = ((picture.permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling=0)
        rows.append(torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1) / 127.5 - 1)
    return torch.stack(rows)


def smooth(side=24):
    """Colours that run, as pictures have them, and a hard edge."""
    across = torch.linspace(-1, 1, side)
    runs = torch.stack(
        [across.expand(side, side), across[:, None].expand(side, side), across.flip(0).expand(side, side)]
    )
    edge = runs.clone()
    edge[:, : side // 2, : side // 3] = torch.tensor([0.9, -0.2, -0.8])[:, None, None]
    return torch.stack([runs, edge])


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_jpeg_is_pillows(quality):
    pictures = smooth()
    ours = jpeg(pictures, torch.full((2,), float(quality)))
    theirs = pillow(pictures, quality)
    # Pillow transforms in whole numbers, so what lies between two steps may fall on either of them.
    apart, done = (ours - theirs).abs(), (theirs - pictures).abs()
    assert apart.mean() < 0.3 * done.mean()
    assert (apart * 127.5 > 2).float().mean() < 0.1


@given(st.integers(1, 19), st.integers(1, 19))
def test_jpeg_keeps_any_size_and_plain_grey(height, width):
    plain = torch.full((1, 3, height, width), 0.25)
    back = jpeg(plain, torch.tensor([90.0]))
    assert back.shape == plain.shape
    assert (back - plain).abs().max() <= 3 / 127.5


def test_rows_are_degraded_each_for_itself():
    pictures = smooth().repeat(8, 1, 1, 1)
    seeds = list(range(16))
    whole = degraded(pictures, Draws(seeds))
    for row in (0, 5, 11):
        alone = degraded(pictures[row : row + 1], Draws(seeds[row : row + 1]))
        torch.testing.assert_close(alone[0], whole[row], atol=1e-5, rtol=0)
    assert whole.abs().max() <= 1
    # No two of the same picture come out alike, and none as it went in.
    assert all((whole[i] - whole[j]).abs().max() > 0.01 for i in range(0, 16, 2) for j in range(0, i, 2))
    assert ((whole - pictures).abs().amax(dim=(1, 2, 3)) > 0.01).all()


def test_degradations_at_their_weakest_leave_a_picture(monkeypatch):
    for name, nothing in (
        ("BLUR", (0.05, 0.05)),
        ("SHRUNK", (1.0, 1.0)),
        ("NOISE", (0.0, 0.0)),
        ("QUALITY", (100.0, 100.0)),
    ):
        monkeypatch.setattr(corruptions, name, nothing)
    pictures = smooth()
    assert (degraded(pictures, Draws([1, 2])) - pictures).abs().max() < 4 / 127.5


def test_half_precision_around_it_changes_nothing():
    pictures = smooth()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = degraded(pictures, Draws([1, 2]))
    torch.testing.assert_close(inside, degraded(pictures, Draws([1, 2])))


def test_no_blur_is_no_blur():
    assert torch.equal(blurred(smooth(), 0.0), smooth())
