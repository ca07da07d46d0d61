"""What is right about a picture of one of the six hundred prompts: every mark is yes or no.

Single drawings: whether the judge's first answer is right, and whether it is among the first five. Colour
bindings: the thing is among five, most of it has the colour asked for, the ground is nearest to the one asked
for, and all of this. Relations and counts: each thing is cut out and among five, there are as many as asked
for, the first lies where it should from the second, and all of this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.data.colours import GROUNDS
from limner.data.scenes import Item, Scene, beside, drawn
from limner.draws import mix
from limner.evaluation.emoji600 import Group, Request
from limner.evaluation.layout import Thing, colour_of, cut_out, ground_name, relation, things
from limner.evaluation.recognition import Judge

# Marks by group, in the order of the table.
RECOGNISED, FIRST, COLOUR, GROUND, COUNT, RELATION, ALL = (
    "among five",
    "first answer",
    "thing's colour",
    "ground's colour",
    "as many as asked for",
    "relation",
    "all of these",
)
MARKS: dict[Group, tuple[str, ...]] = {
    "name": (FIRST, RECOGNISED),
    "pair": (FIRST, RECOGNISED),
    "paraphrase": (FIRST, RECOGNISED),
    "colour": (RECOGNISED, COLOUR, GROUND, ALL),
    "relation": (RECOGNISED, COUNT, RELATION, ALL),
    "count": (RECOGNISED, COUNT, ALL),
}
FIVE = 5
# Pixels a side at which everything is looked at, whatever a painter's size: one ceiling for all.
SIDE = 64
# How much larger scenes are composed than they are looked at: drawings are shrunk once, as others are.
FINER = 4

Marks = dict[str, bool]


@dataclass(frozen=True)
class Looked:
    """A picture's things, and the pictures that the judge is shown of it: the whole, or each thing."""

    things: list[Thing]
    shown: list[Image.Image]


def looked(request: Request, picture: Image.Image) -> Looked:
    """The whole picture of a single drawing; else what there is in it, cut out."""
    if request.group in ("name", "pair", "paraphrase"):
        return Looked([], [picture])
    found = things(picture)
    if request.group == "colour":
        found = found[:1]
    # Nothing is recognised as nothing.
    return Looked(found, [cut_out(picture, thing) for thing in found] or [picture])


def marked(judge: Judge, requests: Sequence[Request], pictures: Sequence[Image.Image]) -> list[Marks]:
    """The marks of each picture, by their names."""
    seen = [looked(one, picture) for one, picture in zip(requests, pictures, strict=True)]
    shown = [picture for one in seen for picture in one.shown]
    features = judge.look(shown, total=len(shown))
    ends = accumulate((len(one.shown) for one in seen), initial=0)
    rows = [features[start:end] for start, end in pairwise(ends)]
    return [marks(judge, *each) for each in zip(requests, pictures, seen, rows, strict=True)]


def marks(
    judge: Judge, request: Request, picture: Image.Image, seen: Looked, features: Float[Tensor, "n f"]
) -> Marks:
    """One picture's, from the judge's features of what it was shown."""
    places = [judge.places(features, [name] * len(features)) for name in request.names]
    if request.group == "relation":
        return placed(request, seen.things, [place.tolist() for place in places])
    found = bool((places[0] < FIVE).all())
    if not seen.things and request.group in ("colour", "count"):
        return dict.fromkeys(MARKS[request.group], False) | (
            {GROUND: ground_name(picture) == request.ground} if request.group == "colour" else {}
        )
    if request.group == "colour":
        own = colour_of(picture, seen.things[0]) == request.colour
        under = ground_name(picture) == request.ground
        return {RECOGNISED: found, COLOUR: own, GROUND: under, ALL: found and own and under}
    if request.group == "count":
        enough = len(seen.things) == request.count
        return {RECOGNISED: found, COUNT: enough, ALL: found and enough}
    return {FIRST: bool(places[0][0] < 1), RECOGNISED: found}


def placed(request: Request, found: Sequence[Thing], places: Sequence[Sequence[int]]) -> Marks:
    """Of two things: `places` says how many names the judge puts before each of the two, thing by thing.

    Which is which is what the judge holds likelier; where both ways are alike, the order counts as wrong.
    """
    enough = len(found) == len(request.names)
    if len(found) < len(request.names):
        return dict.fromkeys(MARKS["relation"], False)
    (first, second), (swapped, other) = (places[0][0], places[1][1]), (places[0][1], places[1][0])
    straight = first + second < swapped + other
    as_asked = relation(found[0], found[1]) == request.relation
    the_other_way = relation(found[1], found[0]) == request.relation
    right = as_asked if straight else (the_other_way and first + second > swapped + other)
    best = (first, second) if straight else (swapped, other)
    known = max(best) < FIVE
    return {RECOGNISED: known, COUNT: enough, RELATION: right, ALL: known and enough and right}


def at_side(picture: Image.Image) -> Image.Image:
    """A picture at `SIDE` pixels, on white."""
    if picture.mode != "RGB":
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if picture.size == (SIDE, SIDE):
        return picture
    shrunk = picture.width > SIDE
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX if shrunk else Image.Resampling.BICUBIC)


def real(request: Request, drawings: Mapping[tuple[str, str], Path]) -> Image.Image:
    """What was asked for as it should be: the real drawing, or a scene composed of real drawings.

    `drawings`: files by style and hexcode.
    """
    named = zip(request.styles, request.hexcodes, strict=True)
    files = [drawings[one] for one in named]
    if request.group in ("name", "pair", "paraphrase"):
        with Image.open(files[0]) as file:
            rgba = file.convert("RGBA")
    else:
        items = laid(request)
        scene = Scene(items, request.relation, (request.prompt,), held_out=True)
        each = files * request.count
        rgba = drawn(scene, each, FINER * SIDE)
    under = Image.new("RGBA", rgba.size, (*GROUNDS[request.ground or "white"], 255))
    return at_side(Image.alpha_composite(under, rgba).convert("RGB"))


def laid(request: Request) -> tuple[Item, ...]:
    """Where things lie in a real scene: as `limner.data.scenes` lays them, in the middle of its ranges."""

    def item(number: int, left: float, top: float, side: float) -> Item:
        name = request.names[min(number, len(request.names) - 1)]
        style = request.styles[min(number, len(request.styles) - 1)]
        return Item(name, style, request.colour, left, top, side)

    if request.group == "colour":
        return (item(0, 0.15, 0.15, 0.7),)
    if request.group == "count":
        cells = [(x, y) for y in (0.02, 0.53) for x in (0.02, 0.53)]
        turn = mix("emoji600", request.prompt) % len(cells)
        return tuple(item(0, *cells[(turn + n) % len(cells)], 0.45) for n in range(request.count))
    assert request.relation is not None
    places = beside(request.relation)
    return tuple(item(number, left, top, 0.45) for number, (left, top) in enumerate(places))
