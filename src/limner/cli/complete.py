"""`limner complete`: the top of a picture is kept, the rest painted anew."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.paintings import ranked
from limner.cli.places import place, try_writing
from limner.cli.progress import progress
from limner.cli.weights import Weights
from limner.pipelines.settings import (
    TEMPERATURE,
    TOKEN_GUIDANCE,
    TOP_K,
    TOP_P,
    TokenSettings,
    candidates_for,
    checked_keep,
)

HELP = """Keep the top of a picture and let DALL-E 1 finish it.
  limner complete apple.png "a red apple" --keep 0.5
  limner complete apple.png "a red apple" --count 2 --candidates 16 --out finished"""


@dataclass(frozen=True, kw_only=True)
class Complete:
    """The options of `limner complete`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """A square picture; it is brought to the model's size."""
    prompt: Annotated[Positional[str], arg(metavar='"PROMPT"')]
    """What the whole is a picture of, in quotes."""
    keep: Annotated[float, arg(metavar="SHARE")] = 0.5
    """How much of it to keep, from the top."""
    count: Annotated[int, arg(metavar="N")] = 1
    """How many to keep in the end, best first."""
    candidates: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: as count)")] = None
    """How many to paint; CLIP chooses."""
    guidance: Annotated[float, arg(metavar="G")] = TOKEN_GUIDANCE
    """How strongly the words are heeded: 1 as trained, more for more."""
    temperature: Annotated[float, arg(metavar="T")] = TEMPERATURE
    """Below 1 for likelier tokens, 0 for the likeliest."""
    top_k: Annotated[int | None, arg(metavar="K", help_behavior_hint="(default: all)")] = TOP_K
    """Draw from the K likeliest tokens only."""
    top_p: Annotated[float | None, arg(metavar="P", help_behavior_hint="(default: all)")] = TOP_P
    """Draw from the likeliest tokens that together hold this share."""
    seed: int = 0
    """All chance comes from it: the same seed, the same picture."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file for a single picture."""
    weights: Weights = None
    """Weights of your own: a folder with transformer and dvae."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Refuse what cannot be painted, paint, save, print the paths."""
        settings = TokenSettings(
            guidance=self.guidance,
            candidates=self.candidates,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
        )
        candidates_for([self.prompt], count=self.count, seed=self.seed, of=settings.candidates)
        checked_keep(self.keep)
        where = place(self.out, files=self.count)
        try_writing(where.folder)

        from limner.pipelines import load
        from limner.pipelines.pictures import fingerprint, open_picture

        image = open_picture(self.image)
        with progress() as on_tick:
            painter = load("dalle1", weights=self.weights, device=self.device)
            finished = painter.complete(
                image,
                self.prompt,
                keep=self.keep,
                count=self.count,
                seed=self.seed,
                settings=settings,
                on_tick=on_tick,
            )
        for painting in ranked(painter, finished, settings=settings, count=self.count):
            source = {"keep": str(self.keep), "completes": fingerprint(image)}
            told = replace(painting, metadata=painting.metadata | source)
            print(where.save(told.png(), told.name))
