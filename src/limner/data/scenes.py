"""Drawn compositions with a known layout: a few sprites, how many of which, where, and in what colour.

A scene is drawn from (seed, number) alone, so there are as many as one likes and all can be drawn again. Some
combinations of object pair and relation, of object and colour, and of object and count are held out by hash:
a model that paints them has composed what it never saw composed.
"""

import json
import os
import random
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limner.data.colours import dominant_colours, oklab, srgb
from limner.data.emoji import only_made_here, replace_text
from limner.data.folder import Record, read
from limner.data.splits import fraction
from limner.data.words import named
from limner.draws import mix
from limner.errors import LimnerError
from limner.progress import watched

Relation = Literal["to the left of", "to the right of", "above", "below"]
# What `_make` writes, and what it leaves when it is killed on the way.
MADE = re.compile(r"(train|test)/\d{3,}/(\d{6,}\.png|\.\d{6,}\.png\.part)")
RELATIONS: tuple[Relation, ...] = ("to the left of", "to the right of", "above", "below")
# What a scene may be of, and how often: one thing, the same some times, two and how they lie, three or four.
Kind = Literal["one", "count", "pair", "several"]
KINDS: dict[Kind, int] = {"one": 3, "count": 3, "pair": 5, "several": 1}
BACK: dict[Relation, Relation] = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
COUNTS = {2: "two", 3: "three", 4: "four"}
HELD_OUT = 0.08
GROUPS = ("animals-nature", "food-drink", "travel-places", "objects", "activities")
# Hues to paint sprites in: a colour's name and its direction in OKLab's (a, b) plane, in degrees.
PAINTS = {"red": 29, "orange": 58, "yellow": 100, "green": 145, "blue": 255, "purple": 305, "pink": 355}
# Where one of a few things stands.
CORNERS = ((0.03, 0.03), (0.52, 0.03), (0.03, 0.52), (0.52, 0.52))
ATTEMPTS = 200


@dataclass(frozen=True)
class Sprite:
    """A drawing that may appear in scenes."""

    file: Path
    name: str
    style: str
    colours: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """One sprite in a scene: what it is, the colour it was painted if it was, and its box in [0, 1]."""

    name: str
    style: str
    colour: str | None
    left: float
    top: float
    side: float


@dataclass(frozen=True)
class Scene:
    """What is where; the picture's captions; whether the combination is held out."""

    items: tuple[Item, ...]
    relation: Relation | None
    captions: tuple[str, ...]
    held_out: bool


def sprites(records: Sequence[Record]) -> list[Sprite]:
    """The records that can stand in a scene: plain things with short names, of the training split."""
    chosen = []
    for record in records:
        facts = record.facts
        name = str(facts.get("name", ""))
        words = name.split()
        plain = facts.get("group") in GROUPS and not facts.get("skin_tone") and facts.get("split") == "train"
        if plain and 1 <= len(words) <= 2 and name.replace(" ", "").isalpha() and name.islower():
            colours = tuple(str(c) for c in facts.get("colours", ()))  # type: ignore[attr-defined]
            chosen.append(Sprite(record.file, name, str(facts["style"]), colours))
    if len(chosen) < 4:
        raise LimnerError(
            "too few sprites to compose scenes: give a folder that `limner data fetch emoji` has made"
        )
    return chosen


def held_out(*words: str) -> bool:
    """Whether a combination is kept from training: the same answer everywhere and always."""
    return fraction("scene", *words) < HELD_OUT


def plural(name: str) -> str:
    """The plural of a sprite's name, regular enough for the names there are."""
    if name.endswith(("s", "x", "ch", "sh", "fish", "sheep", "deer")):
        return name if name.endswith(("s", "fish", "sheep", "deer")) else name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    for ending, many in (
        ("mouse", "mice"),
        ("tooth", "teeth"),
        ("foot", "feet"),
        ("goose", "geese"),
        ("leaf", "leaves"),
        ("knife", "knives"),
        ("wolf", "wolves"),
    ):
        if name.endswith(ending):
            return name[: -len(ending)] + many
    return name + "s"


def painted(rgba: NDArray[np.uint8], colour: str) -> NDArray[np.uint8] | None:
    """Turn a drawing's main hue to a named colour; None when the result does not look that colour.

    Every pixel turns by the same angle in OKLab, so shading and outlines stay. Greys stay grey.
    """
    lab = oklab(rgba[..., :3] / 255.0)
    visible = rgba[..., 3] > 128
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    vivid = visible & (chroma > 0.06)
    if vivid.sum() < 0.35 * visible.sum():
        return None
    hue = np.arctan2((lab[..., 2] * vivid).sum(), (lab[..., 1] * vivid).sum())
    turn = np.deg2rad(PAINTS[colour]) - hue
    a, b = lab[..., 1].copy(), lab[..., 2].copy()
    lab[..., 1], lab[..., 2] = a * np.cos(turn) - b * np.sin(turn), a * np.sin(turn) + b * np.cos(turn)
    out = rgba.copy()
    out[..., :3] = np.round(srgb(lab) * 255).astype(np.uint8)
    return out if dominant_colours(out)[:1] == [colour] else None


def paintable(sprite: Sprite, colour: str) -> bool:
    """Whether a sprite looks a named colour when it is painted so."""
    return painted(_pixels(sprite.file, 64), colour) is not None


def compose(
    pool: Sequence[Sprite],
    *,
    seed: int,
    number: int,
    size: int,
    test: bool = False,
    kind: Kind | None = None,
    settled: bool = False,
) -> tuple[Image.Image, Scene]:
    """Scene `number`: an RGBA picture of size × size pixels, transparent around the sprites, and its layout.

    `test` asks for held-out combinations only; otherwise there are none of them. `kind`: of this kind only.
    `settled`: the same scene, its things where `settle` puts them.
    """
    for attempt in range(ATTEMPTS):
        choose = random.Random(mix("scene", seed, number, attempt))
        of = kind or choose.choices([*KINDS], weights=[*KINDS.values()])[0]
        made = {"one": _one, "count": _count, "pair": _pair, "several": _several}[of](pool, choose)
        if made is None:
            continue
        scene, files = made
        if scene.held_out != test:
            continue
        if settled:
            scene = settle(scene)
        return drawn(scene, files, size), scene
    raise LimnerError(
        f"no {'held-out ' if test else ''}scene found in {ATTEMPTS} attempts: give more sprites"
    )


def beside(relation: Relation) -> tuple[tuple[float, float], tuple[float, float]]:
    """Left and top of two things of side .45, each in the middle of its half, the first as is said."""
    near, far, across = 0.02, 0.53, 0.275
    here, there = (near, far) if relation in ("to the left of", "above") else (far, near)
    upright = relation in ("above", "below")
    return ((across, here), (across, there)) if upright else ((here, across), (there, across))


def settle(scene: Scene) -> Scene:
    """The same scene without the chance in where its things stand, of which no caption says anything.

    One thing fills the picture, as drawings do. Two lie in the middle of their halves, and of a few each
    stands in its corner, the first ones above and on the left.
    """
    first, *others = scene.items
    if not others:
        return replace(scene, items=(replace(first, left=0.0, top=0.0, side=1.0),))
    places = CORNERS[: len(scene.items)] if scene.relation is None else beside(scene.relation)
    return replace(
        scene,
        items=tuple(
            replace(item, left=left, top=top) for item, (left, top) in zip(scene.items, places, strict=True)
        ),
    )


Drawn = tuple[Scene, list[Path]]


def _one(pool: Sequence[Sprite], choose: random.Random) -> Drawn | None:
    """One thing, mostly painted in a colour that it may never have."""
    sprite = choose.choice(pool)
    colour = choose.choice(list(PAINTS)) if choose.random() < 0.8 else None
    bare = without_colour(sprite.name)
    if colour is not None and painted(_pixels(sprite.file, 64), colour) is None:
        return None
    side = choose.uniform(0.45, 0.8)
    item = Item(bare if colour else sprite.name, sprite.style, colour, *_place(choose, side), side)
    noun = _noun(item)
    captions = (noun, f"{noun}, {sprite.style} style", f"a picture of {noun}")
    # A yellow book says the same whether it was painted or is called so.
    said = colour or next((word for word in sprite.name.split() if word in PAINTS), "")
    return Scene((item,), None, captions, held_out("colour", bare, said)), [sprite.file]


def _count(pool: Sequence[Sprite], choose: random.Random) -> Drawn | None:
    """The same thing two to four times."""
    sprite = choose.choice(pool)
    if named(sprite.name) == sprite.name:  # bread, tennis: what takes no article cannot be counted
        return None
    count = choose.choice(list(COUNTS))
    cells = choose.sample(CORNERS, count)
    items = tuple(
        Item(
            sprite.name,
            sprite.style,
            None,
            x + choose.uniform(-0.02, 0.02),
            y + choose.uniform(-0.02, 0.02),
            0.45,
        )
        for x, y in cells
    )
    noun = f"{COUNTS[count]} {plural(sprite.name)}"
    captions = (noun, f"{noun}, {sprite.style} style", f"a picture of {noun}")
    return Scene(items, None, captions, held_out("count", sprite.name, str(count))), [sprite.file] * count


def _pair(pool: Sequence[Sprite], choose: random.Random) -> Drawn | None:
    """Two things and where the one is seen from the other."""
    first, second = choose.sample(list(pool), 2)
    if first.name == second.name:
        return None
    relation = choose.choice(RELATIONS)
    near, far, across = choose.uniform(0.0, 0.06), choose.uniform(0.5, 0.55), choose.uniform(0.15, 0.38)
    here, there = (near, far) if relation in ("to the left of", "above") else (far, near)
    upright = relation in ("above", "below")
    items = tuple(
        Item(
            sprite.name,
            sprite.style,
            None,
            across + choose.uniform(-0.05, 0.05) if upright else along,
            along if upright else across + choose.uniform(-0.05, 0.05),
            0.45,
        )
        for sprite, along in ((first, here), (second, there))
    )
    one, other = named(first.name), named(second.name)
    captions = (
        f"{one} {relation} {other}",
        f"{one} {relation} {other}",
        f"{other} {BACK[relation]} {one}",
        f"{one} and {other}",
    )
    secret = held_out("pair", *one_way_round(first.name, second.name, relation))
    return Scene(items, relation, captions, secret), [first.file, second.file]


def one_way_round(first: str, second: str, relation: Relation) -> tuple[str, str, str]:
    """The same words for "a cat left of a dog" and "a dog right of a cat", which are one picture."""
    return (first, second, relation) if first < second else (second, first, BACK[relation])


def _several(pool: Sequence[Sprite], choose: random.Random) -> Drawn | None:
    """Three or four different things."""
    chosen = choose.sample(list(pool), choose.choice((3, 4)))
    names = [sprite.name for sprite in chosen]
    if len(set(names)) < len(names):
        return None
    cells = choose.sample(CORNERS, len(chosen))
    items = tuple(Item(s.name, s.style, None, x, y, 0.45) for s, (x, y) in zip(chosen, cells, strict=True))
    nouns = [named(name) for name in names]
    caption = ", ".join(nouns[:-1]) + " and " + nouns[-1]
    return Scene(items, None, (caption,), held_out("several", *sorted(names))), [s.file for s in chosen]


def _noun(item: Item) -> str:
    return named(f"{item.colour} {item.name}" if item.colour else item.name)


def without_colour(name: str) -> str:
    """A name without the hues in it, or whole where it is nothing but hues."""
    words = [word for word in name.split() if word not in PAINTS]
    return " ".join(words) or name


def _place(choose: random.Random, side: float) -> tuple[float, float]:
    return choose.uniform(0, 1 - side), choose.uniform(0, 1 - side)


@lru_cache(maxsize=4096)
def _pixels(file: Path, side: int) -> NDArray[np.uint8]:
    """A sprite at some size, its colours not bled into by invisible pixels."""
    with Image.open(file) as opened:
        small = opened.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(small.convert("RGBA"))


def drawn(scene: Scene, files: Sequence[Path], size: int) -> Image.Image:
    """A scene of these sprites, RGBA, size × size pixels, transparent around them."""
    canvas = Image.new("RGBA", (size, size), (255, 255, 255, 0))
    for item, file in zip(scene.items, files, strict=True):
        side = max(1, round(item.side * size))
        pixels = _pixels(file, side)
        if item.colour is not None:
            repainted = painted(pixels, item.colour)
            pixels = pixels if repainted is None else repainted
        left = min(max(0, round(item.left * size)), size - side)
        top = min(max(0, round(item.top * size)), size - side)
        canvas.alpha_composite(Image.fromarray(pixels, "RGBA"), (left, top))
    return canvas


@dataclass(frozen=True)
class _Job:
    pool: tuple[Sprite, ...]
    out: Path
    size: int
    seed: int
    test: bool
    kind: Kind | None
    settled: bool


def _file(number: int, test: bool) -> str:
    return f"{'test' if test else 'train'}/{number // 1000:03d}/{number:06d}.png"


def _make(job: _Job, number: int) -> dict[str, object]:
    picture, scene = compose(
        job.pool,
        seed=job.seed,
        number=number,
        size=job.size,
        test=job.test,
        kind=job.kind,
        settled=job.settled,
    )
    file = _file(number, job.test)
    path = job.out / file
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    picture.save(part, format="PNG", compress_level=3)
    os.replace(part, path)
    return {
        "file": file,
        "captions": list(dict.fromkeys(scene.captions)),
        "split": "test" if job.test else "train",
        "relation": scene.relation,
        "items": [asdict(item) for item in scene.items],
    }


def write(
    folder: Path,
    out: Path,
    *,
    count: int,
    size: int,
    seed: int = 0,
    tests: int = 500,
    kind: Kind | None = None,
    settled: bool = False,
    workers: int | None = None,
) -> Path:
    """Draw `count` scenes for training and `tests` held-out ones from the sprites in `folder`.

    Of all kinds, or of one `kind` only; their things where chance puts them or, `settled`, where `settle`
    does.

    `captions.jsonl` is removed first and written last: a folder without it is an unfinished one, and running
    again draws it whole. Scenes of an earlier list that this one does not name are removed; nothing else is.
    Raises `LimnerError` when `out` is the folder of the sprites, or has captions of anything but scenes: they
    would be lost.
    """
    if out.resolve() == folder.resolve():
        raise LimnerError(f"{out} holds the sprites: give another folder for the scenes")
    only_made_here(out, MADE)
    pool = tuple(sprites(read(folder).records))
    (out / "captions.jsonl").unlink(missing_ok=True)
    wanted = {_file(n, test) for test, number in ((False, count), (True, tests)) for n in range(number)}
    for old in [*out.glob("t*/*/*")]:
        file = old.relative_to(out).as_posix()
        if file not in wanted and MADE.fullmatch(file):
            old.unlink()
    rows: list[dict[str, object]] = []
    with ProcessPoolExecutor(workers) as executor:
        for test, number in ((False, count), (True, tests)):
            job = _Job(pool, out, size, seed, test, kind, settled)
            made = executor.map(_make, [job] * number, range(number), chunksize=100)
            rows += watched(made, "drawing held-out scenes" if test else "drawing scenes", total=number)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    credit = folder / "ATTRIBUTION.md"
    if credit.exists():
        replace_text(out / "ATTRIBUTION.md", credit.read_text(encoding="utf-8"))
    replace_text(out / "captions.jsonl", text)
    return out
