"""`limner reconstruct` as it is run: one PNG, its path, its price, or one line that says what is wrong."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.cli import main
from limner.formats import taming
from limner.formats.places import give
from limner.pipelines import load_autoencoder
from limner.pipelines.autoencoders import word_colours
from limner.pipelines.pictures import seen
from limner.pipelines.png import MARGIN
from limner.pipelines.stages import to_images
from limner.vqgan import VqGan, VqGanConfig

PANEL = 256
PANELS = {"vae": 2, "vqvae": 3, "vqvae2": 4, "dvae": 3}


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """A wide picture, half of it transparent."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 60, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[:, 30:, 3] = 0
    Image.fromarray(pixels).save("My Apple.png")
    return tmp_path / "My Apple.png"


@pytest.fixture
def reconstruct(autoencoders, capsys):
    def run(*arguments):
        status = main(
            ["reconstruct", *map(str, arguments), "--weights", str(autoencoders), "--device", "cpu"]
        )
        said = capsys.readouterr()
        assert said.err == ""
        assert status == 0
        return said.out.splitlines()

    return run


def panel(sheet, number):
    left = MARGIN + number * (PANEL + MARGIN)
    return sheet.crop((left, MARGIN, left + PANEL, MARGIN + PANEL))


@pytest.mark.parametrize("name", PANELS)
def test_before_after_and_the_words(name, picture, reconstruct, autoencoders):
    path, said = reconstruct(picture, "--model", name)
    assert path == f"paintings/my-apple-{name}.png"
    model = load_autoencoder(name, weights=autoencoders)
    pictures = seen([Image.open(picture)], 32)
    grids = model.tokens(pictures)
    with Image.open(path) as sheet:
        assert sheet.width == MARGIN + PANELS[name] * (PANEL + MARGIN)
        for number, expected in enumerate((pictures, model.reconstruct(pictures))):
            large = to_images(expected)[0].resize((PANEL, PANEL), Image.Resampling.NEAREST)
            assert panel(sheet, number).tobytes() == large.tobytes()
        # Margins and what is transparent lie on white.
        assert panel(sheet, 0).getpixel((200, 128)) == (255, 255, 255)
        for number, grid in enumerate(grids.values(), start=2):
            cells = panel(sheet, number).resize(grid[0].shape, Image.Resampling.NEAREST)
            assert np.array_equal(np.array(cells), word_colours(grid[0]).numpy())
        found = sheet.text
    bits = float(model.bits(pictures))
    assert said.startswith(f"60×30 pixels, brought to 32×32; {bits:,.0f} bits")
    for grid_name, grid in grids.items():
        side = grid.shape[1]
        words = f"{len(set(grid.flatten().tolist()))} of {model.vocabulary} words in {side} by {side} places"
        assert f"{grid_name}: {words}" in said
    assert found["weights"] == model.digest
    assert (found["model"], found["bits"]) == (name, f"{bits:.1f}")


def test_a_picture_of_the_right_size_is_left_as_it_is(picture, reconstruct):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("black.png")
    path, said = reconstruct("black.png", "--model", "dvae", "--out", "black-again.png")
    assert path == "black-again.png"
    assert said.startswith("32×32 pixels; 384 bits; tokens: ")
    assert sorted(os.listdir()) == [picture.name, "black-again.png", "black.png"]


def test_somebody_elses_vqgan(picture, tmp_path, capsys):
    """As taming-transformers' training leaves it, at the size that those are of."""
    config = VqGanConfig(
        resolution=256,
        stem=32,
        widths=(32, 32, 32),
        depth=1,
        attention=(),
        latent=4,
        codes=16,
        width=4,
        choice="gumbel",
        pixels="signed",
    )
    torch.manual_seed(0)
    state = give(taming.places(config), VqGan(config).state_dict())
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    assert main(["reconstruct", str(picture), "--model", "vqgan", "--weights", "last.ckpt"]) == 0
    path, said = capsys.readouterr().out.splitlines()
    assert path == "paintings/my-apple-vqgan.png"
    assert said.startswith("60×30 pixels, brought to 256×256; 16,384 bits; codes: ")
    assert said.endswith("of 16 words in 64 by 64 places")
    assert main(["reconstruct", str(picture), "--model", "vqgan"]) == 2
    assert "no weights for vqgan ship: give --weights" in capsys.readouterr().err


def test_in_a_folder_nothing_is_lost(picture, reconstruct):
    first, _ = reconstruct(picture)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(picture)
    second, _ = reconstruct(picture)
    again, _ = reconstruct(picture)
    assert (first, second) == ("paintings/my-apple-dvae.png", "paintings/my-apple-dvae-2.png")
    assert again == second


def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(picture, autoencoders, capsys, tmp_path):
    (tmp_path / "words.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:200])
    there = sorted(os.listdir())
    weights = ("--weights", str(autoencoders))
    half = shutil.copytree(autoencoders / "vae", tmp_path.parent / "half")
    (half / "model.safetensors").write_bytes(b"")
    for arguments, words in (
        (["none.png", *weights], "no picture at none.png"),
        ([".", *weights], "no picture at ."),
        (["words.png", *weights], "cannot read words.png as a picture"),
        (["cut.png", *weights], "cannot read cut.png as a picture"),
        ([picture, "--model", "gan"], "'gan'"),
        ([picture, *weights, "--out", "after.jpg"], "out is 'after.jpg'"),
        ([picture, *weights, "--out", "words.png/in"], "cannot write into words.png/in"),
        ([picture, "--weights", "none"], "no checkpoint at none"),
        ([picture, "--model", "vae", "--weights", half], "half/model.safetensors is damaged"),
    ):
        assert main(["reconstruct", *map(str, arguments)]) == 2, arguments
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("limner: ")
        assert said.err.count("\n") == 1
        assert words in said.err
        assert sorted(os.listdir()) == there


def test_the_words_of_a_picture_do_not_depend_on_how_often_one_looks(picture, reconstruct):
    paths = [reconstruct(picture, "--out", f"{number}.png")[0] for number in (1, 2)]
    torch.manual_seed(7)
    paths.append(reconstruct(picture, "--out", "3.png")[0])
    assert len({Path(path).read_bytes() for path in paths}) == 1
