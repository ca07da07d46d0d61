"""`limner paint --model glide`, `limner inpaint` and `limner redraw`: refused, painted, saved, printed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.cli import main
from limner.cli.glide import box_of
from limner.pipelines.pictures import fingerprint, open_picture


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command in an empty folder, in this process: status, lines on stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return command


@pytest.fixture
def refuses(run, tmp_path):
    """One line on stderr, nothing on stdout, status 2, and nothing left behind."""

    def check(*arguments):
        there = sorted(os.listdir(tmp_path))
        status, out, errors = run(*arguments)
        assert (status, out, errors.count("\n")) == (2, [], 1), errors
        assert sorted(os.listdir(tmp_path)) == there
        return errors.removeprefix("limner: ").rstrip("\n")

    return check


@pytest.fixture
def weights(glide_line):
    return ("--weights", glide_line, "--device", "cpu", "--steps", "2")


@pytest.fixture
def room(tmp_path):
    """A picture of 64×64 pixels, which is what the tiny line enlarges to."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "room.png")
    return Path("room.png")


def test_paint(run, weights):
    status, out, errors = run(
        *("paint", "a pear", "two fish", "--model", "glide", "--guidance-kind", "both", "--count", "2"),
        *("--precision", "bf16", *weights),
    )
    assert (status, errors) == (0, "")
    assert [Path(path).name for path in out] == [
        "a-pear-seed0-1.png",
        "a-pear-seed1-2.png",
        "two-fish-seed0-1.png",
        "two-fish-seed1-2.png",
    ]
    with Image.open(out[0]) as picture:
        assert picture.size == (64, 64)
        told = json.loads(picture.text["settings"])
    assert (told["guidance_kind"], told["steps"], told["precision"]) == ("both", 2, "bf16")


def test_options_of_other_painters_are_refused(refuses, weights):
    paint = ("paint", "a pear", "--model", "glide")
    assert refuses(*paint, "--top-k", 3) == (
        "top_k is 3, of which only dalle1 and dalle_mini know: leave it out, or add --model dalle1"
    )
    assert refuses("paint", "a pear", "--clip-guidance", 3).startswith(
        "clip_guidance is 3.0, of which only glide knows"
    )
    assert refuses(*paint, "--clip-guidance", 3).startswith("clip_guidance is 3.0, but CLIP does not guide")
    assert refuses(*paint, "--guidance", 3, "--guidance-kind", "clip").startswith(
        "guidance is 3.0, but CLIP alone guides"
    )
    assert refuses(*paint, "--guidance", 101, *weights).startswith("guidance is 101.0: give a number")
    assert refuses("paint", "a pear", "--model", "dalle1", "--precision", "bf16") == (
        "precision is 'bf16': dalle1 has no U-Net, so leave it out"
    )


def test_a_box_is_painted_and_all_else_kept(run, weights, room):
    status, out, errors = run("inpaint", room, "8,16,40,56", "a pear", "--out", "new.png", *weights)
    assert (status, out, errors) == (0, ["new.png"], "")
    before = np.asarray(open_picture(room).convert("RGB"))
    with Image.open("new.png") as picture:
        after, told = np.asarray(picture.convert("RGB")), picture.text
    known = np.ones((64, 64), dtype=bool)
    known[16:56, 8:40] = False
    assert (before[known] == after[known]).all()
    assert (before[~known] != after[~known]).any()
    assert told["inpaints"] == fingerprint(open_picture(room))
    assert told["prompt"] == "a pear"
    assert told["mask"] == "8,16,40,56"


def test_masks_from_alpha_and_from_black_and_white_are_one(run, weights, room):
    cut = open_picture(room)
    cut.putalpha(255)
    alpha = Image.new("L", (64, 64), 255)
    alpha.paste(0, (8, 16, 40, 56))
    cut.putalpha(alpha)
    cut.save("cut.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (8, 16, 40, 56))
    mask.save("mask.png")
    made = []
    for given in (("cut.png", "cut.png"), (room, "mask.png"), (room, "8,16,40,56")):
        status, out, _ = run("inpaint", *given, "a pear", "--count", "2", *weights)
        assert status == 0
        assert len(out) == 2
        with Image.open(out[1]) as picture:
            made.append(np.asarray(picture.convert("RGB")))
    assert (made[0] == made[1]).all()
    assert (made[1] == made[2]).all()


def test_what_cannot_be_inpainted_is_refused(refuses, weights, room):
    def said(*arguments):
        return refuses("inpaint", *arguments, *weights)

    assert said("none.png", "0,0,5,5", "a pear").startswith("no picture at none.png")
    assert said(room, "none.png", "a pear").startswith("no picture at none.png")
    assert said(room, "0,0,5,x", "a pear").startswith("mask is '0,0,5,x': give a picture, or a box")
    assert said(room, "0,0,5,99", "a pear").startswith("mask is the box 0,0,5,99, and the picture has 64×64")
    assert said(room, "0,0,64,64", "a pear").startswith("mask is white (or transparent) throughout")
    assert said(room, "0,0,5,5", " ").startswith("prompt is ' ', without a word")
    assert said(room, "0,0,5,5", "a pear", "--size", 100).startswith("size is 100: choose 16 or 64")


def test_a_box_is_four_numbers_and_anything_else_a_path():
    assert box_of("1,2,3,4") == (1, 2, 3, 4)
    assert box_of("a,b.png") is None
    assert box_of("mask.png") is None


def test_redraw(run, refuses, weights, room):
    status, out, errors = run("redraw", room, "a pear", "--strength", "0.4", "--count", "2", *weights)
    assert (status, len(out), errors) == (0, 2, "")
    with Image.open(out[0]) as picture:
        assert picture.text["strength"] == "0.4"
        assert picture.text["redraws"] == fingerprint(open_picture(room))
    assert refuses("redraw", room, "a pear", "--strength", "0").startswith("strength is 0.0: give a number")
    assert refuses("redraw", "none.png", "a pear").startswith("no picture at none.png")
