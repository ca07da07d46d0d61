"""`limner explain`: where in a picture CLIP's score for words comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.places import place, slug, try_writing
from limner.cli.weights import Weights
from limner.pipelines.settings import checked_prompt

HELP = """Show which parts of a picture speak for the words, in red, and which against them, in blue.
  limner explain apple.png "a red apple"
  limner explain apple.png "a red apple" --out why.png"""

PANEL = 320


@dataclass(frozen=True, kw_only=True)
class Explain:
    """The options of `limner explain`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """A picture of any size and kind; a transparent one is seen on white."""
    text: Annotated[Positional[str], arg(metavar='"TEXT"')]
    """The words, in quotes."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file."""
    weights: Weights = None
    """A CLIP of your own or of somebody else: its folder or file, or a folder with a clip in it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Read, explain, save the picture beside its heat map, print the path and the sum."""
        checked_prompt(self.text, "text")
        where = place(self.out, files=1)
        try_writing(where.folder)

        from PIL import Image

        from limner import __version__
        from limner.pipelines import explain
        from limner.pipelines.pictures import open_picture
        from limner.pipelines.png import contact_sheet, encode_png

        found = explain(self.text, open_picture(self.image), weights=self.weights, device=self.device)
        before = found.seen.resize((PANEL, PANEL), Image.Resampling.LANCZOS)
        titles = ["as CLIP sees it", f"{self.text}: {found.score:.4f}; red for, blue against"]
        sheet = contact_sheet([before, found.heat(PANEL)], titles, columns=2)
        metadata = {
            "explains": self.image.name,
            "prompt": self.text,
            "score": f"{found.score:.4f}",
            "weights": found.weights,
            "limner": __version__,
        }
        name = f"{slug(self.image.stem)}-{slug(self.text)}-explained"
        print(where.save(encode_png(sheet, metadata), name))
        added = found.patches.sum()
        print(
            f"score {found.score:.4f}: a white picture's {found.blank:.4f}, and {added:+.4f} by what is drawn"
        )
