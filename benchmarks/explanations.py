"""Does an explanation point at the thing? Two drawings side by side, and which half speaks for each of them.

    python benchmarks/explanations.py data/emoji

Integrated gradients, as `limner explain` has them, beside occlusion: how much the score falls when a patch is
made white (Zeiler and Fergus 2014). A blind guess is right half of the time.
"""

import random
import sys
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from limner.clip import Clip, integrated_gradients, unit
from limner.data.folder import read
from limner.data.words import named
from limner.evaluation.intervals import wilson
from limner.pipelines.embedding import reader, worded
from limner.pipelines.pictures import open_picture, seen

PAIRS = 150
SIDE = 128


def occlusion(clip: Clip, picture: Tensor, words: Tensor) -> Tensor:
    """How much the score falls without each patch."""
    patch, grid = clip.config.vision.patch, clip.config.vision.resolution // clip.config.vision.patch
    without = picture.repeat(grid * grid, 1, 1, 1)
    for number, one in enumerate(without):
        row, column = divmod(number, grid)
        one[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 1
    with torch.no_grad():
        scores = unit(clip.encode_image(torch.cat([picture[None], without])).pooled) @ words
    return rearrange(scores[0] - scores[1:], "(h w) -> h w", h=grid)


def main() -> None:
    """Measure and print."""
    records = [
        one
        for one in read(Path(sys.argv[1])).records
        if one.facts.get("split") == "train"
        and one.facts.get("style") == "twemoji"
        and not one.facts.get("skin_tone")
        and one.facts.get("group") != "flags"
    ]
    choose, clip = random.Random(0), reader(None, "cpu")
    side = clip.clip.config.vision.resolution
    blank = torch.ones(3, side, side)
    hits: dict[str, list[bool]] = {"integrated gradients": [], "occlusion": []}
    missed = 0.0
    for _ in range(PAIRS):
        scene, pair = Image.new("RGBA", (SIDE, SIDE), "white"), choose.sample(records, 2)
        for place, record in enumerate(pair):
            thing = open_picture(record.file).resize((SIDE // 2, SIDE // 2))
            scene.paste(thing, (place * SIDE // 2, SIDE // 4), thing)
        picture = seen([scene], side)[0]
        for place, record in enumerate(pair):
            words = worded(clip.clip, clip.tokenizer, named(str(record.facts["name"]))).clone()
            found = integrated_gradients(clip.clip, picture, words, blank=blank)
            missed = max(missed, abs(float(found.patches.sum()) - (found.score - found.blank)))
            maps = {
                "integrated gradients": found.patches,
                "occlusion": occlusion(clip.clip, picture, words),
            }
            for told, patches in maps.items():
                halves = patches.chunk(2, dim=1)
                hits[told].append(bool(halves[place].sum() > halves[1 - place].sum()))
    table = Table("method", "points at the right half", title=f"{2 * PAIRS} things in {PAIRS} pictures")
    for told, found_right in hits.items():
        table.add_row(told, wilson(sum(found_right), len(found_right)).percent())
    Console().print(table, f"all patches together miss the score by at most {missed:.1e}")


if __name__ == "__main__":
    main()
