"""Do inverted pictures come back, and do words change them into what they say? On pictures held out.

First, DDIM inversion by its steps: PSNR of what `render` gives back of 50 drawings. Then text diffs by their
strength: of each of 100 drawings another colour is asked for, or another thing of the same kind. Arrived is a
picture whose largest colour is the one asked for, or which the judge takes for the other thing; what stays is
how alike the edges of both are. Ramesh et al. 2022, section 3.3 and figure 5.
"""

import dataclasses
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.markdown import Markdown

from limner.data.colours import NAMES, dominant_colours
from limner.data.folder import Record, read
from limner.data.words import named
from limner.draws import mix
from limner.errors import LimnerError
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.names import plain
from limner.evaluation.recognition import Judge, load_judge
from limner.evaluation.reconstruction import psnr
from limner.evaluation.report import opened
from limner.evaluation.table import replaced
from limner.evaluation.trials import table
from limner.pipelines.inversion import CLEANEST, REFINEMENTS, invert, render
from limner.pipelines.manipulations import direction_of, slerp
from limner.pipelines.pictures import seen
from limner.pipelines.png import contact_sheet
from limner.progress import watched

if TYPE_CHECKING:
    from limner.pipelines import Dalle2

NAME = "edits"
PICTURES, EDITS = 50, 100
STEPS = (5, 10, 20, 40)
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
# Colours that drawings are asked for, all of them far from one another.
COLOURS = ("red", "blue", "green", "yellow", "purple", "pink")
SHOWN = 8

Kind = Literal["colour", "thing"]


@dataclass(frozen=True)
class Wanted:
    """An edit: which drawing, what it is said to be and what it shall be, and how that is found out."""

    record: Record
    kind: Kind
    source: str
    target: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Came:
    """What came of one kind of edits at one strength."""

    kind: Kind
    strength: float
    arrived: Estimate
    arrived5: Estimate | None
    stays: Estimate


def run(painter: "Dalle2", data: Path, judge: Path, out: Path, *, names: int = 300, seed: int = 0) -> Path:
    """Invert and edit held-out drawings of the judge's first `names` names; `out`/edits.md, which it returns.

    Beside it .json and a sheet. Raises LimnerError where nothing of these is held out.
    """
    referee = load_judge(judge, device=str(painter.device))
    records = [record for record in read(data).records if plain(record)]
    known = set(referee.names[:names])
    held = [r for r in records if r.facts.get("split") in ("pair", "concept") and r.facts["name"] in known]
    if not held:
        raise LimnerError(f"{data} holds out no drawing whose name the judge knows: take another folder")
    random.Random(mix("edited", seed)).shuffle(held)
    asked = wanted(held, records, referee.names[:names], seed=seed)
    if not asked:
        raise LimnerError(
            f"nothing that {data} holds out can be asked for in another way: take another folder"
        )
    back = {steps: returned(painter, held[:PICTURES], steps, seed=seed) for steps in STEPS}
    made: dict[float, list[Image.Image]] = {strength: [] for strength in STRENGTHS}
    start = list(opened([one.record for one in asked], painter.sizes[0]))
    for one, image in watched(list(zip(asked, start, strict=True)), "editing"):
        latent = invert(painter, [image], size=painter.sizes[0])
        direction = direction_of(painter, one.target, one.source)
        for strength in STRENGTHS:
            turned = slerp(latent.embedding, direction, torch.tensor([strength], device=painter.device))
            made[strength] += render(
                painter, dataclasses.replace(latent, embedding=turned), size=painter.sizes[0]
            )
    came = [
        judged(kind, strength, asked, start, made[strength], referee, seed=seed)
        for kind in dict.fromkeys(one.kind for one in asked)
        for strength in STRENGTHS
    ]
    said = text(painter, back, came, pictures=len(held[:PICTURES]), edits=len(asked))
    Console().print(Markdown(said))
    kept = {
        "weights": painter.digest,
        "seed": seed,
        "cleanest": CLEANEST,
        "refinements": REFINEMENTS,
        "back": {steps: dataclasses.asdict(found) for steps, found in back.items()},
        "edits": [dataclasses.asdict(one) for one in came],
    }
    replaced(out / f"{NAME}.json", (json.dumps(kept, indent=2) + "\n").encode())
    laid = io.BytesIO()
    sheet(asked, start, made).save(laid, format="PNG", optimize=True)
    replaced(out / f"{NAME}_sheet.png", laid.getvalue())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


def returned(painter: "Dalle2", records: Sequence[Record], steps: int, *, seed: int) -> Estimate:
    """The PSNR of what comes back of small pictures."""
    images = list(opened(records, None))
    small = seen(images, painter.sizes[0])
    latent = invert(painter, images, size=painter.sizes[0], steps=steps)
    again = seen(render(painter, latent, size=painter.sizes[0]), painter.sizes[0])
    # 8-bit pictures may be equal: the error of rounding stands for none.
    found = psnr(small, again).clamp(max=60)
    return bootstrap(found.tolist(), [str(record.facts["name"]) for record in records], seed=seed)


def wanted(
    held: Sequence[Record], records: Sequence[Record], names: Sequence[str], *, seed: int
) -> list[Wanted]:
    """Half of the edits ask for another colour, half for another thing of the same group."""
    choose = random.Random(mix("wanted", seed))
    group = {str(r.facts["name"]): r.facts.get("group") for r in records}
    coloured: list[Wanted] = []
    things: list[Wanted] = []
    for record in held:
        name, colours = str(record.facts["name"]), record.facts.get("colours")
        first = str(colours[0]) if isinstance(colours, list) and colours else ""
        others = [n for n in names if group.get(n) == record.facts.get("group") and n != name]
        if len(coloured) < EDITS // 2 and first in COLOURS and not any(w in NAMES for w in name.split()):
            other = choose.choice([colour for colour in COLOURS if colour != first])
            bare = named(name).removeprefix("a ").removeprefix("an ")
            coloured.append(Wanted(record, "colour", _coloured(first, bare), _coloured(other, bare), other))
        elif len(things) < EDITS // 2 and others:
            other = choose.choice(others)
            things.append(Wanted(record, "thing", named(name), named(other), other))
    return [*coloured, *things]


def _coloured(colour: str, thing: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {thing}"


def judged(
    kind: Kind,
    strength: float,
    asked: Sequence[Wanted],
    start: Sequence[Image.Image],
    made: Sequence[Image.Image],
    referee: Judge,
    *,
    seed: int,
) -> Came:
    """How many have arrived, and what stays."""
    mine = [row for row, one in enumerate(asked) if one.kind == kind]
    labels = [str(asked[row].record.facts["name"]) for row in mine]
    answers = [asked[row].answer for row in mine]
    arrived5 = None
    if kind == "colour":
        hits = [float(colour_of(made[row]) == answer) for row, answer in zip(mine, answers, strict=True)]
    else:
        places = referee.places(referee.look([made[row] for row in mine], total=len(mine)), answers)
        hits = (places < 1).double().tolist()
        arrived5 = bootstrap((places < 5).double().tolist(), labels, seed=seed)
    return Came(
        kind=kind,
        strength=strength,
        arrived=bootstrap(hits, labels, seed=seed),
        arrived5=arrived5,
        stays=bootstrap([alike(start[row], made[row]) for row in mine], labels, seed=seed),
    )


def colour_of(picture: Image.Image) -> str:
    """The name of the largest colour besides the white that everything lies on."""
    rgba = np.asarray(picture.convert("RGBA")).copy()
    rgba[(rgba[..., :3] > 235).all(axis=-1), 3] = 0
    found = dominant_colours(rgba)
    return found[0] if found else "white"


def alike(one: Image.Image, other: Image.Image) -> float:
    """The cosine between the edges of two pictures: 1 where all lines are where they were."""
    first, second = (edges(picture) for picture in (one, other))
    return float((first * second).sum() / max(np.sqrt((first**2).sum() * (second**2).sum()), 1e-9))


def edges(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """How steep a picture is at each place."""
    levels = np.asarray(picture.convert("RGB"), np.float64)
    down, across = np.gradient(levels, axis=(0, 1))
    steep: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.sqrt((down**2 + across**2).sum(axis=-1))
    return steep


def text(
    painter: "Dalle2", back: dict[int, Estimate], came: Sequence[Came], *, pictures: int, edits: int
) -> str:
    """Both tables and what they mean, as Markdown."""
    first = table(
        ("steps", "PSNR of what comes back, dB"),
        [(str(steps), f"{one.value:.1f} ({one.low:.1f} to {one.high:.1f})") for steps, one in back.items()],
    )
    second = table(
        ("edit", "strength θ", "arrived", "among five", "edges alike"),
        [
            (
                one.kind,
                f"{one.strength:g}",
                one.arrived.percent(),
                "" if one.arrived5 is None else one.arrived5.percent(),
                one.stays.decimal(),
            )
            for one in came
        ],
    )
    return (
        f"{first}\n\n{second}\n\nDALL-E 2, weights {painter.digest}, at {painter.sizes[0]} pixels; "
        f"{pictures} drawings that training has not seen inverted, {edits} edited. Inversion begins at level "
        f"{CLEANEST} of 1000, with {REFINEMENTS} refinements of every step. In brackets: 95 % intervals.\n"
    )


def sheet(
    asked: Sequence[Wanted], start: Sequence[Image.Image], made: dict[float, list[Image.Image]]
) -> Image.Image:
    """The first few of either kind: the drawing, and what became of it at every strength."""
    shown, captions = [], []
    for kind in ("colour", "thing"):
        for row in [row for row, one in enumerate(asked) if one.kind == kind][:SHOWN]:
            shown += [start[row], *(made[strength][row] for strength in STRENGTHS)]
            captions += [asked[row].source, *[f"{asked[row].target}: {strength:g}" for strength in STRENGTHS]]
    large = [picture.resize((128, 128), Image.Resampling.BICUBIC) for picture in shown]
    return contact_sheet(large, captions, columns=2 * (1 + len(STRENGTHS)))
