"""Is what the second upsampler adds real? Held-out drawings brought down to 256 pixels and up to 1024 again.

Beside it bicubic and Pillow's Lanczos enlargements of the same small pictures, which are clean, or degraded
as in training. PSNR asks for the same pixels, sharpness for as steep edges, and the Fréchet distance between
what the judge sees in crops at 100 % whether they look like crops of drawings. Ramesh et al. 2022, 2.1.
"""

import dataclasses
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from PIL import Image
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from limner.dalle2.objective import reduced
from limner.dalle2.upsampler import enlarged
from limner.data.folder import Record, read
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.evaluation.frechet import frechet_distance, gaussian
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.names import plain
from limner.evaluation.recognition import load_judge
from limner.evaluation.reconstruction import psnr
from limner.evaluation.report import opened
from limner.evaluation.table import replaced
from limner.evaluation.trials import table
from limner.layers.corruptions import degraded
from limner.pipelines.pictures import seen
from limner.pipelines.png import contact_sheet
from limner.pipelines.settings import Commission, PaintSettings
from limner.pipelines.stages import Enlarged, eight_bit, to_images
from limner.progress import watched

if TYPE_CHECKING:
    from limner.pipelines import Dalle2

NAME = "enlarging"
# Crops at 100 % of each picture, and their side.
CROPS, CROP = 4, 128
SHOWN = 8
HEADER = ("from 256 pixels", "by", "PSNR, dB", "sharpness", "Fréchet distance of crops")

Way = Callable[[Float[Tensor, "1 3 h w"]], Float[Tensor, "1 3 h2 w2"]]


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What came of a way to enlarge; `sharpness` is the steepness of edges, 1 for the real drawings'."""

    start: str
    way: str
    psnr: Estimate
    sharpness: Estimate
    frechet: float


def run(painter: "Dalle2", data: Path, judge: Path, out: Path, *, names: int = 300, seed: int = 0) -> Path:
    """Enlarge up to `names` held-out drawings in every way; `out`/enlarging.md, which it returns.

    Beside it .json and a sheet of crops. Raises LimnerError for drawings with fewer pixels than the second
    upsampler makes, and where there is none.
    """
    if painter.upsampler_1024 is None:
        raise LimnerError("these weights have no second upsampler: train one, or measure what ships")
    referee = load_judge(judge, device=str(painter.device))
    config = painter.upsampler_1024.config
    chosen = held_out(data, config.high, names, seed=seed)
    ways: dict[str, Way] = {
        "bicubic": lambda low: enlarged(low, torch.Size((config.high, config.high))),
        "Lanczos": lambda low: lanczos(low, config.high),
        "the upsampler": lambda low: upsampled(painter, low, seed),
    }
    crops: dict[tuple[str, str], list[Image.Image]] = {}
    scores: dict[tuple[str, str], list[tuple[float, float]]] = {}
    real_crops: list[Image.Image] = []
    shown: list[Image.Image] = []
    for number, record in enumerate(watched(chosen, "enlarging")):
        (flat,) = opened([record], None)
        real = seen([flat], config.high)
        corners = places(real, Draws([mix("crops", seed, number)]))
        real_crops += cropped(real, corners)
        clean = eight_bit(reduced(real, config.high // config.low))
        starts = {
            "clean": clean,
            "degraded": eight_bit(degraded(clean, Draws([mix("degraded", seed, number)]))),
        }
        for start, low in starts.items():
            for name, way in ways.items():
                large = eight_bit(way(low.to(painter.device)).cpu())
                mine = scores.setdefault((start, name), [])
                mine.append((float(psnr(real, large)), float(steepness(large) / steepness(real))))
                crops.setdefault((start, name), []).extend(cropped(large, corners))
                if number < SHOWN:
                    shown.append(crops[start, name][-CROPS])
        if number < SHOWN:
            shown.append(real_crops[-CROPS])
    labels = [str(record.facts.get("name", record.file)) for record in chosen]
    truth = gaussian(referee.look(real_crops, total=len(real_crops)))
    found = [
        Grown(
            start=start,
            way=name,
            psnr=bootstrap([one for one, _ in each], labels, seed=seed),
            sharpness=bootstrap([one for _, one in each], labels, seed=seed),
            frechet=frechet_distance(
                truth, gaussian(referee.look(crops[start, name], total=len(crops[start, name])))
            ),
        )
        for (start, name), each in scores.items()
    ]
    said = text(painter, found, drawings=len(chosen))
    Console().print(Markdown(said))
    captions = [*(f"{start}, {name}" for start, name in scores), "real"] * min(SHOWN, len(chosen))
    laid = io.BytesIO()
    contact_sheet(shown, captions, columns=len(scores) + 1).save(laid, format="PNG", optimize=True)
    kept = {
        "weights": painter.digest,
        "drawings": len(chosen),
        "seed": seed,
        "settings": PaintSettings().described(),
        "grown": [dataclasses.asdict(one) for one in found],
    }
    replaced(out / f"{NAME}.json", (json.dumps(kept, indent=2) + "\n").encode())
    replaced(out / f"{NAME}_sheet.png", laid.getvalue())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


def held_out(data: Path, side: int, most: int, *, seed: int) -> list[Record]:
    """Up to so many drawings of concepts that no painter has seen, with enough pixels."""
    found = []
    for record in read(data).records:
        if plain(record) and record.facts.get("split") == "concept":
            with Image.open(record.file) as opened_file:
                if max(opened_file.size) >= side:
                    found.append(record)
    if not found:
        raise LimnerError(
            f"{data} holds out no drawing of {side} pixels: give the folder of `limner data fetch vector "
            f"--pixels {side}`"
        )
    random.Random(mix("enlarged", seed)).shuffle(found)
    return found[:most]


def lanczos(low: Float[Tensor, "1 3 h w"], side: int) -> Float[Tensor, "1 3 h2 w2"]:
    """By Pillow's filter of that name."""
    (image,) = to_images(low)
    return seen([image.resize((side, side), Image.Resampling.LANCZOS)], side)


def upsampled(painter: "Dalle2", low: Float[Tensor, "1 3 h w"], seed: int) -> Float[Tensor, "1 3 h2 w2"]:
    """As a painting is."""
    enlarged_once = Enlarged(commissions=(Commission("", seed),), pictures=low)
    return painter.enlarge_again(enlarged_once, PaintSettings()).pictures


def steepness(picture: Float[Tensor, "b 3 h w"]) -> float:
    """The root mean square of differences between neighbours: nothing but edges has large ones."""
    across, down = picture.diff(dim=3), picture.diff(dim=2)
    return float((across.square().mean() + down.square().mean()).sqrt())


def places(picture: Float[Tensor, "1 3 h w"], draws: Draws) -> list[tuple[int, int]]:
    """Corners of crops that show something: of eight places each, the one with the most edges."""
    room = picture.shape[-1] - CROP
    tried = (draws.uniform(CROPS, 8, 2)[0] * (room + 1)).long().tolist()
    return [
        max(((top, left) for top, left in eight), key=lambda at: steepness(_crop(picture, *at)))
        for eight in tried
    ]


def cropped(picture: Float[Tensor, "1 3 h w"], corners: list[tuple[int, int]]) -> list[Image.Image]:
    """As images."""
    return to_images(torch.cat([_crop(picture, *corner) for corner in corners]))


def _crop(picture: Float[Tensor, "1 3 h w"], top: int, left: int) -> Float[Tensor, "1 3 h2 w2"]:
    return picture[..., top : top + CROP, left : left + CROP]


def text(painter: "Dalle2", found: list[Grown], *, drawings: int) -> str:
    """The table and what it means, as Markdown."""
    rows = [
        (one.start, one.way, one.psnr.decimal(), one.sharpness.decimal(), f"{one.frechet:.1f}")
        for one in found
    ]
    return (
        f"{table(HEADER, rows)}\n\nDALL-E 2's second upsampler, weights {painter.digest}; {drawings} "
        f"drawings of concepts that no painter has seen, {CROPS} crops of {CROP} pixels each. Sharpness is "
        "the root mean square of differences between neighbouring pixels, as a share of the real drawing's; "
        "1 is as sharp, more is noisier. In brackets: 95 % intervals.\n"
    )
