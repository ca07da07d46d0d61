"""Small studies: each model paints in one colour, so that anybody who looks knows whose a picture is."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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


@pytest.fixture
def folder(paint, tmp_path):
    return paint(tmp_path / "comparison")
