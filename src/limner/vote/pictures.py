"""What is compared: pictures of each model for each prompt, found in a folder.

One of three layouts, the first that is there:

- `comparison.json`, as `limner compare` writes it: prompts, how many pictures there are of each, and the
  entrants with the folder of each, in which picture 1 of the first prompt is `00000-01.png`;
- `pictures.csv` with the columns model, prompt, number and file;
- `pictures/MODEL/…png`, whose files say themselves what they were painted from, as limner's do.

Files are named from the folder. Numbers count a model's pictures of one prompt. `limner compare` names all
entrants before the first has painted: those that are not through yet are left out, by name.
"""

import csv
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from limner.errors import LimnerError, on_disk

COLUMNS = ("model", "prompt", "number", "file")
# A grid is a square of at most so many pictures a side, and of at least so many.
LARGEST_GRID, SMALLEST_GRID = 4, 2


@dataclass(frozen=True)
class Gathered:
    """Files by model, prompt and number. Prompts are in the order in which they were met.

    `left_out`: who is named in the folder and not compared, and why, with the remedy.
    """

    files: Mapping[str, Mapping[str, Mapping[int, Path]]]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def models(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(sorted(self.files))

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt that two models or more have painted."""
        met = dict.fromkeys(prompt for model in self.models for prompt in self.files[model])
        return tuple(
            prompt for prompt in met if sum(prompt in self.files[model] for model in self.models) > 1
        )

    def only(self, models: Collection[str], why: str) -> "Gathered":
        """Without all models but these; `why` is said of each that goes."""
        gone = {model: why for model in self.models if model not in models}
        files = {model: prompts for model, prompts in self.files.items() if model not in gone}
        return Gathered(files, {**self.left_out, **gone})

    def pairs(self, prompt: str) -> Iterator[tuple[str, str]]:
        """The pairs of models that have both painted it."""
        return combinations((model for model in self.models if prompt in self.files[model]), 2)

    def both(self, prompt: str, first: str, second: str) -> list[int]:
        """The numbers that both have, in order."""
        return sorted(self.files[first][prompt].keys() & self.files[second][prompt].keys())

    def grid(self) -> int:
        """How many pictures a side the grids have, the same for all; 0 where there are too few for any."""
        fewest = min(len(self.both(prompt, *pair)) for prompt in self.prompts for pair in self.pairs(prompt))
        side = next(n for n in range(LARGEST_GRID, -1, -1) if n * n <= fewest)
        return side if side >= SMALLEST_GRID else 0

    def digest(self) -> str:
        """A hash of every picture's bytes and of what it stands for: votes are of these and of no others."""
        told = hashlib.sha256()
        for model in self.models:
            for prompt, numbered in sorted(self.files[model].items()):
                for number, file in sorted(numbered.items()):
                    with on_disk(file):
                        inside = hashlib.sha256(file.read_bytes()).hexdigest()
                    told.update(json.dumps([model, prompt, number, inside]).encode())
        return told.hexdigest()


def gather(folder: Path) -> Gathered:
    """The pictures of a folder. LimnerError where it has none, or none that two models share a prompt of.

    Of an entrant of `limner compare` all pictures are there, or it is left out.
    """
    if not folder.is_dir():
        raise LimnerError(f"{folder} is no folder: give the one that holds the pictures to compare")
    files: dict[str, dict[str, dict[int, Path]]] = {}
    left_out = _unfinished(folder)
    for model, prompt, number, file in _rows(folder):
        if model in left_out:
            continue
        numbered = files.setdefault(model, {}).setdefault(prompt, {})
        if number in numbered:
            raise LimnerError(
                f"{folder} has picture {number} of {prompt!r} by {model} twice, {numbered[number]} and "
                f"{file}: number them apart"
            )
        if not file.is_file():
            raise LimnerError(f"{folder} names {file}, which is not there: put it back or leave its line out")
        numbered[number] = file
    found = Gathered(files, left_out)
    if not found.prompts and left_out:
        told = "; ".join(f"{model} {why}" for model, why in left_out.items())
        raise LimnerError(f"{folder} has not yet two models that have painted everything: {told}")
    if not found.prompts:
        raise LimnerError(
            f"{folder} has pictures of {', '.join(found.models) or 'nobody'}, and no prompt that two models "
            "have painted: give comparison.json, pictures.csv or pictures/MODEL/*.png of at least two models"
        )
    return found


def _unfinished(folder: Path) -> dict[str, str]:
    """The entrants of a comparison that have not painted everything, what is there and what to do."""
    index = folder / "comparison.json"
    there: dict[str, list[bool]] = {}
    for model, _, _, file in _compared(index) if index.is_file() else ():
        there.setdefault(model, []).append(file.is_file())
    return {
        model: f"has painted {sum(files)} of {len(files)} pictures: wait for `limner compare`, or call it "
        "again as it was called"
        for model, files in there.items()
        if not all(files)
    }


def _rows(folder: Path) -> Iterator[tuple[str, str, int, Path]]:
    compared, table, inside = folder / "comparison.json", folder / "pictures.csv", folder / "pictures"
    if compared.is_file():
        yield from _compared(compared)
    elif table.is_file():
        with on_disk(table), table.open(newline="", encoding="utf-8-sig") as lines:
            yield from (_row(table, row) for row in csv.DictReader(lines))
    elif inside.is_dir():
        yield from _named(inside)


def _compared(path: Path) -> Iterator[tuple[str, str, int, Path]]:
    try:
        with on_disk(path):
            told = json.loads(path.read_text(encoding="utf-8"))
        entrants = [(str(one["name"]), path.parent / str(one["pictures"])) for one in told["entrants"]]
        prompts, count = [str(prompt) for prompt in told["prompts"]], int(told["count"])
    except (KeyError, TypeError, ValueError) as error:
        raise LimnerError(f"{path} is none of `limner compare`'s ({error!r}): run it again") from error
    for model, inside in entrants:
        for place, prompt in enumerate(prompts):
            for number in range(1, count + 1):
                yield model, prompt, number, inside / f"{place:05d}-{number:02d}.png"


def _row(path: Path, row: Mapping[str, Any]) -> tuple[str, str, int, Path]:
    try:
        model, prompt, number, file = (str(row[column]) for column in COLUMNS)
        numbered = int(number)
    except (KeyError, ValueError) as error:
        raise LimnerError(f"{path} has a line {dict(row)}: give {', '.join(COLUMNS)} in every one") from error
    return model, prompt, numbered, path.parent / file


def _named(inside: Path) -> Iterator[tuple[str, str, int, Path]]:
    from PIL import Image

    for model in sorted(path for path in inside.iterdir() if path.is_dir()):
        numbers: dict[str, int] = {}
        for file in sorted(model.rglob("*.png")):
            try:
                with Image.open(file) as opened:
                    prompt = opened.info.get("prompt")
            except OSError as error:
                raise LimnerError(f"cannot read {file} as a picture ({error}): paint it again") from error
            if not isinstance(prompt, str):
                raise LimnerError(
                    f"{file} does not say what it was painted from: list the pictures in pictures.csv, with "
                    f"the columns {', '.join(COLUMNS)}"
                )
            numbers[prompt] = numbers.get(prompt, 0) + 1
            yield model.name, prompt, numbers[prompt], file
