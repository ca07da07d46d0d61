"""`limner classify` as it is run: a table, JSON, the measures of a folder, or one line of what is wrong."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from limner.cli import main
from limner.evaluation.intervals import wilson
from limner.pipelines import classify

LABELS = "cat, apple,grapes"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Image.new("RGB", (20, 10), colour).save(f"{name}.png")

    def command(*arguments):
        status = main(["classify", *arguments, "--weights", str(line), "--device", "cpu"])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


@pytest.fixture
def folder(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (ord(name[0]), 9, 9)).save(tmp_path / "mine" / name)
    return "mine"


def test_the_likeliest_labels_are_printed_first(run, line):
    status, out, errors = run("red.png", "blue.png", "--labels", LABELS, "--top", "2")
    assert (status, errors) == (0, "")
    pictures = [Image.open("red.png"), Image.open("blue.png")]
    lines = [words.split() for words in out.splitlines()]
    assert lines[0] == ["picture", "label", "probability"]
    expected = []
    for name, one in zip(
        ("red.png", "blue.png"), classify(pictures, ["cat", "apple", "grapes"], weights=line), strict=True
    ):
        best = sorted(one.items(), key=lambda pair: -pair[1])[:2]
        expected += [
            [name, best[0][0], f"{100 * best[0][1]:.1f}", "%"],
            [best[1][0], f"{100 * best[1][1]:.1f}", "%"],
        ]
    assert lines[1:] == expected


def test_json_and_files_of_labels_and_templates(run, line, tmp_path):
    (tmp_path / "labels.txt").write_text("\ufeffcat\n\n  red, ripe apple \n", encoding="utf-8")
    (tmp_path / "templates.txt").write_text("see a {}\nthe {}\n")
    status, out, _ = run(
        "red.png", "--labels-file", "labels.txt", "--templates-file", "templates.txt", "--json"
    )
    assert status == 0
    (found,) = json.loads(out)
    (expected,) = classify(
        [Image.open("red.png")], ["cat", "red, ripe apple"], templates=["see a {}", "the {}"], weights=line
    )
    assert found["image"] == "red.png"
    assert found["probabilities"] == pytest.approx(expected, abs=1e-6)
    assert list(found["probabilities"]) == sorted(expected, key=expected.get, reverse=True)


def test_a_folder_is_measured_and_its_confusion_drawn(run, folder):
    status, out, errors = run(folder, "--confusion", "confusion.png")
    assert (status, errors) == (0, "")
    assert "3 pictures, 2 labels" in out
    assert "top-5" not in out
    assert out.splitlines()[-1] == "confusion.png"
    with Image.open("confusion.png") as picture:
        assert picture.format == "PNG"
    labels = "cat,dog,a,b,c,d"
    status, out, _ = run(folder, "--labels", labels, "--json")
    told = json.loads(out)
    assert (told["pictures"], told["labels"], told["broken"]) == (3, labels.split(","), [])
    hits = sum(told["confusion"][number][number] for number in range(6))
    assert told["top1"]["high"] == pytest.approx(wilson(hits, 3).high, abs=1e-6)
    assert told["top5"]["chance"] == pytest.approx(5 / 6, abs=1e-6)


@pytest.mark.filterwarnings("default")
def test_broken_pictures_of_a_folder_are_named(run, folder, tmp_path):
    (tmp_path / folder / "cat" / "1.png").write_text("words")
    status, out, errors = run(folder)
    assert status == 0
    assert errors.startswith("limner: warning: mine/cat/1.png is left out: ")
    assert "2 pictures" in out


def test_what_cannot_be_classified_is_refused_in_one_line(run, folder, tmp_path):
    (tmp_path / "latin.txt").write_bytes("cat\nb\xe4r\n".encode("latin-1"))
    (tmp_path / "words.png").write_text("words")
    (tmp_path / "bare.txt").write_text("a {}\na cat\n")
    labels = ("--labels", LABELS)
    there = sorted(tmp_path.iterdir())
    for arguments, said in (
        (["red.png"], "labels is missing: say what to choose from, as in --labels cat,dog"),
        (["red.png", "--labels", ""], "labels holds '': give each class a name"),
        (["red.png", "--labels", "cat"], "labels is 'cat' alone: give at least two to choose from"),
        (["red.png", "--labels", "cat,dog,cat"], "labels holds 'cat' and 'cat', which CLIP reads alike"),
        (["red.png", *labels, "--labels-file", "x"], "labels and labels_file are both given"),
        (
            ["red.png", "--labels-file", "none.txt"],
            "labels_file is 'none.txt', which cannot be read (No such",
        ),
        (
            ["red.png", "--labels-file", "latin.txt"],
            "labels_file is 'latin.txt', which is not UTF-8 (byte 5 is 0xe4",
        ),
        (["red.png", *labels, "--templates-file", "bare.txt"], "templates holds 'a cat', without a {}"),
        (
            ["red.png", *labels, "--templates-file", "latin.txt"],
            "templates_file is 'latin.txt', which is not",
        ),
        ([*labels], "images is empty: give the path of at least one picture, or of a folder"),
        (["none.png", *labels], "no picture at none.png"),
        (["words.png", *labels], "cannot read words.png as a picture"),
        (["red.png", *labels, "--top", "4"], "top is 4: give a whole number from 1 to 3"),
        (["red.png", *labels, "--top", "0"], "top is 0"),
        (["red.png", *labels, "--confusion", "c.png"], "confusion is 'c.png', which is of a folder"),
        ([folder, "red.png", *labels], "images holds the folder 'mine' and 1 more"),
        ([folder, "--top", "1"], "top is 1: a folder is measured at 1 and at 5, so leave it out"),
        ([folder, "--confusion", "c.jpg"], "confusion is 'c.jpg': give a name that ends in .png"),
        ([folder, "--confusion", "red.png/c.png"], "cannot write into red.png"),
        ([folder, "--labels", "cat,fox"], "labels lacks 'dog', which mine has a folder of: add it"),
        (["mine/cat"], "mine/cat holds pictures but no folders of them"),
    ):
        status, out, errors = run(*arguments)
        assert (status, out, errors.count("\n")) == (2, "", 1), (arguments, errors)
        assert errors.startswith(f"limner: {said}"), errors
    assert sorted(tmp_path.iterdir()) == there


def test_without_matplotlib_nothing_is_measured_in_vain(run, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, errors = run(folder, "--confusion", "c.png")
    assert (status, out) == (2, "")
    assert 'pip install "limner[eval]"' in errors


def test_refusals_come_before_torch(environment):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "limner", "classify", "a.png", "--labels", "cat"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "limner: labels is 'cat' alone" in done.stderr
    assert "| torch" not in done.stderr
    assert "| numpy" not in done.stderr
