"""`limner index` and `limner search`: a folder's pictures found by words, or by pictures like them."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.places import try_picture, try_writing
from limner.cli.weights import Weights
from limner.pipelines.settings import MOST_FOUND, checked_prompt, checked_whole

if TYPE_CHECKING:
    from limner.pipelines.search import Found

INDEX_HELP = """Read every picture of a folder once, so that it can be searched.
  limner index my-pictures
  limner index my-pictures --out pictures.index"""
SEARCH_HELP = """Find pictures by words, or by pictures like them, in a folder that was indexed.
  limner search "a red apple" --in my-pictures
  limner search --like apple.png --in my-pictures --top 20 --sheet found.png"""

TOP = 10
# Side of a picture on the sheet.
CELL = 128
MOST_ON_A_SHEET = 400


@dataclass(frozen=True, kw_only=True)
class Index:
    """The options of `limner index`."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """Pictures, in folders within it too. Indexed again, only what is new or changed is read."""
    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: in DIR)")] = None
    """Where to keep the index."""
    weights: Weights = None
    """A CLIP of your own or of somebody else: its folder or file, or a folder with a clip in it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Index, print where, and what was read."""
        if not self.folder.is_dir():
            raise ValueError(f"folder is '{self.folder}', which is none: give a folder of pictures")
        try_writing(self.folder / ".limner" if self.out is None else self.out.parent)
        from limner.pipelines import index

        made = index(self.folder, out=self.out, weights=self.weights, device=self.device)
        for path, reason in made.broken.items():
            warnings.warn(f"{path} is left out: {reason}", stacklevel=2)
        print(made.path)
        print(f"{len(made.index.files)} pictures, {made.read} of them read now")


@dataclass(frozen=True, kw_only=True)
class Search:
    """The options of `limner search`."""

    text: Annotated[Positional[str | None], arg(metavar='"TEXT"', help_behavior_hint="")] = None
    """The words, in quotes."""
    like: Annotated[tuple[Path, ...], arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="")] = ()
    """Pictures that those to be found are like; with words as well, like both."""
    place: Annotated[Path, arg(name="in", metavar="DIR")]
    """The folder that was indexed, or the index's file."""
    top: Annotated[int, arg(metavar="K")] = TOP
    """How many to find at most, best first."""
    json: bool = False
    """Print JSON."""
    sheet: Annotated[Path | None, arg(metavar="PNG", help_behavior_hint="")] = None
    """Where to lay out what was found."""
    weights: Weights = None
    """The CLIP that the folder was indexed with, if it was one of your own."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Search, print scores and paths, lay them out if asked to."""
        if self.text is not None:
            checked_prompt(self.text, "text")
            if Path(self.text).is_file():
                raise ValueError(f"text is '{self.text}', which is a file here: to find its like, add --like")
        elif not self.like:
            raise ValueError("text and like are both missing: give words in quotes, or --like IMAGE")
        checked_whole("top", self.top, 1, MOST_ON_A_SHEET if self.sheet is not None else MOST_FOUND)
        if self.sheet is not None:
            try_picture(self.sheet, "sheet")
        from limner.pipelines import find
        from limner.pipelines.pictures import open_picture

        found = find(
            self.text,
            self.place,
            like=[open_picture(path) for path in self.like],
            top=self.top,
            weights=self.weights,
            device=self.device,
        )
        if self.json:
            rows = [{"score": round(one.score, 6), "path": str(one.path)} for one in found]
            print(json.dumps(rows, indent=2, ensure_ascii=False))
        else:
            for one in found:
                print(f"{one.score:.4f}  {one.path}")
        if self.sheet is not None:
            lay_out(found, self.sheet)
            if not self.json:
                print(self.sheet)


def lay_out(found: "Sequence[Found]", path: Path) -> None:
    """What was found side by side, with scores; pictures that have gone since are left white."""
    from PIL import Image

    from limner.errors import LimnerError
    from limner.pipelines.pictures import open_picture, seen
    from limner.pipelines.png import contact_sheet, save_png
    from limner.pipelines.stages import to_images

    def shown(file: Path) -> Image.Image:
        try:
            return to_images(seen([open_picture(file)], CELL))[0]
        except LimnerError as error:
            warnings.warn(str(error), stacklevel=3)
            return Image.new("RGB", (CELL, CELL), "white")

    pictures = [shown(one.path) for one in found]
    save_png(contact_sheet(pictures, [f"{one.score:.3f} {one.path.name}" for one in found]), path, {})
