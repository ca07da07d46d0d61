"""`limner evaluate`: the numbers of a painter, measured on pictures it has not seen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from limner.cli.places import try_writing

HELP = """Measure a painter on what it has not seen.
  limner evaluate --data emoji --judge judge/model --out report"""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The options of `limner evaluate`."""

    data: Annotated[Path, arg(metavar="DIR")]
    """The folder that was trained on; only what it holds out is looked at."""
    judge: Annotated[Path, arg(metavar="DIR")]
    """The trained recogniser, which shares neither weights nor pictures with the painter."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Where the table and the pictures go."""
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: what ships)")] = None
    """Weights of your own: a folder with clip, prior, decoder and upsampler."""

    def run(self) -> None:
        """Measure, and print where the report is."""
        for name, folder in (("data", self.data), ("judge", self.judge)):
            if not folder.is_dir():
                raise ValueError(f"{name} is '{folder}', which is no folder")
        try_writing(self.out)
        from limner.evaluation.report import run

        print(run(weights=self.weights, data=self.data, judge=self.judge, out=self.out))
