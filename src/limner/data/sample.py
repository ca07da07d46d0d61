"""The small real sample that ships in the package: a hundred well-known things, for tests and toy recipes."""

import io
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from PIL import Image

from limner.data import splits
from limner.data.emoji import attribution, replace_text
from limner.data.folder import read
from limner.errors import LimnerError

TRAIN_STYLES: tuple[str, ...] = ("noto", "twemoji", "fluent-flat", "fluent-3d")
JUDGE_STYLES: tuple[str, ...] = ("emojione", "streamline")
"""The judge's sets that ask for credit only; the share-alike ones are fetched, never shipped."""

SIDE = 64

CONCEPTS: tuple[str, ...] = tuple(
    name.strip()
    for name in """
    red apple, green apple, pear, peach, cherries, strawberry, tangerine, lemon, banana, watermelon, melon,
    grapes, pineapple, tomato, carrot, mushroom, bread, hamburger, pizza, french fries, sushi, cookie,
    doughnut, birthday cake, soft ice cream, hot beverage, egg,
    cat face, dog face, cat, dog, horse, cow, pig, rabbit face, bear, panda, koala, fox, lion, tiger,
    monkey face, elephant, penguin, bird, frog, turtle, snake, fish, dolphin, spouting whale, octopus,
    snail, honeybee, butterfly, unicorn,
    rose, sunflower, tulip, cactus, palm tree, evergreen tree, four leaf clover, maple leaf,
    house, castle, automobile, bus, taxi, ambulance, bicycle, tractor, airplane, rocket, helicopter,
    sailboat, anchor, sun, crescent moon, star, rainbow, cloud, snowflake, snowman, fire, droplet, umbrella,
    red heart, blue heart, broken heart, balloon, wrapped gift, Christmas tree, jack-o-lantern, crown, bell,
    guitar, violin, open book, key, t-shirt, glasses, robot, ghost, alien, grinning face, soccer ball
    """.split(",")
)
"""What the sample shows, by name; a style that has not drawn one of them is without it."""


def sample_dir(part: str = "train") -> Path:
    """Where the shipped sample lies: `train` has four of the painters' styles, `judge` two of the judge's."""
    if part not in ("train", "judge"):
        raise ValueError(f"part must be 'train' or 'judge', got {part!r}")
    return Path(str(files("limner.data"))) / "sample" / part


def make_sample(emoji_dir: Path, judge_dir: Path, out: Path) -> Path:
    """Make the sample anew from fetched folders: `train/` and `judge/` inside `out`, which it returns.

    Pictures are shrunk to 64 pixels. The splits are those of the whole sets' rule,
    worked out for the sample's own styles. Raises `LimnerError` when a name is drawn by none of the styles.
    """
    _write(emoji_dir, out / "train", TRAIN_STYLES)
    _write(judge_dir, out / "judge", JUDGE_STYLES)
    return out


def _write(source: Path, out: Path, styles: Sequence[str]) -> None:
    found = {
        (str(record.facts["style"]), str(record.facts["name"])): record
        for record in read(source).records
        if record.facts.get("style") in styles and record.facts.get("skin_tone") is None
    }
    absent = [name for name in CONCEPTS if not any((style, name) in found for style in styles)]
    if absent and styles == TRAIN_STYLES:
        raise LimnerError(
            f"{source} has no drawing of {', '.join(absent)}: fetch the sets {', '.join(styles)}"
        )
    chosen = [found[style, name] for style in styles for name in CONCEPTS if (style, name) in found]
    split = splits.assign((str(r.facts["style"]), str(r.facts["hexcode"])) for r in chosen)
    if out.exists():
        shutil.rmtree(out)
    lines = []
    for record in chosen:
        style, hexcode = str(record.facts["style"]), str(record.facts["hexcode"])
        file = f"{style}/{hexcode.lower()}.png"
        (out / style).mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(_shrunk(record.file))
        row = {
            "file": file,
            "captions": list(record.captions),
            **record.facts,
            "split": split[style, hexcode],
        }
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    counts = Counter(str(record.facts["style"]) for record in chosen)
    replace_text(out / "ATTRIBUTION.md", attribution(styles, counts))
    replace_text(out / "captions.jsonl", "".join(lines))


def _shrunk(file: Path) -> bytes:
    """The picture at 64 pixels as an RGBA PNG."""
    with Image.open(file) as opened:
        picture = opened.convert("RGBA")
    if picture.size != (SIDE, SIDE):
        picture = picture.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.BOX).convert("RGBA")
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
