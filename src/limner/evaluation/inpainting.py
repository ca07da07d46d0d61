"""Is what is known kept, and what is painted into the hole what the caption says? On pictures held out.

Each picture loses the boxes that training would erase, is mended by its own caption, and is shown to the
judge whole, with the hole, and mended. A seam is a step between neighbours on either side of a hole's rim
that the whole picture has not. Nichol et al. 2021, section 2.4 and figure 2.
"""

import dataclasses
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markdown import Markdown

from limner.data.folder import Record, read
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.names import plain
from limner.evaluation.recognition import Recognised, load_judge
from limner.evaluation.report import opened
from limner.evaluation.reranking import points
from limner.evaluation.retrieval import STYLED
from limner.evaluation.table import replaced
from limner.evaluation.trials import table
from limner.glide import erased
from limner.pipelines.pictures import seen
from limner.pipelines.png import contact_sheet
from limner.pipelines.settings import GlideSettings
from limner.pipelines.stages import to_images
from limner.progress import watched

if TYPE_CHECKING:
    from limner.pipelines import Glide

NAME = "inpainting"
PICTURES = 100
SHOWN = 12
# What a hole is shown as: the grey that is zero to every network.
HOLE = (128, 128, 128)
HEADER = ("picture", "recognised, top-1", "top-5", "top-5, points above the hole")


@dataclass(frozen=True, kw_only=True)
class Mended:
    """What came of it: the judge's answers, the largest change of a known 8-bit value, and steps at rims.

    `step_whole`, `step_mended`: the mean difference of neighbours across a hole's rim, in 8-bit levels.
    """

    weights: str
    pictures: int
    erased: float
    changed: int
    step_whole: Estimate
    step_mended: Estimate
    whole: Recognised
    holed: Recognised
    mended: Recognised
    gain: Estimate


def run(painter: "Glide", data: Path, judge: Path, out: Path, *, names: int = 300, seed: int = 0) -> Path:
    """Mend up to 100 held-out pictures of the judge's names; `out`/inpainting.md, which it returns.

    Beside it .json and a sheet. Drawings are of the judge's first `names` names. Raises LimnerError where
    nothing of these is held out.
    """
    referee = load_judge(judge, device=str(painter.device))
    chosen = held_out(data, set(referee.names[:names]), seed=seed)
    side = painter.sizes[1]
    whole, holed, mended = [], [], []
    changed, share, steps = 0, [], []
    for number, record in enumerate(watched(chosen, "mending")):
        (flat,) = opened([record], None)
        (image,) = to_images(seen([flat], side))
        mask = hole(seed, number, side)
        (filled,) = painter.inpaint(image, mask, record.captions[STYLED], seed=seed + number)
        known = np.asarray(mask) == 0
        apart = np.abs(np.asarray(filled, np.int16) - np.asarray(image, np.int16))
        changed = max(changed, int(apart[known].max(initial=0)))
        share.append(1 - known.mean())
        steps.append((step_at(mask, image), step_at(mask, filled)))
        whole.append(image)
        holed.append(Image.composite(Image.new("RGB", image.size, HOLE), image, mask))
        mended.append(filled)
    labels = [str(record.facts["name"]) for record in chosen]
    features = {
        name: referee.look(pictures, total=len(pictures))
        for name, pictures in (("whole", whole), ("holed", holed), ("mended", mended))
    }
    hits = {name: (referee.places(each, labels) < 5).double() for name, each in features.items()}
    found = Mended(
        weights=painter.digest,
        pictures=len(chosen),
        erased=float(np.mean(share)),
        changed=changed,
        step_whole=bootstrap([one for one, _ in steps], labels, seed=seed),
        step_mended=bootstrap([one for _, one in steps], labels, seed=seed),
        whole=referee.of(features["whole"], labels, seed=seed),
        holed=referee.of(features["holed"], labels, seed=seed),
        mended=referee.of(features["mended"], labels, seed=seed),
        gain=bootstrap((hits["mended"] - hits["holed"]).tolist(), labels, seed=seed),
    )
    said = text(found, seed=seed)
    Console().print(Markdown(said))
    rows = [each for trio in zip(whole, holed, mended, strict=True) for each in trio][: 3 * SHOWN]
    captions = [
        line for record in chosen[:SHOWN] for line in (record.captions[STYLED], "what is known", "mended")
    ]
    laid = io.BytesIO()
    contact_sheet(rows, captions, columns=6).save(laid, format="PNG", optimize=True)
    replaced(out / f"{NAME}.json", (json.dumps(dataclasses.asdict(found), indent=2) + "\n").encode())
    replaced(out / f"{NAME}_sheet.png", laid.getvalue())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


def held_out(data: Path, names: set[str], *, seed: int) -> list[Record]:
    """Up to 100 drawings that training has not seen, of names that the judge knows."""
    found = [
        record
        for record in read(data).records
        if plain(record)
        and record.facts.get("split") in ("pair", "concept")
        and record.facts["name"] in names
    ]
    if not found:
        raise LimnerError(f"{data} holds out no drawing whose name the judge knows: take another folder")
    random.Random(mix("mended", seed)).shuffle(found)
    return found[:PICTURES]


def hole(seed: int, number: int, side: int) -> Image.Image:
    """Where to paint, white: up to three boxes, never everything."""
    for attempt in range(1000):
        mask = erased(Draws([mix("hole", seed, number, attempt)]), side)[0, 0]
        if mask.any():
            return Image.fromarray(np.where(mask.numpy() > 0, 0, 255).astype(np.uint8))
    raise AssertionError("everything is erased once in four times")


def step_at(mask: Image.Image, picture: Image.Image) -> float:
    """The mean difference between neighbours of which one is in the hole and one is not, in 8-bit levels."""
    levels, inside = np.asarray(picture.convert("RGB"), np.float64), np.asarray(mask) > 0
    found = [
        np.abs(np.diff(levels, axis=axis)).mean(axis=-1)[np.diff(inside.astype(int), axis=axis) != 0]
        for axis in (0, 1)
    ]
    return float(np.concatenate(found).mean())


def levels(step: Estimate) -> str:
    """With one decimal."""
    return f"{step.value:.1f} ({step.low:.1f} to {step.high:.1f})"


def text(found: Mended, *, seed: int) -> str:
    """The table and what it means, as Markdown."""
    rows = [
        (
            name,
            judged.top1.percent(),
            judged.top5.percent(),
            points(found.gain) if name == "mended" else "",
        )
        for name, judged in (
            ("whole", found.whole),
            ("with the hole", found.holed),
            ("mended", found.mended),
        )
    ]
    guess = found.whole
    rows.append(("guessing", f"{100 * guess.chance1:.2f} %", f"{100 * guess.chance5:.2f} %", ""))
    return (
        f"{table(HEADER, rows)}\n\nGLIDE, weights {found.weights}; {found.pictures} drawings that training "
        f"has not seen, {100 * found.erased:.0f} % of each erased on average, mended by their captions at "
        f"guidance {GlideSettings().guidance:g}, from the seeds {seed} on. Known pixels are changed by at "
        f"most {found.changed} of 255. Across the rim neighbours differ by {levels(found.step_mended)} "
        f"levels and in the whole pictures by {levels(found.step_whole)}. In brackets: 95 % intervals.\n"
    )
