"""`limner paint` as people run it: what is refused, what is written, what is printed."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import limner as package
from limner.cli import main
from limner.pipelines import PaintSettings, load


def refused(done, *words):
    """One line on standard error, nothing on standard output, status 2."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("limner: ")
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], ["prompt is ''"]),
        (["   "], ["prompt is ' '"]),
        ([], ["prompts is empty"]),
        (["a pear", "x" * 10_000], ["prompt is 10000 characters long", "at most 1000"]),
        (["a pear", "--size", "100"], ["size is 100", "64, 256 or 1024"]),
        (["a pear", "--condition", "clip", "--text-guidance", "2"], ["text_guidance is 2.0", "told clip"]),
        (["a pear", "--condition", "neither", "--guidance", "2"], ["guidance is 2.0", "told neither"]),
        (["a pear", "--model", "glide", "--condition", "text"], ["condition is text", "only dalle2"]),
        (
            ["a pear", "--model", "dalle1", "--negative-prompt", "red"],
            ["negative_prompt is red", "only dalle2"],
        ),
        (
            ["a pear", "--negative-prompt", "red", "--guidance", "0"],
            ["negative_prompt is 'red'", "guidance is 0"],
        ),
        (["a pear", "--model", "dalle9"], ["model is 'dalle9'", "dalle2"]),
        (["a pear", "--count", "0"], ["count is 0", "1 to 64"]),
        (["a pear", "--steps", "0"], ["steps is 0"]),
        (["a pear", "--guidance", "nan"], ["guidance is nan"]),
        (["a pear", "--guidance", "-1"], ["guidance is -1.0"]),
        (["a pear", "--seed", "-1"], ["seed is -1"]),
        (["a pear", "--count", "many"], ["--count", "'many'", "limner --help"]),
        (["a pear", "--cuont", "2"], ["--cuont", "Perhaps you meant: --count N"]),
        (["a pear", "--device", "tpu"], ["'tpu'", "--device", "'cuda'"]),
        (["a pear", "--out", "pear.jpg"], ["out is 'pear.jpg'", ".png"]),
        (["a pear", "--count", "2", "--out", "pear.png"], ["out is 'pear.png'", "2 pictures", "--sheet"]),
        (["a pear", "--out", "/proc/limner/pictures"], ["cannot write into /proc/limner/pictures"]),
    ],
)
def test_what_cannot_be_painted_is_refused_in_one_line_and_leaves_nothing(limner, arguments, words):
    refused(limner("paint", *arguments), *words)
    assert os.listdir(limner.work) == []


@pytest.mark.parametrize("arguments", [[], ["sketch", "a pear"], ["data", "fetch"]])
def test_other_arguments_that_spell_nothing_are_refused_too(limner, arguments):
    refused(limner(*arguments), "--help")


def test_a_folder_below_a_file_is_found_out_before_painting(limner):
    (limner.work / "file").touch()
    refused(limner("paint", "a pear", "--out", "file/pictures"), "cannot write into file/pictures")
    refused(limner("paint", "a pear", "--out", "file"), "out is 'file'")
    assert os.listdir(limner.work) == ["file"]


def test_damaged_weights_are_named_and_nothing_is_painted(limner, line, tmp_path):
    damaged = shutil.copytree(line, tmp_path / "damaged")
    weights = damaged / "decoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(limner("paint", "a pear", "--weights", damaged, "--out", "new/folder"), "damaged/decoder")
    assert os.listdir(limner.work) == []


# In this process, where torch is loaded once and for all. The refusals above are the real command's.


@pytest.fixture
def paint(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = main(["paint", *arguments, "--weights", str(line), "--steps", "2", "--device", "cpu"])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out.splitlines(), said.err

    return run


@pytest.mark.filterwarnings("ignore::limner.text.UnknownCharacterWarning")
def test_a_picture_is_painted_its_path_printed_and_how_it_was_made_kept(paint, line, tmp_path):
    paths, errors = paint("A pear / 梨!", "--size", "64", "--seed", "7", "--guidance", "2")
    assert paths == ["paintings/a-pear-梨-seed7-1.png"]
    assert errors == ""
    with Image.open(paths[0]) as image:
        assert image.size == (64, 64)
        found = image.text
        pixels = image.tobytes()
    painter = load("dalle2", weights=line)
    settings = PaintSettings(steps=2, guidance=2.0)
    assert found == {
        "prompt": "A pear / 梨!",
        "seed": "7",
        "model": "dalle2",
        "weights": painter.digest,
        "settings": json.dumps({"size": 64, "precision": "fp32", **settings.described()}),
        "limner": package.__version__,
    }
    assert painter.paint("A pear / 梨!", size=64, seed=7, settings=settings)[0].tobytes() == pixels
    assert os.listdir(tmp_path) == ["paintings"]
    assert os.listdir("paintings") == ["a-pear-梨-seed7-1.png"]


def test_prompts_times_count_in_order_with_seeds_counted_up(paint):
    paths, _ = paint("a pear", "two fish", "--count", "2", "--seed", "5", "--out", "a/b")
    assert paths == [
        "a/b/a-pear-seed5-1.png",
        "a/b/a-pear-seed6-2.png",
        "a/b/two-fish-seed5-1.png",
        "a/b/two-fish-seed6-2.png",
    ]
    for path, seed in zip(paths, "5656", strict=True):
        with Image.open(path) as image:
            assert image.size == (256, 256)
            assert image.text["seed"] == seed
    assert sorted(os.listdir("a/b")) == sorted(path.rpartition("/")[2] for path in paths)


def test_the_same_command_gives_the_same_bytes_under_the_same_name(paint):
    (path,), _ = paint("a pear", "--size", "64")
    once = Path(path).read_bytes()
    assert paint("a pear", "--size", "64")[0] == [path]
    assert Path(path).read_bytes() == once
    assert len(os.listdir("paintings")) == 1


def test_another_picture_of_the_same_name_does_not_cost_the_first(paint):
    (first,), _ = paint("a pear", "--size", "64")
    once = Path(first).read_bytes()
    (second,), _ = paint("a  PEAR?", "--size", "64")
    assert second == "paintings/a-pear-seed0-1-2.png"
    assert Path(first).read_bytes() == once


def test_a_file_that_is_named_is_replaced(paint, tmp_path):
    (tmp_path / "pear.png").write_text("old")
    paths, _ = paint("a pear", "--size", "64", "--out", "pear.png")
    assert paths == ["pear.png"]
    assert os.listdir(tmp_path) == ["pear.png"]
    with Image.open("pear.png") as image:
        assert image.size == (64, 64)


def test_a_sheet_is_one_file_for_all(paint, tmp_path):
    paths, _ = paint("a pear", "two fish", "--count", "2", "--size", "64", "--sheet", "--out", "sheet.png")
    assert paths == ["sheet.png"]
    assert os.listdir(tmp_path) == ["sheet.png"]
    with Image.open("sheet.png") as image:
        assert image.width == 2 * 72 + 8
        assert image.text["prompt"] == "a pear\ntwo fish"
        assert image.text["count"] == "2"


def test_a_sheet_in_a_folder_gets_a_name(paint):
    paths, _ = paint("a pear", "--count", "3", "--size", "64", "--sheet")
    assert paths == ["paintings/sheet-of-3-a-pear-seed0-1.png"]


@pytest.mark.filterwarnings("default")
def test_a_prompt_that_is_cut_says_so_in_one_line(paint):
    paths, errors = paint("x " * 30 + "pear", "--size", "64")
    assert len(paths) == 1
    assert errors == "limner: warning: 1 of 1 texts cut to 30 tokens; the first lost 'pear'\n"


def test_sizes_are_those_of_the_weights(line, capsys, tmp_path):
    out = tmp_path / "new"
    status = main(["paint", "a pear", "--size", "128", "--weights", str(line), "--out", str(out)])
    assert status == 2
    assert capsys.readouterr().err == "limner: size is 128: choose 64 or 256 (pixels a side)\n"
    assert not out.exists()


# --- two processes -------------------------------------------------------------------------------


def test_two_runs_of_the_command_give_the_same_bytes(limner, line):
    options = ("--weights", line, "--steps", "2", "--device", "cpu")
    for out in ("one.png", "two.png"):
        done = limner("paint", "a red apple", *options, "--out", out)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    one, two = ((limner.work / out).read_bytes() for out in ("one.png", "two.png"))
    assert one == two
    with Image.open(io.BytesIO(one)) as image:
        assert image.size == (256, 256)


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
def test_ctrl_c_ends_with_130_whole_pictures_and_their_paths(line, tmp_path, environment):
    arguments = ["paint", "a pear", "--count", "64", "--weights", str(line), "--steps", "100", "--size", "64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "limner", *arguments, "--device", "cpu"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background has been told to ignore Ctrl-C, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and len(list(tmp_path.glob("paintings/*.png"))) < 16:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors == ""
    written = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "paintings").iterdir())
    assert sorted(out.splitlines()) == written
    assert 16 <= len(written) < 64
