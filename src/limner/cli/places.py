"""Where pictures come from and go to: worked out and tried before anything is painted."""

import tempfile
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from limner.errors import LimnerError
from limner.pipelines.settings import Commission

OTHER_PICTURES = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".svg"}
LONGEST_NAME = 60
# What the folders that several commands ask for are made by.
DRAWINGS = "give one with captioned pictures, such as `limner data fetch emoji --out DIR` leaves"
JUDGE = (
    "give OUT of `limner train recogniser --size small --data PICTURES --out OUT`, whose pictures `limner "
    "data fetch judge --out PICTURES` leaves"
)


@dataclass(frozen=True)
class Place:
    """A folder, and the name of the one file in it if that was given."""

    folder: Path
    name: str | None

    def save(self, data: bytes, name: str) -> Path:
        """Write `data` under the given name, or under `name` (without .png) beside whatever is there.

        A file that was named is replaced. In a folder nothing is lost: another picture of the same name gets
        a number, and the same picture is written once.
        """
        from limner.pipelines.png import write

        if self.name is not None:
            path = self.folder / self.name
            write(path, data)
            return path
        for number in count(1):
            path = self.folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png")
            if not path.exists():
                write(path, data)
                return path
            if path.is_file() and path.read_bytes() == data:
                return path
        raise AssertionError("whole numbers do not end")


def place(out: Path, *, files: int) -> Place:
    """Read --out: a .png file for one picture or sheet, else a folder; ValueError if it can be neither."""
    if out.is_dir():
        return Place(out, None)
    if out.suffix.lower() == ".png":
        if files != 1:
            raise ValueError(f"out is '{out}', one file for {files} pictures: give a folder, or add --sheet")
        return Place(out.parent, out.name)
    if out.exists() or out.suffix.lower() in OTHER_PICTURES:
        raise ValueError(f"out is '{out}': pictures are PNG files, so give a name ending in .png or a folder")
    return Place(out, None)


def try_writing(folder: Path, option: str = "--out") -> None:
    """Raise LimnerError, naming the option that asked for it, unless files can be made in `folder`.

    Leaves everything as it was.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LimnerError(
            f"cannot write into {folder}: {error.strerror or error}; give another {option}"
        ) from error
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


def named(commission: Commission, number: int) -> str:
    """A file's name for a picture: the words, the seed it can be painted from again, its number."""
    return f"{slug(commission.prompt)}-seed{commission.seed}-{number}"


def slug(words: str) -> str:
    """Words as a file name: letters and digits of any script, hyphens for the rest, cut to a fair length."""
    plain = unicodedata.normalize("NFC", words).lower()
    kept = "".join(c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in plain)
    name = "-".join(kept.split())
    # Most file systems count bytes, and 255 is where they end.
    while len(name) > LONGEST_NAME or len(name.encode()) > 180:
        shorter = name.rpartition("-")[0]
        name = shorter if len(shorter) > LONGEST_NAME // 3 else name[:-1]
    return name.strip("-") or "picture"


def try_folder(name: str, folder: Path, remedy: str) -> None:
    """Raise ValueError, naming the option and saying what to do, unless `folder` is one."""
    if not folder.is_dir():
        raise ValueError(f"{name} is '{folder}', which is no folder: {remedy}")


def try_picture(path: Path, option: str) -> None:
    """Raise, naming the option that asked for it, unless a PNG can be written there."""
    if path.is_dir() or path.suffix.lower() != ".png":
        raise ValueError(f"{option} is '{path}': give a name that ends in .png")
    try_writing(path.parent, f"--{option}")
