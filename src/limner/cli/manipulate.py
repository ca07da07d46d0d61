"""`limner vary`, `blend`, `edit` and `probe`: pictures changed through DALL-E 2's latents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.places import place, slug, try_writing
from limner.cli.progress import progress
from limner.cli.weights import Weights
from limner.pipelines.settings import (
    EDIT_STRENGTH,
    MOST_PICTURES,
    SIZES,
    VARY_STRENGTH,
    BlendNoise,
    checked_diff,
    checked_dimensions,
    checked_seed,
    checked_share,
    checked_size,
    checked_whole,
)

if TYPE_CHECKING:
    from PIL import Image

    from limner.pipelines.dalle2 import Dalle2
    from limner.pipelines.progress import Tick

VARY_HELP = """Paint other pictures of what CLIP sees in one.
  limner vary apple.png --count 6
  limner vary apple.png --strength 0.5 --count 6 --sheet --out apples.png"""
BLEND_HELP = """Lead from one picture to another, through what CLIP sees in them.
  limner blend cat.png dog.png --steps 7 --sheet
  limner blend cat.png dog.png --noise shared"""
EDIT_HELP = """Change a picture with words.
  limner edit apple.png --from "a red apple" --to "a green apple"
  limner edit apple.png --from "a red apple" --to "a green apple" --steps 5 --sheet"""
PROBE_HELP = """Show what CLIP knows of a picture first and what last: painted from ever more of its numbers.
  limner probe apple.png
  limner probe apple.png --dims 5 10 20 40 --out apple-by-parts.png"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all but `probe` take."""

    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: 256)")] = None
    """Pixels a side: 64, 256 or 1024, unless the weights are your own."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file for a single picture."""
    sheet: bool = False
    """One contact sheet of all pictures instead of a file for each."""
    weights: Weights = None
    """Weights of your own, the folder OUT/line of `limner train`, or somebody else's unCLIP."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def deliver(
        self,
        paths: Sequence[Path],
        work: "Callable[[Dalle2, list[Image.Image], Callable[[Tick], None]], list[Image.Image]]",
        *,
        titles: Sequence[str],
        name: str,
        told: dict[str, str],
    ) -> None:
        """Read the pictures, make one for each title, save them with what they were made of, print paths."""
        if self.weights is None and self.size is not None:
            checked_size(self.size, SIZES)
        where = place(self.out, files=1 if self.sheet else len(titles))
        try_writing(where.folder)

        from limner import __version__
        from limner.pipelines import load
        from limner.pipelines.pictures import fingerprint, open_picture
        from limner.pipelines.png import contact_sheet, encode_png

        images = [open_picture(path) for path in paths]
        with progress() as on_tick:
            painter = load("dalle2", weights=self.weights, device=self.device)
            made = work(painter, images, on_tick)
        says = {"model": "dalle2", "weights": painter.digest, "limner": __version__, **told}
        says["of"] = " ".join(fingerprint(image) for image in images)
        if self.sheet:
            sheet = contact_sheet(made, titles, columns=None if len(made) > 8 else len(made))
            print(where.save(encode_png(sheet, says), f"sheet-of-{len(made)}-{name}"))
            return
        for number, (image, title) in enumerate(zip(made, titles, strict=True), start=1):
            print(where.save(encode_png(image, says | {"step": title}), f"{name}-{number}"))


@dataclass(frozen=True, kw_only=True)
class Vary(Options):
    """The options of `limner vary`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """The picture; it is squared with margins and brought to the model's size."""
    count: Annotated[int, arg(metavar="N")] = 1
    """How many; the next one has the next seed."""
    strength: Annotated[float, arg(metavar="S")] = VARY_STRENGTH
    """How much of its noise is drawn anew: 0 gives the picture back, 1 keeps what CLIP sees alone."""
    seed: int = 0
    """All chance comes from it: the same seed, the same picture."""

    def run(self) -> None:
        """Refuse what cannot be done, then do it."""
        checked_whole("count", self.count, 1, MOST_PICTURES)
        checked_seed(self.seed, self.count)
        checked_share("strength", self.strength)

        def work(
            painter: "Dalle2", images: "list[Image.Image]", on_tick: "Callable[[Tick], None]"
        ) -> "list[Image.Image]":
            from limner.pipelines.manipulations import vary

            return vary(
                painter,
                images[0],
                count=self.count,
                strength=self.strength,
                size=self.size,
                seed=self.seed,
                on_tick=on_tick,
            )

        self.deliver(
            [self.image],
            work,
            titles=[f"seed {self.seed + number}" for number in range(self.count)],
            name=f"{slug(self.image.stem)}-varied-seed{self.seed}",
            told={"varies": self.image.name, "strength": str(self.strength), "seed": str(self.seed)},
        )


@dataclass(frozen=True, kw_only=True)
class Blend(Options):
    """The options of `limner blend`."""

    first: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """Where the way begins."""
    last: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """Where it ends."""
    steps: Annotated[int, arg(metavar="N")] = 7
    """Pictures on the way, both ends included."""
    noise: BlendNoise = "inverted"
    """inverted: the ends are the two pictures themselves; shared: all from one noise, the seed's."""
    seed: Annotated[int | None, arg(help_behavior_hint="(default: 0)")] = None
    """Of the shared noise."""

    def run(self) -> None:
        """Refuse what cannot be done, then do it."""
        checked_whole("steps", self.steps, 2, MOST_PICTURES)
        if self.seed is not None and self.noise != "shared":
            raise ValueError(
                f"seed is {self.seed}, but inverted noise is the pictures' own: leave it out, or choose "
                "--noise shared"
            )
        chosen = 0 if self.seed is None else self.seed
        checked_seed(chosen, 1)

        def work(
            painter: "Dalle2", images: "list[Image.Image]", on_tick: "Callable[[Tick], None]"
        ) -> "list[Image.Image]":
            from limner.pipelines.manipulations import blend

            return blend(
                painter,
                *images,
                steps=self.steps,
                noise=self.noise,
                size=self.size,
                seed=chosen,
                on_tick=on_tick,
            )

        seed = {"seed": str(chosen)} if self.noise == "shared" else {}
        self.deliver(
            [self.first, self.last],
            work,
            titles=[f"{number / (self.steps - 1):.2f}" for number in range(self.steps)],
            name=f"{slug(self.first.stem)}-to-{slug(self.last.stem)}",
            told={
                "blends": f"{self.first.name} {self.last.name}",
                "noise": self.noise,
                **seed,
            },
        )


@dataclass(frozen=True, kw_only=True)
class Edit(Options):
    """The options of `limner edit`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """The picture; it is squared with margins and brought to the model's size."""
    to: Annotated[str, arg(metavar='"WORDS"')]
    """What it shall be."""
    source: Annotated[
        str | None, arg(name="from", metavar='"WORDS"', help_behavior_hint="(default: none)")
    ] = None
    """What it is: only what differs is then changed."""
    strength: Annotated[float, arg(metavar="S")] = EDIT_STRENGTH
    """How far to turn: 0 gives the picture back, 1 leaves nothing but the words."""
    steps: Annotated[int, arg(metavar="N")] = 1
    """Pictures on the way; the last has all the strength."""

    def run(self) -> None:
        """Refuse what cannot be done, then do it."""
        checked_diff(self.to, self.source)
        checked_share("strength", self.strength)
        checked_whole("steps", self.steps, 1, MOST_PICTURES)

        def work(
            painter: "Dalle2", images: "list[Image.Image]", on_tick: "Callable[[Tick], None]"
        ) -> "list[Image.Image]":
            from limner.pipelines.manipulations import edit

            return edit(
                painter,
                images[0],
                self.to,
                source=self.source,
                strength=self.strength,
                steps=self.steps,
                size=self.size,
                on_tick=on_tick,
            )

        source = {} if self.source is None else {"from": self.source}
        self.deliver(
            [self.image],
            work,
            titles=[f"{self.strength * (number + 1) / self.steps:.2f}" for number in range(self.steps)],
            name=f"{slug(self.image.stem)}-to-{slug(self.to)}",
            told={"edits": self.image.name, **source, "to": self.to, "strength": str(self.strength)},
        )


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The options of `limner probe`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """The picture; it is squared with margins and brought to the model's size."""
    dims: Annotated[
        tuple[int, ...] | None, arg(metavar="N [N ...]", help_behavior_hint="(default: 20 … all)")
    ] = None
    """From how many principal components of its embedding to paint it, one picture for each; below it stands
    how much of the variance of all pictures these keep."""
    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: 256)")] = None
    """Pixels a side of each: 64, 256 or 1024, unless the weights are your own."""
    seed: int = 0
    """Of the noise that all are painted from."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file, for the one sheet of all pictures."""
    weights: Weights = None
    """Weights of your own: the folder OUT/line of `limner train`, with a prior_autoregressive."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Refuse what cannot be done, then do it."""
        checked_seed(self.seed, 1)
        if self.dims is not None:
            checked_dimensions(self.dims)
        if self.weights is None and self.size is not None:
            checked_size(self.size, SIZES)
        where = place(self.out, files=1)
        try_writing(where.folder)

        from limner import __version__
        from limner.pipelines import load
        from limner.pipelines.manipulations import probe
        from limner.pipelines.pictures import fingerprint, open_picture
        from limner.pipelines.png import contact_sheet, encode_png

        image = open_picture(self.image)
        with progress() as on_tick:
            painter = load("dalle2", weights=self.weights, device=self.device)
            dims, made = probe(
                painter, image, dimensions=self.dims, size=self.size, seed=self.seed, on_tick=on_tick
            )
        says = {"model": "dalle2", "weights": painter.digest, "limner": __version__, "of": fingerprint(image)}
        says |= {"probes": self.image.name, "dims": " ".join(map(str, dims)), "seed": str(self.seed)}
        assert painter.prior_autoregressive is not None  # `probe` has seen to that
        kept = painter.prior_autoregressive.pca.kept.tolist()
        titles = [f"{number} components, {100 * kept[number - 1]:.0f} % of variance" for number in dims]
        says["kept"] = " ".join(f"{kept[number - 1]:.4f}" for number in dims)
        sheet = contact_sheet(made, titles, columns=min(len(made), 9))
        print(where.save(encode_png(sheet, says), f"{slug(self.image.stem)}-probed"))
