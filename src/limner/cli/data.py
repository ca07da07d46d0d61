"""`limner data`: fetch real pictures, compose scenes from them, look a folder over before training on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from limner.cli.places import try_writing
from limner.errors import LimnerError

HELP = """Fetch pictures, compose scenes, check a folder of yours.
  limner data fetch emoji --out data/emoji
  limner data scenes --sprites emoji --count 9000 --out scenes
  limner data pairs --scenes scenes --out pairs
  limner data check my/pictures --sheet look.png"""
FETCH_HELP = """Fetch emoji under permissive licences, captioned, through npm.
  limner data fetch emoji --out data/emoji
  limner data fetch vector --pixels 1024 --most 600 --out data/vector"""
SCENES_HELP = """Compose scenes of one to four drawings; captions say what is where.
  limner data scenes --sprites emoji --count 9000 --out scenes"""
PAIRS_HELP = """Pair scenes with captions that fit and captions that miss by one word, labelled.
  limner data pairs --scenes scenes --out pairs"""
CHECK_HELP = """Say what is in a folder, what is broken and what is there twice.
  limner data check my/pictures --sheet look.png"""


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """The options of `limner data fetch`."""

    sets: Positional[Literal["emoji", "vector", "judge"]]
    """emoji: the sets to train on. vector: those of them that are sharp at any size. judge: sets kept apart,
    to judge what was painted."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The data folder to make; a run that was stopped goes on where it stood."""
    pixels: Annotated[int, arg(metavar="N")] = 256
    """Pixels a side."""
    most: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """At most so many drawings of each set, spread over all of it."""

    def run(self) -> None:
        """Fetch, and print the folder."""
        try_writing(self.out)
        from limner.data.emoji import GENERATOR_SETS, JUDGE_SETS, VECTOR_SETS, fetch

        sets = {"emoji": GENERATOR_SETS, "vector": VECTOR_SETS, "judge": JUDGE_SETS}
        print(fetch(self.out, sets=sets[self.sets], size=self.pixels, most=self.most))


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """The options of `limner data scenes`."""

    sprites: Annotated[Path, arg(metavar="DIR")]
    """The folder whose drawings are composed, such as the one that `limner data fetch emoji` makes."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The data folder to make."""
    count: Annotated[int, arg(metavar="N")]
    """Scenes to compose for training; held-out ones come beside them."""
    pixels: Annotated[int, arg(metavar="N")] = 64
    """Pixels a side."""
    seed: int = 0
    """The same seed, the same scenes."""
    kind: Literal["one", "count", "pair", "several"] | None = None
    """Only scenes of one thing, mostly in a colour that it may never have, of the same thing some times, of
    two and how they lie, or of several; all of these if not given."""
    settled: bool = False
    """Things stand where they always stand, not where chance puts them: one thing fills the picture."""

    def run(self) -> None:
        """Compose, and print the folder."""
        for name, given in (("count", self.count), ("pixels", self.pixels)):
            if given < 1:
                raise ValueError(f"{name} is {given}: give a whole number from 1")
        try_writing(self.out)
        from limner.data.scenes import write

        print(
            write(
                self.sprites,
                self.out,
                count=self.count,
                size=self.pixels,
                seed=self.seed,
                kind=self.kind,
                settled=self.settled,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The options of `limner data pairs`."""

    scenes: Annotated[Path, arg(metavar="DIR")]
    """The folder that `limner data scenes` has made; its pictures are linked to, not copied."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The data folder to make, for `limner train classifier`."""

    def run(self) -> None:
        """Pair, and print the folder."""
        try_writing(self.out)
        from limner.data.pairs import write

        print(write(self.scenes, self.out))


@dataclass(frozen=True, kw_only=True)
class Check:
    """The options of `limner data check`."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """Pictures with captions.jsonl, captions.csv or a .txt beside each."""
    sheet: Annotated[Path | None, arg(metavar="PNG", help_behavior_hint="")] = None
    """Where to draw a contact sheet."""
    all: bool = False
    """Name every file that is skipped or there twice, not only the first ten."""

    def run(self) -> None:
        """Look the folder over, and say what was found; LimnerError where nothing in it can be used."""
        if self.sheet is not None:
            if self.sheet.is_dir() or self.sheet.suffix.lower() != ".png":
                raise ValueError(f"sheet is '{self.sheet}': give a name that ends in .png")
            if not self.sheet.parent.is_dir():
                raise ValueError(f"sheet is '{self.sheet}': there is no folder {self.sheet.parent}")
            try_writing(self.sheet.parent, "--sheet")
        from limner.data.check import check
        from limner.data.folder import unusable

        report = check(self.folder, self.sheet)
        report.print(most=None if self.all else 10)
        if not report.pictures:
            raise LimnerError(unusable(self.folder, report.problems))


@dataclass(frozen=True, kw_only=True)
class Data:
    """The sub-commands of `limner data`."""

    task: (
        Annotated[Fetch, subcommand("fetch", description=FETCH_HELP)]
        | Annotated[Scenes, subcommand("scenes", description=SCENES_HELP)]
        | Annotated[Pairs, subcommand("pairs", description=PAIRS_HELP)]
        | Annotated[Check, subcommand("check", description=CHECK_HELP)]
    )

    def run(self) -> None:
        """Do what was asked for."""
        self.task.run()
