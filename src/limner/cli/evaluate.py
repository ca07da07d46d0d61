"""`limner evaluate`: numbers on what training has not seen, and a sheet that nobody picked."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from limner.cli.places import try_writing
from limner.cli.progress import progress

HELP = """Measure a painter, or the autoencoders, on what they have not seen.
  limner evaluate --data emoji --judge runs/judge --out report
  limner evaluate --reconstructions --data emoji --judge runs/judge --out report
  limner evaluate --sheet sheet.png"""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The options of `limner evaluate`."""

    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """The folder that was trained on; what it holds out is what is asked for."""
    judge: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """A trained recogniser, which shares neither weights nor pictures with the painter."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Where the report and the pictures go."""
    sheet: Annotated[Path | None, arg(metavar="PNG", help_behavior_hint="")] = None
    """Where to lay out 64 prompts that were chosen before anything was painted."""
    reconstructions: bool = False
    """Instead of a painter: what vae, vqvae, vqvae2 and dvae give back of pictures they have not seen."""
    names: Annotated[int, arg(metavar="N")] = 300
    """How many names to ask for."""
    count: Annotated[int, arg(metavar="N")] = 1
    """Pictures of each."""
    seed: int = 0
    """All chance comes from it."""
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: what ships)")] = None
    """Weights of your own: a folder with clip, prior, decoder and upsampler, or with autoencoders."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Paint the sheet if asked to, measure if asked to, print where each is."""
        for name, given in (("names", self.names), ("count", self.count)):
            if given < 1:
                raise ValueError(f"{name} is {given}: give a whole number from 1")
        if (places := self._places()) is None and self.sheet is None:
            raise ValueError("nothing is asked for: give --sheet PNG, or --data, --judge and --out")
        if self.reconstructions:
            if places is None or self.sheet is not None:
                raise ValueError(
                    "reconstructions needs --data, --judge and --out, and paints no prompts: give all three, "
                    "and --sheet in a call of its own"
                )
            print(self._reconstruct(*places))
            return
        if self.sheet is not None:
            if self.sheet.is_dir() or self.sheet.suffix.lower() != ".png":
                raise ValueError(f"sheet is '{self.sheet}': give a name that ends in .png")
            try_writing(self.sheet.parent)
            print(self._paint(self.sheet))
        if places is not None:
            from limner.evaluation import report

            data, judge, out = places
            print(
                report.run(
                    self.weights,
                    data,
                    judge,
                    out,
                    names=self.names,
                    seed=self.seed,
                    count=self.count,
                    device=self._device(),
                )
            )

    def _places(self) -> tuple[Path, Path, Path] | None:
        """Data, judge and out, which are given together or not at all; each is where it should be."""
        if self.data is None and self.judge is None and self.out is None:
            return None
        if self.data is None or self.judge is None or self.out is None:
            raise ValueError("data, judge and out belong together: give all three, or --sheet alone")
        for name, folder in (("data", self.data), ("judge", self.judge)):
            if not folder.is_dir():
                raise ValueError(f"{name} is '{folder}', which is no folder")
        try_writing(self.out)
        return self.data, self.judge, self.out

    def _paint(self, sheet: Path) -> Path:
        from limner.evaluation.sheet import contact_sheet
        from limner.pipelines import load

        painter = load("dalle2", weights=self.weights, device=self._device())
        with progress() as on_tick:
            return contact_sheet(
                lambda prompts: painter.paint(prompts, seed=self.seed, on_tick=on_tick), sheet
            )

    def _reconstruct(self, data: Path, judge: Path, out: Path) -> Path:
        from limner.evaluation import reconstructions
        from limner.pipelines.autoencoders import load_autoencoders

        models, absent = load_autoencoders(self.weights, device=self._device())
        if absent:
            warnings.warn(f"no weights for {', '.join(absent)}: measuring the others", stacklevel=2)
        return reconstructions.run(
            models, data, judge, out, absent=absent, seed=self.seed, device=self._device()
        )

    def _device(self) -> str:
        from limner.pipelines.devices import device_named

        return str(device_named(self.device))
