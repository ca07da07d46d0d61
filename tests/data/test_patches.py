"""Pieces of large pictures: real pixels of theirs, on grounds, cut once, and never of what is too small."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from limner.data.patches import open_patches
from limner.errors import LimnerError


@pytest.fixture
def folder(tmp_path):
    """Two large pictures, one of them transparent, one small, one broken and one held out."""
    across = np.arange(96, dtype=np.uint8)
    ramp = np.stack(
        [np.tile(across, (96, 1)), np.tile(across[:, None], (1, 96)), np.full((96, 96), 7, np.uint8)], 2
    )
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    Image.new("RGBA", (96, 96), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.fromarray(ramp[:48, :48]).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "ramp.png").read_bytes()[:200])
    Image.new("RGB", (96, 96), (200, 0, 0)).save(tmp_path / "held.png")
    rows = [
        {"file": f"{n}.png", "caption": f"a {n}", "split": "train"}
        for n in ("ramp", "clear", "small", "broken")
    ]
    rows.append({"file": "held.png", "caption": "a held", "split": "concept"})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_pieces_are_where_they_were_and_only_of_large_pictures_of_the_split(folder):
    pieces = open_patches([folder], size=96, side=24, each=3)
    assert pieces.shape == (6, 24, 24, 3)
    ramp, clear = pieces[:3].astype(int), pieces[3:]
    # A ramp says where a piece was cut: it is an unbroken part of it.
    for piece in ramp:
        left, top = piece[0, 0, 0], piece[0, 0, 1]
        assert (piece[..., 0] == left + np.arange(24)).all()
        assert (piece[..., 1] == top + np.arange(24)[:, None]).all()
    assert len({(piece[0, 0, 0], piece[0, 0, 1]) for piece in ramp}) > 1
    # What is transparent shows its ground alone.
    assert all((piece == piece[0, 0]).all() for piece in clear)


def test_pieces_are_cut_once_and_again_when_pictures_change(folder):
    first = open_patches([folder], size=96, side=24, each=2)
    kept = list((folder / ".limner").iterdir())
    assert len(kept) == 1
    assert (open_patches([folder], size=96, side=24, each=2) == first).all()
    assert list((folder / ".limner").iterdir()) == kept
    Image.new("RGB", (96, 96), (0, 90, 0)).save(folder / "ramp.png")
    os.utime(folder / "ramp.png", ns=(1, 1))
    assert (open_patches([folder], size=96, side=24, each=2)[0] == [0, 90, 0]).all()


def test_a_folder_of_small_pictures_is_refused_with_what_to_do(folder):
    with pytest.raises(LimnerError, match=r"no picture in .* has 128 pixels a side.*--pixels 128"):
        open_patches([folder], size=128, side=24, each=2)


def test_folders_follow_one_another(folder):
    one = open_patches([folder], size=96, side=24, each=2)
    two = open_patches([folder, folder], size=96, side=24, each=2)
    assert (two == np.concatenate([one, one])).all()
