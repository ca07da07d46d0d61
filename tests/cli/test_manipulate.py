"""`limner vary`, `blend`, `edit` and `probe` as they are run."""

import numpy as np
import pytest
from PIL import Image

from limner.cli import main
from limner.pipelines import load
from limner.pipelines.manipulations import blend, edit, probe, vary
from limner.pipelines.pictures import fingerprint


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A line with everything that it may have."""
    return tiny.write_other(tiny.write_second(tiny.write(tmp_path_factory.mktemp("line"))))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cat", "dog")):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC).save(f"{name}.png")

    def command(*arguments):
        status = main([*map(str, arguments), "--weights", str(folder), "--device", "cpu"])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return command


@pytest.fixture(scope="module")
def painter(folder):
    return load("dalle2", weights=folder)


def same(path, image):
    with Image.open(path) as saved:
        assert np.abs(np.asarray(saved, int) - np.asarray(image, int)).max() <= 1
        return dict(saved.text)


def test_variations(run, painter):
    status, paths, errors = run("vary", "cat.png", "--count", 2, "--seed", 7, "--size", 64)
    assert (status, errors) == (0, "")
    assert paths == ["paintings/cat-varied-seed7-1.png", "paintings/cat-varied-seed7-2.png"]
    source = Image.open("cat.png")
    for path, image in zip(paths, vary(painter, source, count=2, seed=7, size=64), strict=True):
        said = same(path, image)
        assert said["of"] == fingerprint(source)
        assert said["weights"] == painter.digest
        assert (said["varies"], said["strength"], said["seed"]) == ("cat.png", "1.0", "7")


def test_a_blend_as_one_sheet(run, painter):
    status, paths, errors = run(
        "blend", "cat.png", "dog.png", "--steps", 3, "--size", 64, "--sheet", "--out", "s.png"
    )
    assert (status, paths, errors) == (0, ["s.png"], "")
    ends = blend(painter, Image.open("cat.png"), Image.open("dog.png"), steps=3, size=64)
    with Image.open("s.png") as sheet:
        assert sheet.text["blends"] == "cat.png dog.png"
        assert sheet.width > 3 * 64
        found = np.asarray(sheet.convert("RGB"), int)
    assert len(ends) == 3
    left = found[:, : sheet.width // 3]
    # The first of them stands in the first third.
    first = np.asarray(ends[0], int)
    windows = np.lib.stride_tricks.sliding_window_view(left, (64, 64, 3)).reshape(-1, 64, 64, 3)
    assert np.abs(windows - first).max(axis=(1, 2, 3)).min() <= 1


def test_an_edit_leads_to_the_words(run, painter):
    status, paths, errors = run(
        "edit",
        "dog.png",
        "--from",
        "a pear",
        "--to",
        "two fish",
        "--steps",
        2,
        "--strength",
        0.4,
        "--size",
        64,
    )
    assert (status, errors) == (0, "")
    assert paths == ["paintings/dog-to-two-fish-1.png", "paintings/dog-to-two-fish-2.png"]
    ours = edit(painter, Image.open("dog.png"), "two fish", source="a pear", strength=0.4, steps=2, size=64)
    for path, image, step in zip(paths, ours, ("0.20", "0.40"), strict=True):
        said = same(path, image)
        assert (said["from"], said["to"], said["step"]) == ("a pear", "two fish", step)


def test_a_probe(run, painter):
    status, paths, errors = run("probe", "dog.png", "--dims", 1, 16, "--size", 64)
    assert (status, paths, errors) == (0, ["paintings/dog-probed.png"], "")
    assert probe(painter, Image.open("dog.png"), dimensions=[1, 16], size=64)[0] == [1, 16]
    kept = painter.prior_autoregressive.pca.kept
    with Image.open(paths[0]) as sheet:
        assert sheet.text["kept"] == f"{kept[0]:.4f} {kept[15]:.4f}"
    with Image.open(paths[0]) as sheet:
        assert sheet.text["dims"] == "1 16"


def test_at_1024(run):
    status, paths, errors = run("vary", "cat.png", "--size", 1024)
    assert (status, errors) == (0, "")
    with Image.open(paths[0]) as picture:
        assert picture.size == (1024, 1024)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vary", "cat.png", "--strength", 2], "limner: strength is 2.0: give a number from 0 to 1"),
        (["vary", "cat.png", "--count", 0], "limner: count is 0: give a whole number from 1 to 64"),
        (["vary", "cow.png"], "limner: no picture at cow.png"),
        (["vary", "cat.png", "--size", 100], "limner: size is 100: choose 64, 256 or 1024"),
        (
            ["vary", "cat.png", "--count", 2, "--out", "a.png"],
            "limner: out is 'a.png', one file for 2 pictures",
        ),
        (
            ["blend", "cat.png", "dog.png", "--seed", 3],
            "limner: seed is 3, but inverted noise is the pictures' own: leave it out, or choose "
            "--noise shared",
        ),
        (
            ["blend", "cat.png", "dog.png", "--steps", 1],
            "limner: steps is 1: give a whole number from 2 to 64",
        ),
        (["edit", "cat.png", "--to", " "], "limner: prompt is ' '"),
        (
            ["edit", "cat.png", "--to", "a pear", "--from", "a pear"],
            "limner: source and target are both 'a pear'",
        ),
        (["probe", "cat.png", "--dims", 17], "limner: dimensions is 17: give a whole number from 1 to 16"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(run, tmp_path, arguments, words):
    before = sorted(tmp_path.iterdir())
    status, paths, errors = run(*arguments)
    assert (status, paths) == (2, [])
    assert errors.startswith(words)
    assert errors.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
