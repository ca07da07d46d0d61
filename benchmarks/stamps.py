"""Pictures that nobody here drew or chose: Tux Paint's stamps, laid into folders for `limner classify`.

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb tux
    python benchmarks/stamps.py tux/usr/share/tuxpaint/stamps data/stamps --known data/emoji
    limner classify data/stamps/kinds --confusion kinds.png
    limner classify data/stamps/known
    limner classify data/stamps/known-photos --labels-file data/stamps/known.txt

`kinds`: what a stamp is by the folder that Tux Paint has it in, for the folders that are a kind of thing.
`names`: what it is by its English sentence, where that is an article and at most two words ("A polo shirt.").
`known`: of these, those whose name is one that training had a drawing of. Each also in two parts: `drawings`
are vectors and what lies in a folder called cartoon; most of the rest, `photos`, are photos, cut out. A part
is asked about all labels of the whole, which stand in a text file beside it.

The stamps are under the GPL 2: they measure, and are not passed on.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from limner.data.folder import read
from limner.data.render import Drawing, render

# Pixels a side of a vector.
SIDE = 256
KINDS = {
    "animals/birds": "bird",
    "animals/fish": "fish",
    "animals/insects": "insect",
    "animals/mammals": "mammal",
    "clothes/hats": "hat",
    "food/fruit": "fruit",
    "food/vegetables": "vegetable",
    "hobbies/music": "musical instrument",
    "household/electronics": "electronic device",
    "household/tools": "tool",
    "plants/flowers": "flower",
    "plants/trees": "tree",
    "space/planets": "planet",
    "sports": "sports equipment",
    "town/houses": "house",
    "vehicles": "vehicle",
}
# Where stamps are of things, not letters, coins or signs.
THINGS = (
    "animals",
    "clothes",
    "food",
    "hobbies",
    "household",
    "medical",
    "plants",
    "space",
    "sports",
    "vehicles",
)
SENTENCE = re.compile(r"(?:an?|some|the) ([\w'-]+(?: [\w'-]+)?)[.!]", re.IGNORECASE)


@dataclass(frozen=True)
class Stamp:
    """A picture's file, the folder it lies in from the stamps', whether it is drawn, and its sentence."""

    file: Path
    folder: str
    drawn: bool
    sentence: str

    @property
    def kind(self) -> str | None:
        """What Tux Paint has it under, if that is a kind of thing."""
        found = [kind for place, kind in KINDS.items() if f"{self.folder}/".startswith(f"{place}/")]
        return found[0] if found else None

    @property
    def name(self) -> str | None:
        """What it is called, where its sentence says no more than that."""
        found = SENTENCE.fullmatch(self.sentence)
        if found is None or not self.folder.startswith(THINGS):
            return None
        return found[1].lower()


def stamps(root: Path) -> Iterator[Stamp]:
    """All of them, once: not mirrored, and a vector only where it is not there as pixels too."""
    for file in sorted([*root.rglob("*.png"), *root.rglob("*.svg")]):
        told = file.with_suffix(".txt")
        twice = file.suffix == ".svg" and file.with_suffix(".png").exists()
        if twice or file.stem.endswith("_mirror") or not told.exists():
            continue
        folder = file.parent.relative_to(root).as_posix()
        sentence = told.read_text(encoding="utf-8", errors="replace").splitlines()[0].strip()
        yield Stamp(file, folder, file.suffix == ".svg" or "cartoon" in folder, sentence)


def picture(stamp: Stamp) -> Image.Image:
    """A stamp in pixels. ValueError for a vector that cannot be drawn."""
    if stamp.file.suffix == ".svg":
        return render(Drawing(svg=stamp.file.read_text(encoding="utf-8")), SIDE)
    return Image.open(stamp.file)


def main() -> None:
    """Lay them out."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("stamps", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--known", type=Path, help="the folder of drawings that CLIP was trained on")
    given = options.parse_args()
    known: set[str] = set()
    if given.known is not None:
        records = read(given.known).records
        known = {str(one.facts["name"]).lower() for one in records if one.facts.get("split") != "concept"}
    for stamp in stamps(given.stamps):
        sets = {
            "kinds": stamp.kind,
            "names": stamp.name,
            "known": stamp.name if stamp.name in known else None,
        }
        half = "drawings" if stamp.drawn else "photos"
        places = [
            given.out / folder / label
            for name, label in sets.items()
            if label is not None
            for folder in (name, f"{name}-{half}")
        ]
        try:
            drawn = picture(stamp)
        except ValueError as error:
            print(f"{stamp.file} is left out: {error}")
            continue
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            # Under all of its old path, for names come more than once.
            drawn.save(place / f"{stamp.folder.replace('/', '-')}-{stamp.file.stem}.png")
    for name in ("kinds", "names", "known"):
        if (given.out / name).is_dir():
            labels = sorted(place.name for place in (given.out / name).iterdir())
            (given.out / f"{name}.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
