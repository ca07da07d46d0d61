"""`limner interpolate` and `limner traverse` as they are run."""

import numpy as np
import pytest
from PIL import Image

from limner.cli import main
from limner.cli.latents import PANEL
from limner.pipelines import load_autoencoder
from limner.pipelines.pictures import seen
from limner.pipelines.png import MARGIN
from limner.pipelines.stages import to_images


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, autoencoders):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a", "b")):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{name}.png")

    def command(*arguments):
        status = main([*map(str, arguments), "--weights", str(autoencoders), "--device", "cpu"])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return command


def panel(sheet: Image.Image, column: int, row: int, height: int) -> Image.Image:
    left, top = MARGIN + column * (PANEL + MARGIN), MARGIN + row * height
    return sheet.crop((left, top, left + PANEL, top + PANEL))


def enlarged(image: Image.Image) -> bytes:
    return image.resize((PANEL, PANEL), Image.Resampling.NEAREST).tobytes()


def test_a_strip_leads_from_one_picture_to_the_other(run, autoencoders):
    status, paths, errors = run("interpolate", "a.png", "b.png", "--steps", 3)
    assert (status, paths, errors) == (0, ["paintings/a-to-b.png"], "")
    model = load_autoencoder("vae", weights=autoencoders)
    ends = seen([Image.open("a.png"), Image.open("b.png")], model.resolution)
    strip = to_images(model.network.interpolate(*ends, 3))
    with Image.open(paths[0]) as sheet:
        assert sheet.text["weights"] == model.digest
        for column, image in enumerate(strip):
            assert panel(sheet, column, 0, 0).tobytes() == enlarged(image)


def test_each_row_moves_one_number(run, autoencoders):
    status, paths, errors = run("traverse", "a.png", "--dims", 2, "--steps", 3, "--span", 1.5)
    assert (status, paths, errors) == (0, ["paintings/a-numbers.png"], "")
    model = load_autoencoder("vae", weights=autoencoders)
    picture = seen([Image.open("a.png")], model.resolution)
    found = model.network.traversals(picture, 2, steps=3, span=1.5)
    with Image.open(paths[0]) as sheet:
        height = (sheet.height - MARGIN) // 2
        for row in range(2):
            for column, image in enumerate(to_images(found.pictures[row])):
                assert panel(sheet, column, row, height).tobytes() == enlarged(image)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("interpolate", "a.png", "b.png", "--steps", 1), "limner: steps is 1: give a whole number from 2"),
        (("interpolate", "a.png", "c.png"), "limner: no picture at c.png"),
        (("traverse", "a.png", "--dims", 10_000), "limner: dims is 10000: give a whole number from 1 to"),
        (("traverse", "a.png", "--dims", 6, "--steps", 1025), "limner: steps is 1025: give a whole number"),
        (("traverse", "a.png", "--span", "nan"), "limner: span is nan: give a number above 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(run, arguments, said):
    status, paths, errors = run(*arguments)
    assert (status, paths) == (2, [])
    assert errors.startswith(said)
    assert errors.count("\n") == 1
