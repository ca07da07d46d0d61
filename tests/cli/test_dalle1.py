"""`limner paint --model dalle1`, `limner rank` and `limner complete`: refused, written, printed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limner
from limner.cli import main
from limner.pipelines import TokenSettings, load, rank
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


@pytest.fixture(scope="module")
def painter(dalle1_line):
    return load("dalle1", weights=dalle1_line)


@pytest.fixture
def weights(dalle1_line):
    return ("--weights", dalle1_line, "--device", "cpu")


@pytest.fixture
def pictures(tmp_path):
    """Four pictures, some of them of another shape or kind."""
    random = np.random.default_rng(0)
    for name, shape in (
        ("a.png", (32, 32, 3)),
        ("b.jpg", (20, 40, 3)),
        ("c.png", (8, 8, 4)),
        ("d.png", (5, 5)),
    ):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name)
    return ["a.png", "b.jpg", "c.png", "d.png"]


def text_of(path):
    with Image.open(path) as image:
        return image.text


# --- paint ---------------------------------------------------------------------------------------


def test_the_best_are_painted_named_by_their_seeds_and_say_how_they_were_made(run, painter, weights):
    options = ("--count", "2", "--candidates", "6", "--seed", "7", "--guidance", "2", "--top-k", "20")
    status, paths, errors = run("paint", "a pear", "two fish", "--model", "dalle1", *options, *weights)
    assert (status, errors) == (0, "")
    settings = TokenSettings(candidates=6, guidance=2.0, top_k=20)
    ranked = list(painter.paint(["a pear", "two fish"], count=2, seed=7, settings=settings, stages=True))[-1]
    seeds = [commission.seed for commission in ranked.commissions]
    assert paths == [
        f"paintings/a-pear-seed{seeds[0]}-1.png",
        f"paintings/a-pear-seed{seeds[1]}-2.png",
        f"paintings/two-fish-seed{seeds[2]}-1.png",
        f"paintings/two-fish-seed{seeds[3]}-2.png",
    ]
    assert sorted(os.listdir("paintings")) == sorted(path.rpartition("/")[2] for path in paths)
    for path, image in zip(paths, ranked.images(), strict=True):
        assert open_picture(Path(path)).convert("RGB").tobytes() == image.tobytes()
    assert text_of(paths[0]) == {
        "prompt": "a pear",
        "seed": str(seeds[0]),
        "model": "dalle1",
        "weights": painter.digest,
        "settings": json.dumps({"size": 32, "guidance": 2.0, "temperature": 1.0, "top_k": 20, "top_p": None}),
        "score": f"{ranked.scores[0]:.4f}",
        "candidates": "6",
        "limner": limner.__version__,
    }


def test_temperature_and_the_share_of_likely_tokens_reach_the_painter(run, painter, weights):
    def painted(*options, **settings):
        status, (path,), _ = run("paint", "a pear", "--model", "dalle1", *options, *weights)
        assert status == 0
        ours = painter.paint("a pear", settings=TokenSettings(**settings))[0]
        assert open_picture(Path(path)).convert("RGB").tobytes() == ours.tobytes()
        return ours.tobytes()

    plain = painted()
    assert painted("--temperature", "0", temperature=0.0) != plain
    assert painted("--top-p", "0.1", top_p=0.1) != plain
    assert painted("--size", "32") == plain


def test_a_sheet_holds_all_scores(run, weights, tmp_path):
    options = ("--count", "3", "--sheet", "--out", "sheet.png", "--seed", "4")
    status, paths, _ = run("paint", "a pear", "--model", "dalle1", *options, *weights)
    assert (status, paths) == (0, ["sheet.png"])
    assert os.listdir(tmp_path) == ["sheet.png"]
    told = text_of("sheet.png")
    assert (told["seed"], told["count"], told["prompt"]) == ("4", "3", "a pear")
    scores = [float(score) for score in told["score"].split("\n")]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


def test_options_of_the_other_painter_are_refused_by_name(refuses):
    one = ("paint", "a pear")
    for option, value, said in (
        ("--candidates", "2", "candidates is 2"),
        ("--temperature", "0.5", "temperature is 0.5"),
        ("--top-k", "3", "top_k is 3"),
        ("--top-p", "0.5", "top_p is 0.5"),
    ):
        message = f"{said}, of which only dalle1 and dalle_mini know: leave it out, or add --model dalle1"
        assert refuses(*one, option, value) == message
    assert refuses(*one, "--model", "dalle1", "--steps", "3") == (
        "steps is 3, of which only dalle2 and glide know: leave it out, or add --model dalle2"
    )


def test_what_cannot_be_painted_is_refused_before_anything_is_loaded(refuses):
    one = ("paint", "a pear", "--model", "dalle1")
    assert refuses(*one, "--count", "3", "--candidates", "2") == (
        "candidates is 2, fewer than the 3 pictures wanted: give at least 3"
    )
    assert refuses(*one, "--candidates", "0").startswith("candidates is 0: give a whole number from 1 to")
    assert refuses(*one, "--temperature", "-1").startswith("temperature is -1.0")
    assert refuses(*one, "--top-k", "0").startswith("top_k is 0")
    assert refuses(*one, "--top-p", "2").startswith("top_p is 2.0")
    assert refuses(*one, "--guidance", "inf").startswith("guidance is inf")
    assert refuses(*one, "--size", "256") == "size is 256: choose 64 (pixels a side)"
    assert refuses(*one, "--weights", "none").startswith("no weights at none: give a folder that holds")


def test_sizes_are_those_of_the_weights(refuses, weights):
    said = refuses("paint", "a pear", "--model", "dalle1", "--size", "64", *weights)
    assert said == "size is 64: choose 32 (pixels a side)"


# --- rank ----------------------------------------------------------------------------------------


def test_scores_and_paths_are_printed_best_first(run, weights, pictures, dalle1_line):
    status, lines, errors = run("rank", "a pear", *pictures, *weights)
    assert (status, errors) == (0, "")
    scores = rank("a pear", [open_picture(Path(name)) for name in pictures], weights=dalle1_line)
    expected = sorted(zip(scores, pictures, strict=True), reverse=True)
    assert lines == [f"{score:.4f}  {name}" for score, name in expected]
    assert [name for _, name in expected] != pictures


def test_what_cannot_be_ranked_is_refused(refuses, weights, pictures, tmp_path):
    (tmp_path / "words.png").write_text("a pear")
    assert refuses("rank", "a pear", *weights) == "images is empty: give the path of at least one picture"
    assert refuses("rank", " ", *pictures, *weights).startswith("prompt is ' '")
    assert refuses("rank", "a pear", *pictures, "none.png", *weights).startswith("no picture at none.png")
    said = refuses("rank", "a pear", *pictures, "words.png", *weights)
    assert said.startswith("cannot read words.png as a picture")
    assert refuses("rank", "a pear", tmp_path, *weights).startswith(f"no picture at {tmp_path}")
    assert refuses("rank", "a pear", *pictures, "--weights", "none").startswith("no weights at none")
    assert "'tpu'" in refuses("rank", "a pear", *pictures, "--device", "tpu")


# --- complete ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pictures")
def test_a_picture_is_finished_and_says_how(run, painter, weights):
    options = ("--keep", "0.25", "--count", "2", "--candidates", "4", "--seed", "3", "--out", "finished")
    drawn = ("--guidance", "2", "--temperature", "0.8", "--top-k", "50", "--top-p", "0.9")
    status, paths, errors = run("complete", "a.png", "a pear", *options, *drawn, *weights)
    assert (status, errors) == (0, "")
    ours = painter.complete(
        open_picture(Path("a.png")),
        "a pear",
        keep=0.25,
        count=2,
        seed=3,
        settings=TokenSettings(candidates=4, guidance=2.0, temperature=0.8, top_k=50, top_p=0.9),
    )
    seeds = [commission.seed for commission in ours.commissions]
    assert paths == [f"finished/a-pear-seed{seed}-{n}.png" for n, seed in enumerate(seeds, start=1)]
    for path, image, score in zip(paths, ours.images(), ours.scores.tolist(), strict=True):
        assert open_picture(Path(path)).convert("RGB").tobytes() == image.tobytes()
        assert text_of(path)["keep"] == "0.25"
        assert text_of(path)["completes"] == fingerprint(open_picture(Path("a.png")))
        assert json.loads(text_of(path)["settings"])["top_k"] == 50
        assert text_of(path)["score"] == f"{score:.4f}"


@pytest.mark.usefixtures("pictures")
def test_one_picture_goes_into_the_file_that_is_named(run, weights):
    status, paths, _ = run("complete", "c.png", "a pear", "--out", "whole.png", *weights)
    assert (status, paths) == (0, ["whole.png"])
    with Image.open("whole.png") as image:
        assert image.size == (32, 32)


@pytest.mark.usefixtures("pictures")
def test_what_cannot_be_completed_is_refused(refuses, weights):
    one = ("complete", "a.png", "a pear")
    assert refuses("complete", "none.png", "a pear", *weights).startswith("no picture at none.png")
    assert refuses("complete", "b.jpg", "a pear", *weights).startswith("image is 40×20 pixels: give a square")
    assert refuses("complete", "a.png", "", *weights).startswith("prompt is ''")
    for keep in ("0", "1", "-0.5", "nan"):
        assert refuses(*one, "--keep", keep, *weights).startswith("keep is ")
    assert refuses(*one, "--top-p", "0", *weights).startswith("top_p is 0.0")
    said = refuses(*one, "--keep", "0.01", *weights)
    assert said == "keep is 0.01: of 4 rows of tokens none is kept; give 0.25 to 0.75"
    assert refuses(*one, "--count", "2", "--candidates", "1", *weights).startswith("candidates is 1, fewer")
    assert refuses(*one, "--count", "2", "--out", "x.png", *weights).startswith("out is 'x.png', one file")
    assert "PROMPT" in refuses("complete", "a.png")


# --- info ----------------------------------------------------------------------------------------


def test_the_table_of_weights_has_all_parts_of_the_line(dalle1_line, painter):
    from limner.cli.info import weights_table

    table = weights_table("dalle1", dalle1_line)
    assert table.title == f"dalle1 {painter.digest}"
    assert list(table.columns[0].cells) == ["transformer", "dvae", "clip"]
    networks = (painter.transformer, painter.dvae, painter.ranker)
    counted = [f"{sum(p.numel() for p in network.parameters()):,}" for network in networks]
    assert list(table.columns[1].cells) == counted


@pytest.mark.filterwarnings("default")
def test_a_prompt_that_is_cut_is_painted_and_says_so(run, weights):
    status, paths, errors = run("paint", "x " * 30 + "pear", "--model", "dalle1", *weights)
    assert (status, len(paths)) == (0, 1)
    assert all(line.startswith("limner: warning: ") for line in errors.splitlines())
    assert "pear" in errors
