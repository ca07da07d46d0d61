"""`limner explain` as it is run: one PNG, its path, the sum, or one line of what is wrong."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from limner.cli import main
from limner.pipelines import rank
from limner.pipelines.pictures import open_picture


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 4), dtype=np.uint8)
    Image.fromarray(pixels).save("My Pear.png")

    def command(*arguments):
        status = main(["explain", *arguments, "--weights", str(line), "--device", "cpu"])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return command


def test_a_score_is_explained_and_adds_up(run, line, tmp_path):
    status, (path, said), errors = run("My Pear.png", "a pear")
    assert (status, errors) == (0, "")
    assert path == "paintings/my-pear-a-pear-explained.png"
    (score,) = rank("a pear", [open_picture(tmp_path / "My Pear.png")], weights=line)
    told, blank, added = map(float, re.findall(r"[-+]?\d\.\d{4}", said))
    assert told == pytest.approx(score, abs=1e-4)
    assert blank + added == pytest.approx(told, abs=3e-4)
    with Image.open(path) as sheet:
        assert sheet.text["explains"] == "My Pear.png"
        assert sheet.text["score"] == f"{score:.4f}"
    assert run("My Pear.png", "a pear", "--out", "why.png")[1][0] == "why.png"


def test_what_cannot_be_explained_is_refused_in_one_line(run, tmp_path):
    (tmp_path / "words.png").write_text("words")
    there = sorted(os.listdir())
    for arguments, said in (
        (["none.png", "a pear"], "no picture at none.png"),
        (["words.png", "a pear"], "cannot read words.png as a picture"),
        (["My Pear.png", " "], "text is ' ', without a word"),
        (["My Pear.png", "a pear", "--out", "why.jpg"], "out is 'why.jpg'"),
        (["My Pear.png", "a pear", "--out", "words.png/in"], "cannot write into words.png/in"),
    ):
        status, out, errors = run(*arguments)
        assert (status, out, errors.count("\n")) == (2, [], 1), (arguments, errors)
        assert errors.startswith(f"limner: {said}"), errors
        assert sorted(os.listdir()) == there
