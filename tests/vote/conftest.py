"""Small studies: each model paints in one colour, so that anybody who looks knows whose a picture is."""

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from limner import checkpoint
from limner.evaluation.emoji600 import requests
from limner.evaluation.features import WIDTH
from limner.evaluation.recognition import Recogniser, RecogniserConfig

COLOURS = {"dalle1": (200, 40, 40), "dfgan": (40, 160, 40), "glide": (40, 40, 200)}


@pytest.fixture(scope="session")
def paint():
    """Paint a folder to compare: each model's pictures are of its colour, a little different every time."""

    def paint(folder, *, models=tuple(COLOURS), prompts=3, count=4, side=32):
        chance = np.random.default_rng(0)
        for model in models:
            for prompt in range(prompts):
                for number in range(count):
                    colour = np.clip(np.array(COLOURS[model]) + chance.integers(-30, 31, 3), 0, 255)
                    told = PngInfo()
                    told.add_itxt("prompt", f"thing number {prompt}")
                    told.add_itxt("model", model)
                    path = folder / "pictures" / model / f"{prompt:03}-{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    picture = Image.new("RGB", (side, side), tuple(int(one) for one in colour))
                    picture.save(path, pnginfo=told)
        return folder

    return paint


@pytest.fixture(scope="session")
def blind(tmp_path_factory):
    """A recogniser of an apple and of all names in the fixed evaluation; it has learned nothing."""
    known = {name: code for one in requests() for name, code in zip(one.names, one.hexcodes, strict=True)}
    known |= {"red apple": "1F34E", "apple": "1F34F"}
    config = RecogniserConfig(
        names=tuple(known), hexcodes=tuple(known.values()), features=WIDTH, side=32, dropout=0.0
    )
    out = tmp_path_factory.mktemp("blind")
    torch.manual_seed(0)
    checkpoint.save(out / "model", Recogniser(config).state_dict(), config)
    return out


@pytest.fixture
def folder(paint, tmp_path):
    return paint(tmp_path / "comparison")
