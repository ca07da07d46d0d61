"""A look at a folder before hours are spent on it: what is there, what is broken, what is there twice."""

import hashlib
import os
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from limner.data.folder import Problem, Record, read, upright
from limner.errors import LimnerError
from limner.progress import watched

NEAR_BITS = 12
"""Two pictures are near when their 768-bit average hashes differ in no more bits than this,"""
NEAR_SHADE = 6.0
"""and their mean colours by no more than this in each channel (0 to 255)."""
COMPARABLE = 30_000
"""Near duplicates are looked for pair by pair: only in folders of at most this many pictures."""

BLOCK = 256

COLUMNS, THUMB, LINES = 8, 128, 3


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found. Pictures are counted when they can be opened and have a caption."""

    folder: Path
    pictures: int
    captions: int
    problems: tuple[Problem, ...]
    passed_over: Mapping[str, int]
    exact: tuple[tuple[Path, ...], ...]
    near: tuple[tuple[Path, ...], ...]
    sizes: Mapping[str, int]
    splits: Mapping[str, int]
    words: tuple[int, float, int]
    vocabulary: int
    sheet: Path | None

    @property
    def ok(self) -> bool:
        """Whether every picture can be used."""
        return not self.problems

    def print(self, console: Console | None = None, *, most: int | None = 10) -> None:
        """Say it in a few lines; problems and duplicates with their paths, at most `most` of each, or all."""
        out = console or Console()
        table = Table(title=str(self.folder), show_header=False, title_justify="left")
        table.add_row("pictures that can be used", str(self.pictures))
        if self.splits:
            table.add_row("splits", ", ".join(f"{name} {n}" for name, n in self.splits.items()))
        if self.pictures:
            low, middle, high = self.words
            table.add_row("captions", f"{self.captions}, {self.vocabulary} different words")
            table.add_row("words a caption", f"{low} to {high}, half of them {middle:g} or fewer")
            table.add_row("sizes in pixels", _few([f"{size}: {n}" for size, n in self.sizes.items()], 8))
            table.add_row("the same file twice", f"{len(self.exact)} groups")
            table.add_row("nearly the same", f"{len(self.near)} groups")
        table.add_row("skipped", str(len(self.problems)))
        if self.passed_over:
            table.add_row("of other kinds", _few([f"{n} {end}" for end, n in self.passed_over.items()], 8))
        out.print(table)
        for title, groups in (("the same", self.exact), ("nearly the same", self.near)):
            lines = [", ".join(str(path.relative_to(self.folder)) for path in group) for group in groups]
            _say(out, title, lines, most)
        _say(out, "skipped", [f"{problem.path}: {problem.reason}" for problem in self.problems], most)
        if self.sheet is not None:
            out.print(f"contact sheet: {self.sheet}", highlight=False, soft_wrap=True)


def _few(words: Sequence[str], most: int) -> str:
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")


def _say(out: Console, title: str, lines: Sequence[str], most: int | None) -> None:
    for line in lines[:most]:
        out.print(f"[yellow]{title}[/] {escape(line)}", highlight=False, soft_wrap=True)
    if most is not None and len(lines) > most:
        out.print(f"[yellow]{title}[/] ... and {len(lines) - most} more: --all names them", highlight=False)


def check(folder: Path, out: Path | None = None) -> Report:
    """Read a folder as training would and report on it; `out` is where a contact sheet PNG goes.

    Raises `LimnerError` when the folder does not exist, holds no pictures, or `out` cannot be written.
    """
    found = read(folder)
    good: list[Record] = []
    problems = list(found.problems)
    looks: list[_Look] = []
    for record in watched(found.records, f"looking at {folder.name}"):
        try:
            looks.append(_look(record.file))
            good.append(record)
        except Exception as error:  # As in folder.unreadable: a malformed file may raise anything.
            problems.append(Problem(record.file, f"it cannot be decoded ({error})"))
    files = [record.file for record in good]
    exact = _same(files, [look.digest for look in looks])
    captions = [caption for record in good for caption in record.captions]
    lengths = [len(caption.split()) for caption in captions] or [0]
    return Report(
        folder=folder,
        pictures=len(good),
        captions=len(captions),
        problems=tuple(problems),
        passed_over=found.passed_over,
        exact=exact,
        near=_near(files, looks),
        sizes=dict(Counter(look.size for look in looks).most_common()),
        splits=dict(Counter(str(r.facts["split"]) for r in good if "split" in r.facts).most_common()),
        words=(min(lengths), float(median(lengths)), max(lengths)),
        vocabulary=len(
            {word.strip(".,:;()!?\"'").lower() for caption in captions for word in caption.split()}
        ),
        sheet=contact_sheet(good, out) if out is not None and good else None,
    )


# --- duplicates ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Look:
    """One picture's size when upright, the hash of its bytes, its average hash (96 bytes), mean colour."""

    size: str
    digest: bytes
    bits: NDArray[np.uint8]
    shade: NDArray[np.float64]


def _look(file: Path) -> _Look:
    digest = hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
    with Image.open(file) as opened:
        picture = upright(opened).convert("RGBA")
    size = f"{picture.width}x{picture.height}"
    small = picture.convert("RGBa").resize((16, 16), Image.Resampling.BOX)
    ground = Image.new("RGBA", (16, 16), (127, 127, 127, 255))
    pixels = np.asarray(Image.alpha_composite(ground, small.convert("RGBA")).convert("RGB"), dtype=np.float64)
    shade = pixels.mean((0, 1))
    return _Look(size=size, digest=digest, bits=np.packbits(pixels > shade), shade=shade)


def _same(files: Sequence[Path], digests: Iterable[bytes]) -> tuple[tuple[Path, ...], ...]:
    groups: defaultdict[bytes, list[Path]] = defaultdict(list)
    for file, digest in zip(files, digests, strict=True):
        groups[digest].append(file)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _near(files: Sequence[Path], looks: Sequence[_Look]) -> tuple[tuple[Path, ...], ...]:
    """Groups that look alike without being the same file, joined through their neighbours."""
    if not 1 < len(files) <= COMPARABLE:
        return ()
    # Bits as -1 and +1: a scalar product counts those that agree, many pictures at once.
    signs = np.stack([np.unpackbits(look.bits) for look in looks]).astype(np.float32) * 2 - 1
    shades = np.stack([look.shade for look in looks])
    leader = list(range(len(files)))

    def lead(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for start in range(0, len(files), BLOCK):
        apart = (signs.shape[1] - signs[start : start + BLOCK] @ signs[start:].T) / 2
        for row, column in np.argwhere(apart <= NEAR_BITS):
            i, j = start + int(row), start + int(column)
            if i < j and np.abs(shades[i] - shades[j]).max() <= NEAR_SHADE:
                leader[lead(j)] = lead(i)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for i in range(len(files)):
        groups[lead(i)].append(i)
    different = (g for g in groups.values() if len({looks[i].digest for i in g}) > 1)
    return tuple(tuple(files[i] for i in group) for group in different)


# --- the contact sheet ---------------------------------------------------------------------------


def contact_sheet(records: Sequence[Record], out: Path, *, most: int = 48) -> Path:
    """Draw up to `most` pictures, evenly spread over the folder, each with a caption; returns `out`."""
    step = max(1.0, len(records) / most)
    chosen = [records[int(i * step)] for i in range(min(most, len(records)))]
    font = ImageFont.load_default(size=12)
    cell = THUMB + 16 * LINES + 8
    rows = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (THUMB + 8), rows * cell), (236, 238, 241))
    pen = ImageDraw.Draw(sheet)
    for place, record in enumerate(chosen):
        x, y = place % COLUMNS * (THUMB + 8) + 4, place // COLUMNS * cell + 4
        with Image.open(record.file) as opened:
            picture = upright(opened).convert("RGBA")
        picture = ImageOps.contain(picture, (THUMB, THUMB))
        sheet.paste(picture, (x + (THUMB - picture.width) // 2, y + (THUMB - picture.height) // 2), picture)
        caption = record.captions[place % len(record.captions)]
        lines = textwrap.wrap(caption, 22, max_lines=LINES, placeholder="...")
        pen.multiline_text((x, y + THUMB + 2), "\n".join(lines), fill=(40, 44, 52), font=font, spacing=2)
    part = out.with_name(f".{out.name}.part")
    try:
        sheet.save(part, format="PNG")
        os.replace(part, out)
    except OSError as error:
        raise LimnerError(f"cannot write the contact sheet {out}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return out
