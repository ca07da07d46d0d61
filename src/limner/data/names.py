"""What each emoji is called: Unicode's sequences with names and keywords, by hexcode."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.data.captions import trimmed_keywords
from limner.data.sources import member
from limner.data.splits import TONES
from limner.data.words import spoken

SELECTOR = "FE0F"
"""The code point that asks for colour: sets disagree on writing it, so matching is done without it."""


@dataclass(frozen=True, kw_only=True)
class Emoji:
    """One Unicode emoji: its hexcode as emojibase writes it, its names, what it is filed under."""

    hexcode: str
    label: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    tone: str | None


def bare(hexcode: str) -> str:
    """A hexcode in the form that all sets share: upper case, four digits at least, no colour selector."""
    parts = hexcode.upper().replace("_", "-").split("-")
    return "-".join(part.zfill(4) for part in parts if part.zfill(4) != SELECTOR)


def emoji_table(emojibase: Path, cldr: Path) -> dict[str, Emoji]:
    """Every emoji that is a drawing of something, by emojibase's hexcode.

    Left out: lone flag letters and the skin-tone and hair swatches, which are parts of emoji.
    """
    groups = json.loads(member(emojibase, "meta/groups.json"))
    entries = list(_with_tones(json.loads(member(emojibase, "en/data.json"))))
    said = json.loads(member(cldr, "annotations/en/annotations.json"))["annotations"]["annotations"]
    lists = [_keyword_lists(entry, said) for entry in entries]
    rank = Counter(word for pair in lists for word in set(pair[0]) | set(pair[1]))
    table: dict[str, Emoji] = {}
    for entry, pair in zip(entries, lists, strict=True):
        group = groups["groups"].get(str(entry.get("group")))
        if group in (None, "component"):
            continue
        name = spoken(entry["label"])
        table[entry["hexcode"]] = Emoji(
            hexcode=entry["hexcode"],
            label=entry["label"],
            name=name,
            keywords=tuple(trimmed_keywords(name, *pair, rank=rank)),
            group=group,
            subgroup=groups["subgroups"].get(str(entry.get("subgroup")), ""),
            tone=_tone(entry["hexcode"]),
        )
    return table


def _with_tones(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each emoji, then its skin-tone variants, which take over its keywords."""
    for entry in entries:
        yield entry
        for skin in entry.get("skins", []):
            yield {"tags": entry.get("tags", []), "base": entry["emoji"], **skin}


def _keyword_lists(entry: dict[str, Any], said: dict[str, Any]) -> tuple[list[str], list[str]]:
    glyph = str(entry.get("base", entry["emoji"]))
    note = said.get(glyph) or said.get(glyph.replace("\ufe0f", "")) or {}
    return list(note.get("default", [])), list(entry.get("tags", []))


def _tone(hexcode: str) -> str | None:
    tones = list(dict.fromkeys(TONES[part] for part in hexcode.split("-") if part in TONES))
    return " and ".join(tones) or None
