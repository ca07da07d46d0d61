"""`limner rank`: how well pictures go with words, by CLIP, best first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.weights import Weights
from limner.pipelines.settings import checked_prompt

HELP = """Say how well pictures go with words: CLIP's score and the path, best first.
  limner rank "a red apple" paintings/apple-1.png paintings/apple-2.png"""


@dataclass(frozen=True, kw_only=True)
class Rank:
    """The options of `limner rank`."""

    text: Annotated[Positional[str], arg(metavar='"TEXT"')]
    """The words, in quotes."""
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE ...", help_behavior_hint="")] = ()
    """Pictures of any size and kind; transparent ones are seen on white."""
    weights: Weights = None
    """A CLIP of your own or of somebody else: its folder or file, or a folder with a clip in it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Read all pictures, score them, print."""
        checked_prompt(self.text)
        if not self.images:
            raise ValueError("images is empty: give the path of at least one picture")
        from limner.pipelines import rank
        from limner.pipelines.pictures import open_picture

        pictures = [open_picture(path) for path in self.images]
        scores = rank(self.text, pictures, weights=self.weights, device=self.device)
        for score, path in sorted(zip(scores, self.images, strict=True), key=lambda pair: -pair[0]):
            print(f"{score:.4f}  {path}")
