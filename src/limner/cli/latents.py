"""`limner interpolate` and `limner traverse`: a VAE's numbers on the way from one picture to another."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.places import place, slug, try_writing
from limner.cli.weights import Weights

if TYPE_CHECKING:
    from PIL import Image

    from limner.vae import Vae

PANEL = 128
# Pictures on a sheet of single numbers.
MOST = 1024

INTERPOLATE_HELP = """Show the way from one picture to another, through the numbers of a VAE.
  limner interpolate apple.png pear.png --steps 7"""
TRAVERSE_HELP = """Move the numbers that tell a VAE most of a picture, one row for each.
  limner traverse apple.png --dims 8 --steps 7"""


@dataclass(frozen=True, kw_only=True)
class Interpolate:
    """The options of `limner interpolate`."""

    first: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """Where the way begins."""
    last: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """Where it ends."""
    steps: Annotated[int, arg(metavar="N")] = 7
    """Pictures on the way, both ends included."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file."""
    weights: Weights = None
    """Weights of your own: the model's folder."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Read both, walk, save the strip, print its path."""
        _checked("steps", self.steps, 2, 64)
        where = place(self.out, files=1)
        try_writing(where.folder)

        from limner.pipelines.pictures import open_picture, seen
        from limner.pipelines.png import contact_sheet, encode_png
        from limner.pipelines.stages import to_images

        images = [open_picture(path) for path in (self.first, self.last)]
        network, metadata = _vae(self.weights, self.device)
        first, last = seen(images, network.config.resolution).to(next(network.parameters()).device)
        strip = [_large(image) for image in to_images(network.interpolate(first, last, self.steps))]
        titles = [f"{number / (self.steps - 1):.2f}" for number in range(self.steps)]
        sheet = contact_sheet(strip, titles, columns=self.steps)
        name = f"{slug(self.first.stem)}-to-{slug(self.last.stem)}"
        print(where.save(encode_png(sheet, metadata | {"steps": str(self.steps)}), name))


@dataclass(frozen=True, kw_only=True)
class Traverse:
    """The options of `limner traverse`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """The picture whose numbers are moved; it is brought to the model's size, on white."""
    dims: Annotated[int, arg(metavar="N")] = 8
    """How many numbers to move, those of the largest KL divergence first."""
    steps: Annotated[int, arg(metavar="N")] = 7
    """Values that each takes."""
    span: Annotated[float, arg(metavar="X")] = 2.0
    """They go from -X to X; 1 is a standard deviation of the prior."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file."""
    weights: Weights = None
    """Weights of your own: the model's folder."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Read, move, save a row for each number, print the path."""
        _checked("steps", self.steps, 2, 64)
        if not 0 < self.span <= 10:
            raise ValueError(f"span is {self.span}: give a number above 0 and at most 10")
        where = place(self.out, files=1)
        try_writing(where.folder)

        from limner.pipelines.pictures import open_picture, seen
        from limner.pipelines.png import contact_sheet, encode_png
        from limner.pipelines.stages import to_images

        image = open_picture(self.image)
        network, metadata = _vae(self.weights, self.device)
        _checked("dims", self.dims, 1, network.config.latent)
        if self.dims * self.steps > MOST:
            raise ValueError(
                f"dims is {self.dims} and steps {self.steps}, which makes {self.dims * self.steps} pictures: "
                f"give numbers whose product is at most {MOST}"
            )
        picture = seen([image], network.config.resolution).to(next(network.parameters()).device)
        found = network.traversals(picture, self.dims, steps=self.steps, span=self.span)
        rows = [[_large(image) for image in to_images(row)] for row in found.pictures]
        told = zip(found.numbers.tolist(), found.kl.tolist(), strict=True)
        titles = [f"number {number}, KL {kl:.2f}" for number, kl in told]
        sheet = contact_sheet(
            [picture for row in rows for picture in row],
            [text for title in titles for text in (title, *[""] * (self.steps - 1))],
            columns=self.steps,
        )
        print(
            where.save(
                encode_png(sheet, metadata | {"span": str(self.span)}), f"{slug(self.image.stem)}-numbers"
            )
        )


def _vae(weights: Path | None, device: str) -> tuple["Vae", dict[str, str]]:
    """The network, and what a file says of it."""
    from limner import __version__
    from limner.pipelines import load_autoencoder
    from limner.vae import Vae

    model = load_autoencoder("vae", weights=weights, device=device)
    assert isinstance(model.network, Vae)
    return model.network, {"model": model.name, "weights": model.digest, "limner": __version__}


def _large(image: "Image.Image") -> "Image.Image":
    """Wide enough for what stands below it, with every pixel as a square."""
    from PIL import Image

    side = image.width * -(-PANEL // image.width)
    return image.resize((side, side), Image.Resampling.NEAREST)


def _checked(name: str, given: int, low: int, high: int) -> None:
    if not low <= given <= high:
        raise ValueError(f"{name} is {given}: give a whole number from {low} to {high}")
