"""Who is held out: decided by hash, so that every machine and every run agrees."""

import hashlib
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


def concept(hexcode: str) -> str:
    """The hexcode without its skin tones: what is drawn, whoever it is drawn for."""
    return "-".join(part for part in hexcode.split("-") if part not in TONES)


def keeps_tone(hexcode: str) -> bool:
    """Whether this skin-tone variant is among the few that are kept; the same answer for every style."""
    return fraction("tone", hexcode) < TONE_SHARE


def assign(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The split of every (style, hexcode): ``concept``, ``pair`` or ``train``.

    ``concept``: the drawing's concept is held out in all styles. ``pair``: this style's drawing is held out
    while at least two other styles keep theirs. The order of ``pairs`` does not matter.
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
            held = chance < PAIR_SHARE and kept > KEPT_BY
            kept -= held
            split[style, hexcode] = "pair" if held else "train"
    return split
