"""`limner paint --model dfgan`, and what else the command does with it."""

import json

import pytest
from PIL import Image

from limner.cli import main
from limner.pipelines import DfGanSettings, load


def refused(capsys, *arguments) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.removeprefix("limner: ").rstrip("\n")


def test_pictures_come_out_as_python_paints_them(dfgan_line, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--weights", str(dfgan_line), "--device", "cpu", "--truncation", "0.88", "--seed", "3")
    assert (
        main(["paint", "a red apple", "--model", "dfgan", "--count", "2", "--out", str(out), *options]) == 0
    )
    paths = capsys.readouterr().out.splitlines()
    painter = load("dfgan", weights=dfgan_line)
    wanted = painter.paint("a red apple", count=2, seed=3, settings=DfGanSettings(truncation=0.88))
    for path, picture, seed in zip(paths, wanted, (3, 4), strict=True):
        with Image.open(path) as found:
            assert found.tobytes() == picture.tobytes()
            assert found.text["model"] == "dfgan"
            assert found.text["seed"] == str(seed)
            assert json.loads(found.text["settings"]) == {"size": 32, "truncation": 0.88}
    # By its path alone the same is painted.
    sheet = tmp_path / "sheet.png"
    assert main(["paint", "a cat", "--model", str(dfgan_line), "--sheet", "--out", str(sheet)]) == 0
    assert sheet.exists()


def test_what_it_does_not_know_is_refused(capsys):
    for option, said in (
        (("--guidance", "2"), "guidance is 2.0, of which only"),
        (("--steps", "9"), "steps is 9, of which only dalle2 and glide know"),
        (("--temperature", "0.5"), "temperature is 0.5, of which only dalle1 and dalle_mini know"),
        (("--truncation", "3"), "truncation is 3.0: give a number from 0 to 2"),
        (("--precision", "bf16"), "precision is 'bf16': dfgan has no U-Net"),
        (("--size", "256"), "size is 256: choose 64"),
    ):
        assert refused(capsys, "paint", "a cat", "--model", "dfgan", *option).startswith(said)
    assert refused(capsys, "paint", "a cat", "--truncation", "0.5") == (
        "truncation is 0.5, of which only dfgan knows: leave it out, or add --model dfgan"
    )


def test_without_weights_it_says_how_to_train_them(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("limner.weights.resources.files", lambda _: tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    how = (
        "no weights for dfgan in this copy of limner: train them (limner train dfgan --size small --data DIR "
        "--clip CLIP --out OUT) and give --weights OUT/line"
    )
    assert refused(capsys, "paint", "a cat", "--model", "dfgan") == how
    assert main(["info"]) == 0
    assert how in capsys.readouterr().out


def test_info_counts_both_parts(dfgan_line):
    from limner.cli.info import parameters, weights_table

    painter = load("dfgan", weights=dfgan_line)
    table = weights_table("dfgan", dfgan_line)
    assert table.title == f"dfgan {painter.digest}"
    assert table.row_count == 2
    stored = painter.generator.state_dict().values()
    assert parameters(dfgan_line / "generator") == sum(tensor.numel() for tensor in stored)


@pytest.mark.filterwarnings("ignore::limner.text.CutCaptionWarning")
def test_the_sheet_is_what_it_paints_of_the_prompts(dfgan_line, tmp_path, capsys):
    from limner.evaluation.sheet import PROMPTS, contact_sheet

    path = tmp_path / "sheet.png"
    options = ("--seed", "4", "--weights", str(dfgan_line), "--device", "cpu")
    assert main(["evaluate", "--model", "dfgan", "--sheet", str(path), *options]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    paintings = load("dfgan", weights=dfgan_line).paint(PROMPTS, seed=4)
    ours = contact_sheet(lambda _: paintings, tmp_path / "ours.png")
    assert path.read_bytes() == ours.read_bytes()
    assert refused(capsys, "evaluate", "--suite", "emoji600", "--model", "dfgan", "--precision", "bf16") == (
        "precision is 'bf16': dfgan has no U-Net, so leave it out"
    )
