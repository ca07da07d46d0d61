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
Kept = Literal["by-head", "by-kind"]
Noise = Literal["linear", "cosine"]
Release = Literal["v2", "v3"]


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
    """How many numbers a head of attention has: in CLIP's picture tower, or in guided-diffusion's U-Net."""
    heads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: by its sizes)")] = None
    """guided-diffusion: as many heads in every block, where they are not of one width; ruDALL-E: how many."""
    kept: Annotated[Kept | None, arg(help_behavior_hint="(default: by its sizes)")] = None
    """guided-diffusion: how queries, keys and values lie; by-kind is its use_new_attention_order."""
    schedule: Annotated[Noise | None, arg(help_behavior_hint="(default: by its sizes)")] = None
    """guided-diffusion: of the noise that it was trained on."""
    release: Annotated[Release | None, arg(help_behavior_hint="(default: by its masks, or v3)")] = None
    """ruDALL-E: which one."""

    def assumptions(self) -> "Assumptions":
        """What was said about it; ValueError for a width or a number of heads that is none, and for both."""
        from limner.formats import Assumptions

        for name, given in (("head_width", self.head_width), ("heads", self.heads)):
            if given is not None and given < 1:
                raise ValueError(f"{name} is {given}: give a whole number from 1")
        if self.head_width is not None and self.heads is not None:
            raise ValueError("head_width and heads are given: one follows from the other, give one")
        return Assumptions(
            activation=self.activation,
            head_width=self.head_width,
            heads=self.heads,
            by_head=None if self.kept is None else self.kept == "by-head",
            schedule=self.schedule,
            release=self.release,
        )


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
                print(f"{name} works: {said}" if said else f"{name} was not run: it is too large to be tried")


@dataclass(frozen=True, kw_only=True)
class Convert(Reading):
    """The options of `limner convert`."""

    out: Annotated[Path, arg(metavar="DIR")]
    """A folder that is not there yet."""
    to: Literal["limner", "huggingface", "diffusers"] = "limner"
    """Whose format: limner's own, a CLIP as Hugging Face's CLIPModel, or an unCLIP as diffusers' pipeline."""

    def run(self) -> None:
        """Recognise, refuse what is not whole, write, print where."""
        from limner import checkpoint
        from limner.formats import convert, opened
        from limner.formats.hub import resolved
        from limner.formats.writing import to_diffusers, to_huggingface

        path = resolved(self.path)
        write = {"huggingface": to_huggingface, "diffusers": to_diffusers}.get(self.to)
        if write is not None and any(map(checkpoint.is_ours, (path, path / "decoder"))):
            for name in ("activation", "head_width", "heads", "kept", "schedule", "release"):
                given = getattr(self, name)
                if given is not None:
                    raise ValueError(
                        f"{name} is {given}, but {path} is limner's own and says it: leave it out"
                    )
            print(write(path, self.out))
            return
        found = opened(path, self.assumptions())
        if write is not None:
            print(write(found, self.out))
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

    from limner.errors import printable

    contents = found.contents
    table = Table("part", "parameters", "missing", "wrong", "left over", title_justify="left")
    # What is said of somebody else's file may quote it: its words are shown, and neither markup nor obeyed.
    title = printable(f"{found.format}: {contents.kind}, {contents.size / 1e6:.1f} MB")
    table.title = Text(title, style="table.title")
    for part in found.parts:
        odd = (part.taken.missing, part.taken.wrong, part.taken.unused)
        table.add_row(part.name, f"{part.parameters:,}", *(Text(printable(_few(names))) for names in odd))
    console = Console()
    console.print(table)
    lines = [
        *found.beyond,
        *(f"{part.name}: {part.config}" for part in found.parts),
        *(f"assumed: {assumed}" for assumed in found.assumed),
    ]
    for line in lines:
        console.print(printable(line), markup=False, highlight=False)


def _few(names: tuple[str, ...]) -> str:
    from limner.formats.format import listed

    return listed(names) if names else "–"
