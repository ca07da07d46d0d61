"""What each set drew: every drawing in a package, matched to its Unicode emoji."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from limner.data.names import Emoji, bare
from limner.data.render import Drawing
from limner.data.sources import member, members

BY_CODE_POINT = ("noto", "twemoji", "fluent-flat")
BY_NAME = ("emojione", "emojione-v1", "streamline")
BY_FILE = {"fluent-3d": "assets/", "fluent-color": "assets/", "openmoji": "color/svg/"}


def drawings(style: str, tarball: Path, table: Mapping[str, Emoji]) -> list[tuple[str, Drawing]]:
    """A set's drawings with the hexcode (emojibase's spelling) of what each shows, in the order of the table.

    A drawing of something Unicode does not have is left out; of two for one emoji the first is taken.
    """
    if style in BY_FILE:
        found = _by_file(tarball, BY_FILE[style], {bare(hexcode): hexcode for hexcode in table})
    elif style in BY_CODE_POINT:
        found = _by_code_point(tarball, {bare(hexcode): hexcode for hexcode in table})
    elif style in BY_NAME:
        found = _by_name(tarball, _slugs(table))
    else:
        raise ValueError(f"style must be one of {(*BY_CODE_POINT, *BY_NAME, *BY_FILE)}, got {style!r}")
    first: dict[str, Drawing] = {}
    for hexcode, drawing in found:
        first.setdefault(hexcode, drawing)
    return [(hexcode, first[hexcode]) for hexcode in table if hexcode in first]


_STEM = re.compile(r"([0-9a-fA-F_-]+)\.?(svg|webp|png)$")


def _by_file(tarball: Path, folder: str, codes: Mapping[str, str]) -> Iterator[tuple[str, Drawing]]:
    for path, content in members(tarball, folder):
        # A few files of one package lost the dot before their ending ("1f446svg").
        stem = _STEM.fullmatch(path.removeprefix(folder))
        hexcode = codes.get(bare(stem.group(1))) if stem else None
        if hexcode is not None and stem is not None:
            vector = stem.group(2) == "svg"
            yield hexcode, Drawing(svg=content.decode("utf-8")) if vector else Drawing(bitmap=content)


def _by_code_point(tarball: Path, codes: Mapping[str, str]) -> Iterator[tuple[str, Drawing]]:
    icons = json.loads(member(tarball, "icons.json"))
    for code, icon in json.loads(member(tarball, "chars.json")).items():
        hexcode = codes.get(bare(code))
        svg = _svg(icons, icon)
        if hexcode is not None and svg is not None:
            yield hexcode, Drawing(svg=svg)


def _by_name(tarball: Path, slugs: Mapping[str, str]) -> Iterator[tuple[str, Drawing]]:
    icons = json.loads(member(tarball, "icons.json"))
    for icon, body in icons["icons"].items():
        hexcode = next((slugs[name] for name in spellings(icon) if name in slugs), None)
        svg = _svg(icons, icon)
        if hexcode is not None and svg is not None and not body.get("hidden"):
            yield hexcode, Drawing(svg=svg)


_RENAMED = {
    "a-button": "a-button-blood-type",
    "ab-button": "ab-button-blood-type",
    "b-button": "b-button-blood-type",
    "ballot-box-with-check": "check-box-with-check",
    "blond-haired-person": "person-blond-hair",
    "bride-with-veil": "woman-with-veil",
    "champagne-glass": "bottle-with-popping-cork",
    "direct-hit": "bullseye",
    "dizzy-face": "face-with-crossed-out-eyes",
    "heavy-check-mark": "check-mark",
    "heavy-division-sign": "divide",
    "heavy-heart-exclamation": "heart-exclamation",
    "heavy-large-circle": "hollow-red-circle",
    "heavy-minus-sign": "minus",
    "heavy-multiplication-x": "multiply",
    "heavy-plus-sign": "plus",
    "hugging-face": "smiling-face-with-open-hands",
    "laptop-computer": "laptop",
    "o-button": "o-button-blood-type",
    "question-mark": "red-question-mark",
    "up-text-button": "up-button",
    "white-heavy-check-mark": "check-mark-button",
    "exclamation-mark": "red-exclamation-mark",
    "game-dice": "game-die",
    "man-in-suit-levitating": "person-in-suit-levitating",
    "man-with-chinese-cap": "person-with-skullcap",
    "man-and-woman-holding-hands": "woman-and-man-holding-hands",
    "two-men-holding-hands": "men-holding-hands",
    "two-women-holding-hands": "women-holding-hands",
    "pistol": "water-pistol",
    "pouting-face": "enraged-face",
    "red-wine-glass": "wine-glass",
    "school-backpack": "backpack",
    "flag-for-macedonia": "flag-north-macedonia",
    "flag-for-swaziland": "flag-eswatini",
    "flag-for-turkey": "flag-turkiye",
    "black-push-pin": "pushpin",
}
"""Names that Unicode has changed since a set was drawn."""


def spellings(icon: str) -> Iterator[str]:
    """An icon's name, then what the same thing is called today: "fox-face-1" is "fox"."""
    name = re.sub(r"-\d$", "", icon)
    yield icon
    yield name
    yield _RENAMED.get(name, name)
    yield re.sub(r"^flag-for-(flag-)?", "flag-", name).replace("-and-", "-")
    yield name.removeprefix("flag-for-")
    yield f"flag-{name}"
    yield name.replace("digit-", "keycap-")
    yield name.replace("cat-face", "cat")
    yield name.removesuffix("-face")


def _slugs(table: Mapping[str, Emoji]) -> dict[str, str]:
    slugs: dict[str, str] = {}
    for hexcode, emoji in table.items():
        slugs.setdefault(slug(emoji.label), hexcode)
    return slugs


def slug(label: str) -> str:
    """A label as icon sets spell it: lower case, words joined by hyphens."""
    plain = unicodedata.normalize("NFKD", label.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "")).strip("-")


def _svg(icons: dict[str, Any], icon: str) -> str | None:
    """One icon of an Iconify set as a whole SVG; None when it is turned or flipped from another."""
    body = icons["icons"].get(icon)
    if body is None:
        alias = icons.get("aliases", {}).get(icon)
        if alias is None or any(key in alias for key in ("rotate", "hFlip", "vFlip")):
            return None
        return _svg(icons, alias["parent"])
    left, top = body.get("left", 0), body.get("top", 0)
    width = body.get("width", icons.get("width", 16))
    height = body.get("height", icons.get("height", 16))
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    return f'{head}viewBox="{left} {top} {width} {height}">{body["body"]}</svg>'
