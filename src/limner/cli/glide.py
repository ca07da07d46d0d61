"""`limner inpaint` and `limner redraw`: a picture changed in one place, or painted over anew."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.paintings import of_size
from limner.cli.places import place, try_writing
from limner.cli.progress import progress
from limner.cli.weights import Weights
from limner.pipelines.settings import (
    CLIP_GUIDANCE,
    GLIDE,
    GLIDE_GUIDANCE,
    GLIDE_SIZES,
    GLIDE_STEPS,
    STRENGTH,
    Commission,
    GlideSettings,
    GuidanceKind,
    Precision,
    checked_size,
    checked_strength,
    commissions,
    glide_settings,
)

if TYPE_CHECKING:
    from limner.pipelines.glide import Glide, GlideStage
    from limner.pipelines.progress import Tick

INPAINT_HELP = """Paint a part of a picture anew with GLIDE; all else is kept exactly.
  limner inpaint room.png mask.png "a room with a plant in it"
  limner inpaint cut.png cut.png "a red apple"
  limner inpaint room.png 20,80,120,200 "a room with a plant in it" --count 4 --out rooms"""

REDRAW_HELP = """Paint a sketch or photo anew with GLIDE, by words.
  limner redraw sketch.png "a red apple"
  limner redraw sketch.png "a red apple" --strength 0.8 --count 4 --out apples"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What both commands take."""

    count: Annotated[int, arg(metavar="N")] = 1
    """How many; the next one has the next seed."""
    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: the largest)")] = None
    """Pixels a side: 64 or 256, unless the weights are your own."""
    seed: int = 0
    """All chance comes from it: the same seed, the same picture."""
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint=f"(default: {GLIDE_STEPS})")] = None
    """Steps of the base network; fewer are faster."""
    guidance_kind: GuidanceKind = "classifier-free"
    """What leads to the words: the network without them, noised CLIP, or both."""
    guidance: Annotated[float | None, arg(metavar="G", help_behavior_hint=f"(default: {GLIDE_GUIDANCE})")] = (
        None
    )
    """How strongly the words are heeded, classifier-free: 1 as trained, more for more."""
    clip_guidance: Annotated[
        float | None, arg(metavar="G", help_behavior_hint=f"(default: {CLIP_GUIDANCE})")
    ] = None
    """How strongly noised CLIP leads, where it does."""
    negative_prompt: Annotated[str, arg(metavar='"PROMPT"', help_behavior_hint="(default: none)")] = ""
    """What not to paint: guidance leads away from it, in place of leading from no words."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file for a single picture."""
    weights: Weights = None
    """Weights of your own: a folder with base, upsampler and clip, or with GLIDE's files as released."""
    precision: Precision = "fp32"
    """bf16 multiplies in half precision, which is faster where the processor can."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def check(self, prompt: str) -> None:
        """Raise ValueError for what cannot be painted, before anything heavy is loaded."""
        commissions(prompt, count=self.count, seed=self.seed)
        if self.weights is None and self.size is not None:
            checked_size(self.size, GLIDE_SIZES)
        self.settings(GLIDE)

    def settings(self, usual: GlideSettings) -> GlideSettings:
        """How to paint: as usual, but for what was given."""
        return glide_settings(
            steps=self.steps,
            guidance_kind=self.guidance_kind,
            guidance=self.guidance,
            clip_guidance=self.clip_guidance,
            negative_prompt=self.negative_prompt,
            usual=usual,
        )

    def deliver(
        self,
        work: "Callable[[Glide, GlideSettings, Callable[[Tick], None]], Iterator[GlideStage]]",
        told: Mapping[str, str],
        *,
        mending: bool,
    ) -> None:
        """Paint, save each picture and what it was made of as soon as it is dry, print the paths.

        `mending`: with the networks that mend, where they are others.
        """
        where = place(self.out, files=self.count)
        try_writing(where.folder)

        from limner.pipelines import load

        saved: list[Path] = []
        try:
            with progress() as on_tick:
                painter = load("glide", weights=self.weights, device=self.device, precision=self.precision)
                if mending:
                    painter = painter.mending
                settings = self.settings(painter.usual)
                size = painter.sizes[1] if self.size is None else self.size

                def says(commission: Commission) -> dict[str, str]:
                    return {**painter.metadata(commission, size=size, settings=settings), **told}

                for painting in of_size(work(painter, settings, on_tick), says, size=size, seed=self.seed):
                    saved.append(where.save(painting.png(), painting.name))
        finally:
            for path in saved:
                print(path)


@dataclass(frozen=True, kw_only=True)
class Inpaint(Options):
    """The options of `limner inpaint`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """The picture; it is squared with margins and brought to the model's size."""
    mask: Annotated[Positional[str], arg(metavar="MASK")]
    """What to paint anew: a picture's transparent part, a black-and-white picture's white one, or a box in
    pixels, LEFT,TOP,RIGHT,BOTTOM."""
    prompt: Annotated[Positional[str], arg(metavar='"PROMPT"')]
    """What the whole is then a picture of, in quotes."""

    def run(self) -> None:
        """Read picture and mask, then paint."""
        self.check(self.prompt)
        box = box_of(self.mask)

        from limner.pipelines.known import box_mask, known_of, mask_of
        from limner.pipelines.pictures import fingerprint, open_picture

        image = open_picture(self.image)
        mask = mask_of(open_picture(Path(self.mask))) if box is None else box_mask(image.size, box)
        known_of(image, mask, max(GLIDE_SIZES))  # or say at once why not

        def work(
            painter: "Glide", settings: GlideSettings, on_tick: "Callable[[Tick], None]"
        ) -> "Iterator[GlideStage]":
            return painter.inpaint_stages(
                image,
                mask,
                self.prompt,
                count=self.count,
                size=self.size,
                seed=self.seed,
                settings=settings,
                on_tick=on_tick,
            )

        told = {"inpaints": fingerprint(image), "mask": fingerprint(mask) if box is None else self.mask}
        self.deliver(work, told, mending=True)


@dataclass(frozen=True, kw_only=True)
class Redraw(Options):
    """The options of `limner redraw`."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """A sketch or a photo; it is squared with margins and brought to the model's size."""
    prompt: Annotated[Positional[str], arg(metavar='"PROMPT"')]
    """What it is a picture of, in quotes."""
    strength: Annotated[float, arg(metavar="S")] = STRENGTH
    """How much of it to forget: little keeps almost all, 1 nothing."""

    def run(self) -> None:
        """Read the picture, then paint."""
        self.check(self.prompt)
        checked_strength(self.strength)

        from limner.pipelines.pictures import fingerprint, open_picture

        image = open_picture(self.image)

        def work(
            painter: "Glide", settings: GlideSettings, on_tick: "Callable[[Tick], None]"
        ) -> "Iterator[GlideStage]":
            return painter.redraw_stages(
                image,
                self.prompt,
                strength=self.strength,
                count=self.count,
                size=self.size,
                seed=self.seed,
                settings=settings,
                on_tick=on_tick,
            )

        told = {"redraws": fingerprint(image), "strength": str(self.strength)}
        self.deliver(work, told, mending=False)


def box_of(mask: str) -> tuple[int, int, int, int] | None:
    """The box that a mask spells, or None for the path of a picture. ValueError for four odd numbers."""
    parts = mask.split(",")
    if len(parts) != 4 or Path(mask).exists():
        return None
    try:
        left, top, right, bottom = (int(part) for part in parts)
    except ValueError:
        raise ValueError(
            f"mask is '{mask}': give a picture, or a box in whole pixels, LEFT,TOP,RIGHT,BOTTOM"
        ) from None
    return left, top, right, bottom
