"""`limner paint`: words in, pictures out, their paths on stdout."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.places import named, place, try_writing
from limner.cli.progress import progress
from limner.pipelines.settings import (
    GUIDANCE,
    SIZES,
    STEPS,
    PaintSettings,
    checked_model,
    checked_size,
    commissions,
)

if TYPE_CHECKING:
    from limner.pipelines.dalle2 import Dalle2
    from limner.pipelines.progress import Tick

HELP = """Paint pictures of a prompt, or of several.
  limner paint "a red apple"
  limner paint "a red apple" "two fish" --count 4 --out fruit
  limner paint "a red apple" --count 16 --sheet --out 16.png"""


@dataclass(frozen=True, kw_only=True)
class Paint:
    """The options of `limner paint`."""

    prompts: Annotated[Positional[tuple[str, ...]], arg(metavar='"PROMPT" ...', help_behavior_hint="")] = ()
    """What to paint, each prompt in quotes."""
    model: Annotated[str, arg(metavar="NAME")] = "dalle2"
    """Which painter: dalle2."""
    count: Annotated[int, arg(metavar="N")] = 1
    """Pictures of each prompt; the next one has the next seed."""
    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: the larger)")] = None
    """Pixels a side: 64 or 256, unless the weights are your own."""
    seed: int = 0
    """All chance comes from it: the same seed, the same picture."""
    steps: Annotated[int, arg(metavar="N")] = STEPS
    """Steps of the decoder; fewer are faster."""
    guidance: Annotated[float, arg(metavar="G")] = GUIDANCE
    """How strongly the decoder heeds the words: 1 as trained, more for more."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file for a single picture."""
    sheet: bool = False
    """One contact sheet of all pictures instead of a file for each."""
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: what ships)")] = None
    """Weights of your own: a folder with clip, prior, decoder and upsampler."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Refuse what cannot be painted, paint, save each picture as soon as it is dry, print the paths."""
        checked_model(self.model)
        wanted = commissions(self.prompts, count=self.count, seed=self.seed)
        settings = PaintSettings(steps=self.steps, guidance=self.guidance)
        if self.weights is None and self.size is not None:
            checked_size(self.size, SIZES)
        where = place(self.out, files=1 if self.sheet else len(wanted))
        try_writing(where.folder)

        saved: list[Path] = []
        try:
            with progress() as on_tick:
                from limner.pipelines import load

                painter = load(self.model, weights=self.weights, device=self.device)
                size = painter.sizes[1] if self.size is None else self.size
                files = self._sheet if self.sheet else self._pictures
                for data, name in files(painter, size, settings, on_tick):
                    saved.append(where.save(data, name))
        finally:
            for path in saved:
                print(path)

    def _pictures(
        self,
        painter: "Dalle2",
        size: int,
        settings: PaintSettings,
        on_tick: Callable[["Tick"], None],
    ) -> Iterator[tuple[bytes, str]]:
        """Each picture as a PNG and its name, as soon as it is painted."""
        from limner.pipelines.png import encode_png
        from limner.pipelines.stages import Drawn, Enlarged

        stages = painter.paint(
            self.prompts,
            count=self.count,
            size=size,
            seed=self.seed,
            settings=settings,
            stages=True,
            on_tick=on_tick,
        )
        for stage in stages:
            if isinstance(stage, Drawn | Enlarged) and stage.pictures.shape[-1] == size:
                for commission, image in zip(stage.commissions, stage.images(), strict=True):
                    metadata = painter.metadata(commission, size=size, settings=settings)
                    yield encode_png(image, metadata), named(commission, commission.seed - self.seed + 1)

    def _sheet(
        self,
        painter: "Dalle2",
        size: int,
        settings: PaintSettings,
        on_tick: Callable[["Tick"], None],
    ) -> Iterator[tuple[bytes, str]]:
        """One PNG of all pictures with their prompts below."""
        from limner.pipelines.png import contact_sheet, encode_png

        images = painter.paint(
            self.prompts,
            count=self.count,
            size=size,
            seed=self.seed,
            settings=settings,
            on_tick=on_tick,
        )
        wanted = commissions(self.prompts, count=self.count, seed=self.seed)
        metadata = painter.metadata(wanted[0], size=size, settings=settings)
        metadata |= {"prompt": "\n".join(self.prompts), "count": str(self.count)}
        sheet = contact_sheet(images, [commission.prompt for commission in wanted])
        yield encode_png(sheet, metadata), f"sheet-of-{len(wanted)}-{named(wanted[0], 1)}"
