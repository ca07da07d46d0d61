"""Real pictures to compare with: as a cloud, as what was trained on, and as what was asked for.

Of limner's own drawings those that a prompt asks for are left out of the cloud, so that nobody is compared
with the answer; any other folder of captioned pictures is all cloud, and all trained on.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from limner.data.folder import Record, read
from limner.data.splits import fraction
from limner.errors import LimnerError
from limner.evaluation.emoji600 import Request
from limner.evaluation.marks import real
from limner.evaluation.names import plain

# A cloud of fewer has no neighbours to speak of.
LEAST = 5


@dataclass(frozen=True)
class Reals:
    """Files of real pictures: the `cloud`, those that were `trained` on, and those held out from training."""

    cloud: tuple[Path, ...]
    trained: tuple[Path, ...]
    held_out: tuple[Path, ...]
    drawings: dict[tuple[str, str], Path]

    @property
    def every(self) -> tuple[Path, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.cloud, *self.trained, *self.held_out)))

    @property
    def digest(self) -> str:
        """A short name for which pictures these are, by where they lie and how large their files are."""
        told = "\n".join(f"{file} {file.stat().st_size}" for file in self.every)
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def answers(self, requests: Sequence[Request | None], side: int) -> "list[Image.Image] | None":
        """What was asked for as it should be, at `side` pixels; None where the folder has not all of it."""
        found = []
        for one in requests:
            if one is None or not one.styles:
                return None
            if any(pair not in self.drawings for pair in zip(one.styles, one.hexcodes, strict=True)):
                return None
            picture = real(one, self.drawings)
            found.append(picture.resize((side, side), Image.Resampling.BICUBIC))
        return found


def reals(data: Path, requests: Sequence[Request | None], *, most: int | None) -> Reals:
    """Of a folder of captioned pictures, at most `most` in the cloud, by hash.

    Those that were trained on and held out are all of them, whatever `most` is: a copy of a picture that is
    left out is a copy, and what counts as near depends on how many there are to be near to. Raises
    LimnerError for a folder that cannot be read or holds too few.
    """
    records = read(data).records
    drawn = any("hexcode" in record.facts for record in records)
    wanted = [one for one in requests if one is not None]
    pairs = {pair for one in wanted if one.styles for pair in zip(one.styles, one.hexcodes, strict=True)}
    # Where no style is asked for, a drawing in any style is an answer.
    anyhow = {hexcode for one in wanted if not one.styles for hexcode in one.hexcodes}

    def asked_for(record: Record) -> bool:
        return pair_of(record) in pairs or pair_of(record)[1] in anyhow

    cloud = [one for one in records if not drawn or (plain(one) and not asked_for(one))]
    trained = [one for one in records if one.facts.get("split", "train") == "train"]
    held_out = [one for one in records if one.facts.get("split", "train") != "train"]
    if len(cloud) < LEAST:
        raise LimnerError(
            f"{data} holds {len(cloud)} pictures to compare with: give a folder of {LEAST} or more"
        )
    return Reals(
        tuple(chosen(cloud, most)),
        tuple(one.file for one in trained),
        tuple(one.file for one in held_out if not drawn or plain(one)),
        {pair_of(one): one.file for one in records if "hexcode" in one.facts and "style" in one.facts},
    )


def pair_of(record: Record) -> tuple[str, str]:
    """Style and hexcode."""
    return str(record.facts.get("style")), str(record.facts.get("hexcode"))


def chosen(records: Sequence[Record], most: int | None) -> list[Path]:
    """The files that the hash puts first, in the folder's order; all where there are no more."""
    files = [record.file for record in records]
    if most is None or len(files) <= most:
        return files
    kept = set(sorted(files, key=lambda file: fraction("comparison", file.parent.name, file.name))[:most])
    return [file for file in files if file in kept]


def shown(files: Sequence[Path], side: int) -> Iterator[Image.Image]:
    """Real pictures on white, square, brought to `side` pixels, the size at which everybody is compared."""
    for file in files:
        with Image.open(file) as found:
            rgba = found.convert("RGBA")
        whole = max(rgba.size)
        square = Image.new("RGBA", (whole, whole), "white")
        square.alpha_composite(rgba, ((whole - rgba.width) // 2, (whole - rgba.height) // 2))
        shrinks = whole > side
        yield square.convert("RGB").resize(
            (side, side), Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
        )
