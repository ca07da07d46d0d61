"""Who is held out: decided by hash, so that every machine and every run agrees."""

import hashlib
import re
from collections.abc import Iterable

CONCEPT_SHARE = 0.05
PAIR_SHARE = 0.05
TONE_SHARE = 0.08
KEPT_BY = 2
"""A (style, concept) pair may be held out only while this many other styles keep the concept."""

TONES = {
    "1F3FB": "light",
    "1F3FC": "medium-light",
    "1F3FD": "medium",
    "1F3FE": "medium-dark",
    "1F3FF": "dark",
}


def fraction(*words: str) -> float:
    """A number in [0, 1) fixed by the words: the first eight bytes of their SHA-256."""
    digest = hashlib.sha256("/".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


_SIGNS = re.compile(r"-200D-(2640|2642|27A1)(-FE0F)?")
"""Endings that turn a person into a woman or a man, or to the right."""

_NEUTRAL = {"1F468": "1F9D1", "1F469": "1F9D1", "1F466": "1F9D2", "1F467": "1F9D2"}
"""Man and woman to person, boy and girl to child."""


def concept(hexcode: str) -> str:
    """What is drawn, whoever it is drawn as: the hexcode without skin tone, sex and direction.

    Sets draw "superhero", "man superhero" and "woman superhero" so alike that they are held out together.
    """
    parts = _SIGNS.sub("", hexcode).split("-")
    return "-".join(_NEUTRAL.get(part, part) for part in parts if part not in TONES)


def keeps_tone(hexcode: str) -> bool:
    """Whether this skin-tone variant is among the few that are kept; the same answer for every style."""
    return fraction("tone", hexcode) < TONE_SHARE


def is_flag(hexcode: str) -> bool:
    """Whether this is the flag of a country or region: a pair of letters, or a tagged black flag."""
    return bool(re.match(r"1F1(E[6-9A-F]|F[0-9A-F])-|1F3F4-E00", hexcode))


def assign(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The split of every (style, hexcode): `concept`, `pair` or `train`.

    `concept`: the drawing's concept is held out in all styles. `pair`: this style's drawing is held out
    while at least two other styles keep theirs. Flags are never held out as pairs, for some styles share
    their drawings. The order of `pairs` does not matter.
    """
    drawn: dict[str, list[tuple[float, str]]] = {}
    for style, hexcode in set(pairs):
        drawn.setdefault(hexcode, []).append((fraction("pair", style, hexcode), style))
    split: dict[tuple[str, str], str] = {}
    for hexcode, styles in drawn.items():
        if fraction("concept", concept(hexcode)) < CONCEPT_SHARE:
            split.update({(style, hexcode): "concept" for _, style in styles})
            continue
        kept = len(styles)
        for chance, style in sorted(styles):
            held = chance < PAIR_SHARE and kept > KEPT_BY and not is_flag(hexcode)
            kept -= held
            split[style, hexcode] = "pair" if held else "train"
    return split
