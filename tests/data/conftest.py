"""Small packages with the layout of the real ones: a few emoji, drawn here."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from limner.data.sources import Package, integrity

PAINTS = ["#dd2e44", "#3b88c3", "#77b255", "#ffcc4d", "#744eaa", "#795548", "#292f33", "#f4900c"]

# Rows as emojibase writes them.
EMOJI = [
    {"label": "red apple", "hexcode": "1F34E", "emoji": "🍎", "tags": ["apple", "fruit", "red"], "group": 4},
    {"label": "green apple", "hexcode": "1F34F", "emoji": "🍏", "tags": ["apple", "fruit"], "group": 4},
    {
        "label": "heart on fire",
        "hexcode": "2764-FE0F-200D-1F525",
        "emoji": "❤️‍🔥",
        "tags": ["burn"],
        "group": 0,
    },
    {"label": "flag: France", "hexcode": "1F1EB-1F1F7", "emoji": "🇫🇷", "tags": ["FR", "flag"], "group": 9},
    {
        "label": "flag: St. Martin",
        "hexcode": "1F1F2-1F1EB",
        "emoji": "🇲🇫",
        "tags": ["MF", "flag"],
        "group": 9,
    },
    {"label": "regional indicator A", "hexcode": "1F1E6", "emoji": "🇦"},
    {"label": "light skin tone", "hexcode": "1F3FB", "emoji": "🏻", "group": 2},
    {"label": "fox", "hexcode": "1F98A", "emoji": "🦊", "tags": ["animal", "face"], "group": 3},
    {
        "label": "waving hand",
        "hexcode": "1F44B",
        "emoji": "👋",
        "tags": ["hand", "hello"],
        "group": 1,
        "skins": [
            {
                "label": f"waving hand: {name} skin tone",
                "hexcode": f"1F44B-{code}",
                "emoji": "👋",
                "tone": 1,
                "group": 1,
            }
            for name, code in [("light", "1F3FB"), ("medium", "1F3FD"), ("dark", "1F3FF")]
        ],
    },
]
GROUPS = ["smileys-emotion", "people-body", "component", "animals-nature", "food-drink", "travel-places"]
GROUPS += ["activities", "objects", "symbols", "flags"]


class Press:
    """Prints packages into a folder that serves as npm's cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pack(self, name: str, files: dict[str, bytes | str | dict]) -> Package:
        """A package with these files, pinned to what its tarball holds."""
        package = Package(name=name, version="1.0.0", integrity="", licence="MIT", credit="Us", home="here")
        with tarfile.open(self.folder / package.tarball, "w:gz") as archive:
            for path, content in files.items():
                said = json.dumps(content) if isinstance(content, dict) else content
                body = said.encode() if isinstance(said, str) else said
                entry = tarfile.TarInfo(f"package/{path}")
                entry.size = len(body)
                archive.addfile(entry, io.BytesIO(body))
        return replace(package, integrity=integrity(self.folder / package.tarball))

    def names(self, extra: list[dict] | None = None) -> tuple[Package, Package]:
        """Both packages of names."""
        groups = {str(number): group for number, group in enumerate(GROUPS)}
        emojibase = {
            "en/data.json": json.dumps([*EMOJI, *(extra or [])]),
            "meta/groups.json": {"groups": groups, "subgroups": {}},
        }
        notes = {"🍎": {"default": ["apple", "fruit", "ripe"], "tts": ["red apple"]}}
        cldr = {"annotations/en/annotations.json": {"annotations": {"annotations": notes}}}
        return self.pack("emojibase-data", emojibase), self.pack("cldr-annotations-full", cldr)

    def iconify(self, name: str, chars: dict[str, str], icons: dict[str, dict], **more: object) -> Package:
        """A package of an Iconify set."""
        whole = {"prefix": "x", "icons": icons, "width": 32, "height": 32, **more}
        return self.pack(name, {"icons.json": whole, "chars.json": chars})

    @staticmethod
    def shape(number: int) -> str:
        """The inside of an SVG of 32 by 32: a shape with a colour of its own."""
        paint = PAINTS[number % len(PAINTS)]
        return f'<path fill="{paint}" d="M4 4h{8 + number % 17}l8 {12 + number % 9}L6 28z"/>'

    @staticmethod
    def webp(number: int) -> bytes:
        """A bitmap of 40 by 40 with a block in a colour of its own."""
        picture = Image.new("RGBA", (40, 40))
        picture.paste(PAINTS[number % len(PAINTS)], (4, 8, 30 + number % 8, 36))
        stream = io.BytesIO()
        picture.save(stream, format="WEBP", lossless=True)
        return stream.getvalue()


@pytest.fixture
def press(tmp_path: Path) -> Press:
    """A press whose packages land in `tmp_path / "cache"`."""
    folder = tmp_path / "cache"
    folder.mkdir()
    return Press(folder)
