"""Anybody's folder of pictures and captions, read without ever falling over a bad row.

Captions come from `captions.jsonl` (`{"file": ..., "captions": [...]}` or `"caption"`), from
`captions.csv` (columns `file`, `caption`) or from a text file beside each picture, one caption a line. A row
of either table may also have a `label`, which then is that of its captions with this picture.
"""

import contextlib
import csv
import io
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from limner.errors import LimnerError

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
"""What counts as a picture, by the end of its name."""

TABLES = ("captions.jsonl", "captions.csv")
NO_CAPTION, EMPTY_CAPTION = "it has no caption", "its caption is empty"


@dataclass(frozen=True)
class Record:
    """One captioned picture: its file, at least one caption, and whatever else its row says.

    `labels`: by caption, what picture and caption are together, of rows that say so.
    """

    file: Path
    captions: tuple[str, ...]
    facts: Mapping[str, object] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """A file or row that was skipped, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Folder:
    """What a folder holds: the good records, in the folder's own order, and the problems met."""

    records: tuple[Record, ...]
    problems: tuple[Problem, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """How many files of other kinds lie there, by the end of their names."""


@dataclass
class _Gathered:
    """Captions, facts and labels by picture, while they are being collected."""

    captions: dict[Path, list[str]] = field(default_factory=dict)
    facts: dict[Path, dict[str, object]] = field(default_factory=dict)
    labels: dict[Path, dict[str, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read(folder: Path) -> Folder:
    """Every captioned picture under `folder` that can be opened; the others as problems.

    Raises `LimnerError` when the folder does not exist or holds no picture at all.
    """
    pictures, others = _listed(folder)
    if not pictures:
        raise LimnerError(
            f"{folder} holds no pictures ({', '.join(sorted(ENDINGS))}): put pictures there, each with a "
            ".txt of the same name, or with one captions.jsonl or captions.csv for all"
        )
    gathered = _Gathered()
    for table in (folder / name for name in TABLES):
        if table.is_file():
            for row in (
                _json_rows(table, gathered) if table.suffix == ".jsonl" else _csv_rows(table, gathered)
            ):
                _take(folder, table, row, gathered)
    known = set(gathered.captions)
    for picture in pictures:
        if picture not in known:
            _beside(picture, gathered)
    records = []
    for file, captions in gathered.captions.items():
        reason = unreadable(file)
        if reason is None and captions:
            once = tuple(dict.fromkeys(captions))
            records.append(Record(file, once, gathered.facts.get(file, {}), gathered.labels.get(file, {})))
        else:
            gathered.problems.append(Problem(file, reason or EMPTY_CAPTION))
    return Folder(tuple(records), tuple(gathered.problems), dict(others.most_common()))


def pictures_in(folder: Path) -> list[Path]:
    """Every picture file under `folder`, in a fixed order, whether or not it can be opened.

    Hidden files and folders are passed over. Raises `LimnerError` for no such folder, or none in it.
    """
    pictures, _ = _listed(folder)
    if not pictures:
        raise LimnerError(f"{folder} holds no pictures ({', '.join(sorted(ENDINGS))}): put some there")
    return pictures


def _listed(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Picture files under the folder, and how many files of other kinds lie there."""
    if not folder.is_dir():
        raise LimnerError(f"there is no folder {folder}: give a folder of pictures")
    others: Counter[str] = Counter()
    try:
        return list(_pictures(folder, others, {folder.resolve()})), others
    except OSError as error:
        raise LimnerError(f"cannot read the folder {folder}: {error.strerror}") from error


def _pictures(folder: Path, others: Counter[str], entered: set[Path]) -> Iterator[Path]:
    """Picture files under the folder in a fixed order; hidden files and folders are passed over.

    `others` counts files of other kinds, captions apart. `entered`: folders on the way, which a link may name
    again and which are read once.
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if (real := path.resolve()) not in entered:
                entered.add(real)
                yield from _pictures(path, others, entered)
        elif path.suffix.lower() in ENDINGS:
            yield path
        elif path.suffix.lower() != ".txt" and path.name not in (*TABLES, "ATTRIBUTION.md"):
            others[path.suffix.lower() or "without an ending"] += 1


def _json_rows(table: Path, gathered: _Gathered) -> Iterator[dict[str, object]]:
    for number, line in enumerate(_bytes(table, gathered).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            gathered.problems.append(Problem(table, f"line {number} is not JSON: {error}"))
            continue
        if isinstance(row, dict):
            yield row
        else:
            gathered.problems.append(Problem(table, f"line {number} is not a JSON object"))


def _csv_rows(table: Path, gathered: _Gathered) -> Iterator[dict[str, object]]:
    try:
        rows = csv.DictReader(io.StringIO(_bytes(table, gathered).decode("utf-8-sig"), newline=""))
        if not {"file", "caption"} <= set(rows.fieldnames or ()):
            gathered.problems.append(Problem(table, "its first line must name the columns file,caption"))
            return
        for row in rows:
            yield {key: value for key, value in row.items() if key and value is not None}
    except (csv.Error, ValueError) as error:
        gathered.problems.append(Problem(table, f"not a UTF-8 CSV file from here on: {error}"))


def _bytes(path: Path, gathered: _Gathered) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        gathered.problems.append(Problem(path, f"cannot be read: {error.strerror}"))
        return b""


def _take(folder: Path, table: Path, row: dict[str, object], gathered: _Gathered) -> None:
    """Add what one row of a table says."""
    name, said = row.get("file"), row.get("captions", row.get("caption"))
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        gathered.problems.append(Problem(table, f'a row names no "file": {_brief(row)}'))
        return
    file = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        gathered.problems.append(Problem(file, "it lies outside the folder"))
        return
    clean = _clean(said if isinstance(said, list) else [said])
    gathered.captions.setdefault(file, []).extend(clean)
    facts = {key: value for key, value in row.items() if key not in ("file", "caption", "captions", "label")}
    gathered.facts.setdefault(file, {}).update(facts)
    label = row.get("label")
    if isinstance(label, str | int) and str(label).strip():
        _label(file, clean, str(label).strip(), gathered)


def _label(file: Path, captions: Sequence[str], label: str, gathered: _Gathered) -> None:
    """Label captions of a picture; one that has another label keeps it, and that is a problem."""
    labels = gathered.labels.setdefault(file, {})
    for caption in captions:
        if (first := labels.setdefault(caption, label)) != label:
            reason = f"'{caption}' is labelled '{first}' and again '{label}'; the first was taken"
            gathered.problems.append(Problem(file, reason))


def _brief(row: dict[str, object]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _clean(captions: list[object]) -> list[str]:
    """The captions that say something, on one line each."""
    return [" ".join(caption.split()) for caption in captions if isinstance(caption, str) and caption.strip()]


def _beside(picture: Path, gathered: _Gathered) -> None:
    """Add the captions in the text file of the picture's own name."""
    beside = [picture.with_suffix(ending) for ending in (".txt", ".TXT")]
    text = next((path for path in beside if path.is_file()), None)
    if text is None:
        gathered.problems.append(Problem(picture, NO_CAPTION))
        return
    try:
        lines: list[object] = [*text.read_bytes().decode("utf-8-sig").splitlines()]
    except (OSError, ValueError):
        gathered.problems.append(Problem(text, "cannot be read as UTF-8 text"))
        return
    gathered.captions[picture] = _clean(lines)


def unreadable(file: Path) -> str | None:
    """Why a picture cannot be used, or None when it can; broken and cut-off files are found.

    Of a PNG only the checksums are proved, which takes a twentieth of decoding it; other kinds are decoded, a
    JPEG at the coarsest scale it offers. What this misses shows when the picture is decoded.
    """
    if not file.is_file():
        return "the file is missing"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                if picture.format == "PNG":
                    picture.verify()
                else:
                    picture.draft("RGB", (1, 1))
                    picture.load()
    except Exception as error:  # Pillow's readers raise whatever a malformed file makes them raise.
        return f"it cannot be opened as a picture ({error})"
    return None


def unusable(folder: Path, problems: Sequence[Problem]) -> str:
    """What to say of a folder of which no picture can be trained on: why, and the remedy."""
    if all(problem.reason in (NO_CAPTION, EMPTY_CAPTION) for problem in problems):
        return (
            f"no picture in {folder} has a caption: put a .txt of the same name beside each, or one "
            "captions.jsonl or captions.csv for all"
        )
    first = next(problem for problem in problems if problem.reason not in (NO_CAPTION, EMPTY_CAPTION))
    return (
        f"no picture in {folder} can be trained on, the first problem being {first.path} ({first.reason}): "
        f"mend what `limner data check {folder} --all` lists"
    )


def upright(picture: Image.Image) -> Image.Image:
    """A picture turned as its EXIF asks, as every viewer shows it: cameras store what the sensor saw.

    Of 16 bits of grey the upper 8 are kept; Pillow would clip all above 255 to white. Broken EXIF costs no
    picture: it stays as it lies. Raises what Pillow raises when the pixels are broken.
    """
    picture.load()
    # Malformed EXIF may raise anything; malformed pixels have raised above.
    with contextlib.suppress(Exception):
        picture = ImageOps.exif_transpose(picture)
    return eight_bit(picture)


def eight_bit(picture: Image.Image) -> Image.Image:
    """A picture of 16 bits of grey with the upper 8 of them; any other as it is."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode == "I" and (deep := np.asarray(picture)).max() > 255:
        return Image.fromarray((deep.clip(0, 65_535) >> 8).astype(np.uint8))
    return picture
