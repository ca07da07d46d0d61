"""`limner reconstruct`: a picture, what an autoencoder gives back of it, and the words in between."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.places import place, slug, try_writing

if TYPE_CHECKING:
    from PIL import Image

    from limner.pipelines import Autoencoder

HELP = """Show what an autoencoder keeps of a picture: before, after, and the words in between.
  limner reconstruct apple.png
  limner reconstruct apple.png --model vqvae2 --out apple-again.png
  limner reconstruct apple.png --model vqgan --weights last.ckpt"""

# Panels are at least this wide and high: small pictures are shown with every pixel as a square.
PANEL = 256


@dataclass(frozen=True, kw_only=True)
class Reconstruct:
    """The options of `limner reconstruct`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """A picture of any size; it is brought to the model's, on white."""
    model: Literal["vae", "vqvae", "vqvae2", "dvae", "vqgan"] = "dvae"
    """Which autoencoder; vqgan does not ship."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file."""
    weights: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: what ships)")] = None
    """Weights of your own: the model's folder; for vqgan also taming-transformers' checkpoint."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Read, reconstruct, save, print the path and what the picture takes."""
        where = place(self.out, files=1)
        try_writing(where.folder)

        from limner import __version__
        from limner.pipelines import load_autoencoder
        from limner.pipelines.pictures import open_picture
        from limner.pipelines.png import contact_sheet, encode_png

        image = open_picture(self.image)
        model = load_autoencoder(self.model, weights=self.weights, device=self.device)
        panels, bits = shown(model, image)
        metadata = {
            "model": model.name,
            "weights": model.digest,
            "bits": f"{bits:.1f}",
            "limner": __version__,
        }
        sheet = contact_sheet(list(panels.values()), list(panels), columns=len(panels))
        print(where.save(encode_png(sheet, metadata), f"{slug(self.image.stem)}-{model.name}"))
        was, side = f"{image.width}×{image.height}", f"{model.resolution}×{model.resolution}"
        size = f"{side} pixels" if was == side else f"{was} pixels, brought to {side}"
        print("; ".join([size, f"{bits:,.0f} bits", *list(panels)[2:]]))


def shown(model: "Autoencoder", image: "Image.Image") -> tuple[dict[str, "Image.Image"], float]:
    """Pictures by what is said of them: before, after, and every grid of words; and the bits they take."""
    from PIL import Image

    from limner.pipelines.autoencoders import grid_picture
    from limner.pipelines.pictures import seen
    from limner.pipelines.stages import to_images

    pictures = seen([image], model.resolution)
    side = model.resolution * -(-PANEL // model.resolution)

    def large(small: "Image.Image") -> "Image.Image":
        return small.resize((side, side), Image.Resampling.NEAREST)

    panels = {
        "before": large(to_images(pictures)[0]),
        "after": large(to_images(model.reconstruct(pictures))[0]),
    }
    for name, grid in model.tokens(pictures).items():
        height, width = grid[0].shape
        # Pillow's own font has no ×.
        words = f"{len(grid.unique())} of {model.vocabulary} words in {width} by {height} places"
        panels[f"{name}: {words}"] = grid_picture(grid[0], side)
    return panels, float(model.bits(pictures))
