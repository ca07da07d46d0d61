"""`limner open` and `limner convert`: other people's checkpoints."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from limner.formats import Assumptions, Opened

OPEN_HELP = """Say what a checkpoint is, by its tensors: OpenAI's, open_clip's, Hugging Face's, …
  limner open ViT-B-32.pt
  limner open models/clip-vit-large-patch14 --json
  limner open hub:openai/clip-vit-base-patch32"""
CONVERT_HELP = """Write a checkpoint in limner's own format, or limner's in another's.
  limner convert ViT-B-32.pt --out clips/b32
  limner convert clips/b32 --to huggingface --out b32-hf"""

Activation = Literal["gelu", "quick_gelu"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What both have: where it lies, and what weights do not say."""

    path: Annotated[Positional[Path], arg(metavar="PATH")]
    """A file, or a folder with its settings beside; hub:owner/name is brought from the Hugging Face hub."""
    activation: Annotated[Activation | None, arg(help_behavior_hint="(default: by its settings)")] = None
    """CLIP: what its blocks compute, where nothing beside the weights says so."""
    head_width: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: by its settings, or 64)")
    ] = None
    """CLIP: how many numbers a head of attention has in the picture tower."""

    def assumptions(self) -> "Assumptions":
        """What was said about it; ValueError for a width that is none."""
        from limner.formats import Assumptions

        if self.head_width is not None and self.head_width < 1:
            raise ValueError(f"head_width is {self.head_width}: give a whole number from 1")
        return Assumptions(activation=self.activation, head_width=self.head_width)


@dataclass(frozen=True, kw_only=True)
class Open(Reading):
    """The options of `limner open`."""

    json: bool = False
    """The same as JSON."""

    def run(self) -> None:
        """Recognise, print, check; complaints come last and are the exit status."""
        from limner.formats import opened, self_check, usable
        from limner.formats.hub import resolved

        found = opened(resolved(self.path), self.assumptions())
        try:
            checked = {part.name: self_check(part) for part in usable(found).parts}
        finally:
            # What is wrong with it is easier to understand beside what it is.
            if self.json:
                print(json.dumps(described(found), indent=2))
            else:
                show(found)
        if not self.json:
            for name, said in checked.items():
                print(f"{name} works: {said}")


@dataclass(frozen=True, kw_only=True)
class Convert(Reading):
    """The options of `limner convert`."""

    out: Annotated[Path, arg(metavar="DIR")]
    """A folder that is not there yet."""
    to: Literal["limner", "huggingface"] = "limner"
    """Whose format: limner's own, or a CLIP as Hugging Face's CLIPModel."""

    def run(self) -> None:
        """Recognise, refuse what is not whole, write, print where."""
        from limner import checkpoint
        from limner.formats import convert, opened
        from limner.formats.hub import resolved
        from limner.formats.writing import to_huggingface

        path = resolved(self.path)
        if self.to == "huggingface" and checkpoint.is_ours(path):
            for name, given in (("activation", self.activation), ("head_width", self.head_width)):
                if given is not None:
                    raise ValueError(
                        f"{name} is {given}, but {path} is limner's own and says it: leave it out"
                    )
            print(to_huggingface(path, self.out))
            return
        found = opened(path, self.assumptions())
        if self.to == "huggingface":
            print(to_huggingface(found, self.out))
            return
        for folder in convert(found, self.out):
            print(folder)


def described(found: "Opened") -> dict[str, object]:
    """All that is known of a checkpoint, as plain values."""
    from dataclasses import asdict

    return {
        "format": found.format,
        "path": str(found.contents.path),
        "kept_as": found.contents.kind,
        "bytes": found.contents.size,
        "assumed": list(found.assumed),
        "beyond": list(found.beyond),
        "parts": {
            part.name: {
                "parameters": part.parameters,
                "missing": list(part.taken.missing),
                "wrong": list(part.taken.wrong),
                "unused": list(part.taken.unused),
                "config": asdict(part.config),
            }
            for part in found.parts
        },
    }


def show(found: "Opened") -> None:
    """The same for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    contents = found.contents
    table = Table("part", "parameters", "missing", "wrong", "left over", title_justify="left")
    table.title = f"{found.format}: {contents.kind}, {contents.size / 1e6:.1f} MB"
    for part in found.parts:
        odd = (part.taken.missing, part.taken.wrong, part.taken.unused)
        table.add_row(part.name, f"{part.parameters:,}", *(Text(_few(names)) for names in odd))
    console = Console()
    console.print(table)
    for beyond in found.beyond:
        console.print(beyond, markup=False, highlight=False)
    for part in found.parts:
        console.print(f"{part.name}: {part.config}", markup=False, highlight=False)
    for assumed in found.assumed:
        console.print(f"assumed: {assumed}", markup=False, highlight=False)


def _few(names: tuple[str, ...]) -> str:
    from limner.formats.format import listed

    return listed(names) if names else "–"
