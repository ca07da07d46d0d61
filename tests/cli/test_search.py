"""`limner index` and `limner search` as they are run: what they print, write and refuse."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.cli import main
from limner.pipelines import find
from limner.pipelines.pictures import open_picture


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "in").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "in/c.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / name)

    def command(*arguments):
        status = main([*arguments, "--weights", str(line), "--device", "cpu"])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return command


def test_a_folder_is_indexed_once_and_searched(run, line):
    place = "mine/.limner/index.safetensors"
    assert run("index", "mine") == (0, [place, "3 pictures, 3 of them read now"], "")
    assert run("index", "mine") == (0, [place, "3 pictures, 0 of them read now"], "")
    found = find("a pear", Path("mine"), weights=line)
    status, lines, errors = run("search", "a pear", "--in", "mine")
    assert (status, errors) == (0, "")
    assert lines == [f"{one.score:.4f}  {one.path}" for one in found]
    assert run("search", "a pear", "--in", "mine", "--top", "2")[1] == lines[:2]
    assert run("search", "--like", "mine/b.png", "--in", "mine")[1][0].endswith("  mine/b.png")


def test_json_and_another_place_for_the_index(run, line):
    assert run("index", "mine", "--out", "kept/my.index")[1][0] == "kept/my.index"
    assert sorted(os.listdir("mine")) == ["a.png", "b.png", "in"]
    status, lines, _ = run("search", "a pear", "--like", "mine/a.png", "--in", "kept/my.index", "--json")
    assert status == 0
    found = find("a pear", Path("kept/my.index"), like=[open_picture(Path("mine/a.png"))], weights=line)
    assert json.loads("\n".join(lines)) == [
        {"score": pytest.approx(one.score, abs=1e-6), "path": str(one.path)} for one in found
    ]
    assert all(one.path.is_file() for one in found)


@pytest.mark.filterwarnings("default")
def test_what_is_found_is_laid_out_also_where_a_picture_has_gone(run):
    run("index", "mine")
    status, lines, errors = run("search", "a pear", "--in", "mine", "--sheet", "found.png")
    assert (status, lines[3], errors) == (0, "found.png", "")
    with Image.open("found.png") as sheet:
        assert sheet.width > 2 * 128
    os.remove("mine/b.png")
    status, lines, errors = run("search", "a pear", "--in", "mine", "--sheet", "found.png")
    assert (status, len(lines)) == (0, 4)
    assert errors.startswith("limner: warning: no picture at mine/b.png")
    assert errors.count("\n") == 1


@pytest.mark.filterwarnings("default")
def test_broken_pictures_are_named_and_left_out(run, tmp_path):
    (tmp_path / "mine" / "a.png").write_text("words")
    status, lines, errors = run("index", "mine")
    assert (status, lines[1]) == (0, "2 pictures, 2 of them read now")
    assert errors.startswith("limner: warning: mine/a.png is left out: it cannot be decoded")
    assert errors.count("\n") == 1


def test_what_cannot_be_is_refused_in_one_line(run, tmp_path):
    run("index", "mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").write_text("words")
    there = sorted(tmp_path.rglob("*"))
    search = ("search", "--in", "mine")
    for arguments, said in (
        (["index", "none"], "folder is 'none', which is none: give a folder of pictures"),
        (["index", "mine/a.png"], "folder is 'mine/a.png', which is none"),
        (["index", "empty"], "empty holds no pictures"),
        (["index", "mine", "--out", "empty"], "out is 'empty', a folder: give the name of a file in it"),
        (["index", "mine", "--out", "words/x"], "cannot write into words"),
        (["index", "mine", "--out", "words"], "words is not a whole index"),
        ([*search], "text and like are both missing: give words in quotes, or --like IMAGE"),
        ([*search, " "], "text is ' ', without a word"),
        ([*search, "mine/a.png"], "text is 'mine/a.png', which is a file here: to find its like, add --like"),
        ([*search, "--like", "none.png"], "no picture at none.png"),
        ([*search, "--like", "words"], "cannot read words as a picture"),
        ([*search, "a pear", "--top", "0"], "top is 0: give a whole number from 1 to 10000"),
        (
            [*search, "a pear", "--top", "401", "--sheet", "s.png"],
            "top is 401: give a whole number from 1 to 400",
        ),
        ([*search, "a pear", "--sheet", "s.jpg"], "sheet is 's.jpg': give a name that ends in .png"),
        (
            ["search", "a pear", "--in", "empty"],
            "there is no index at empty: make one with `limner index DIR`",
        ),
        (["search", "a pear", "--in", "words"], "words is not a whole index"),
    ):
        status, out, errors = run(*arguments)
        assert (status, out, errors.count("\n")) == (2, [], 1), (arguments, errors)
        assert errors.startswith(f"limner: {said}"), errors
    assert sorted(tmp_path.rglob("*")) == there
    assert "--in" in run("search", "a pear")[2]


def test_an_index_of_another_clip_is_not_searched(run, tiny, tmp_path, capsys):
    run("index", "mine")
    other = tiny.write(tmp_path / "other", seed=5)
    assert main(["search", "a pear", "--in", "mine", "--weights", str(other), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("limner: mine was indexed with the CLIP ")
