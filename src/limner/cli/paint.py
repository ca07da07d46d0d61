"""`limner paint`: words in, pictures out, their paths on stdout."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from limner.cli.paintings import Painting, of_size, of_tokens
from limner.cli.places import named, place, try_writing
from limner.cli.progress import progress
from limner.pipelines.settings import (
    CLIP_GUIDANCE,
    CONDITION,
    DALLE_MINI_AS_RELEASED,
    DFGAN,
    DFGAN_SIZES,
    GLIDE,
    GLIDE_GUIDANCE,
    GLIDE_SIZES,
    GLIDE_STEPS,
    GUIDANCE,
    PRIOR,
    SIZES,
    STEPS,
    TEMPERATURE,
    TOKEN_GUIDANCE,
    TOKEN_SIZES,
    TOKENS,
    UNCLIP,
    Condition,
    DfGanSettings,
    GlideSettings,
    GuidanceKind,
    PaintSettings,
    Precision,
    Prior,
    TokenSettings,
    candidates_for,
    checked_arithmetic,
    checked_model,
    checked_size,
    commissions,
    glide_settings,
    is_place,
)

if TYPE_CHECKING:
    from limner.pipelines import Dalle1, DalleMini
    from limner.pipelines.progress import Tick

HELP = """Paint pictures of a prompt, or of several.
  limner paint "a red apple"
  limner paint "a red apple" "two fish" --count 4 --out fruit
  limner paint "a red apple" --size 1024 --out large.png
  limner paint "a red apple" --count 16 --sheet --out 16.png
  limner paint "a red apple" --model dalle1 --count 4 --candidates 32
  limner paint "a red apple" --model glide --guidance-kind both
  limner paint "a red apple" --model dfgan --truncation 0.88
  limner paint "a red apple" --negative-prompt "a green apple" --guidance 3
  limner paint "a red apple" --model downloads/glide
  limner paint "a red apple" --model downloads/dalle-mini"""

# Options that not every painter has.
OWN = {
    "steps": ("dalle2", "glide"),
    "prior": ("dalle2",),
    "condition": ("dalle2",),
    "text_guidance": ("dalle2",),
    "negative_prompt": ("dalle2", "glide"),
    "tile": ("dalle2",),
    "guidance_kind": ("glide",),
    "clip_guidance": ("glide",),
    "candidates": ("dalle1", "dalle_mini"),
    "temperature": ("dalle1", "dalle_mini"),
    "top_k": ("dalle1", "dalle_mini"),
    "top_p": ("dalle1", "dalle_mini"),
    "guidance": ("dalle1", "dalle2", "dalle_mini", "glide"),
    "truncation": ("dfgan",),
}
# Pixels a side, of the weights that ship.
OFFERED = {"dalle1": TOKEN_SIZES, "dfgan": DFGAN_SIZES, "glide": GLIDE_SIZES}


@dataclass(frozen=True, kw_only=True)
class Paint:
    """The options of `limner paint`."""

    prompts: Annotated[Positional[tuple[str, ...]], arg(metavar='"PROMPT" ...', help_behavior_hint="")] = ()
    """What to paint, each prompt in quotes."""
    model: Annotated[str, arg(metavar="NAME")] = "dalle2"
    """Which painter: dalle2; glide, which reads the words itself; dalle1, which writes tokens and lets CLIP
    choose; or dfgan, a GAN. Or the path of weights that paint, limner's own or as others released them."""
    count: Annotated[int, arg(metavar="N")] = 1
    """Pictures of each prompt; the next one has the next seed, but dalle1's come best first."""
    size: Annotated[
        int | None, arg(metavar="PIXELS", help_behavior_hint="(default: 256, dalle1 and dfgan 64)")
    ] = None
    """Pixels a side: dalle2 64, 256 or 1024, glide 64 or 256, dalle1 and dfgan 64, unless the weights are
    your own."""
    prior: Annotated[Prior | None, arg(help_behavior_hint=f"(default: {PRIOR})")] = None
    """dalle2: what imagines a picture's embedding from the words'; with none, theirs is taken for it."""
    condition: Annotated[Condition | None, arg(help_behavior_hint=f"(default: {CONDITION})")] = None
    """dalle2: what the decoder is told: the imagined CLIP embedding, the text itself, both or neither."""
    tile: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: none)")] = None
    """dalle2: go from 256 to 1024 in tiles of so many pixels a side: the same picture in less memory."""
    seed: int = 0
    """All chance comes from it: the same seed, the same picture."""
    steps: Annotated[
        int | None,
        arg(metavar="N", help_behavior_hint=f"(default: dalle2 {STEPS}, glide {GLIDE_STEPS})"),
    ] = None
    """dalle2 and glide: steps of the small picture; fewer are faster."""
    guidance: Annotated[
        float | None,
        arg(
            metavar="G",
            help_behavior_hint=(
                f"(default: dalle2 {GUIDANCE}, dalle1 {TOKEN_GUIDANCE}, glide {GLIDE_GUIDANCE}, "
                f"dalle_mini {DALLE_MINI_AS_RELEASED.guidance})"
            ),
        ),
    ] = None
    """How strongly the words are heeded: 1 as trained, more for more."""
    text_guidance: Annotated[float | None, arg(metavar="G", help_behavior_hint="(default: as guidance)")] = (
        None
    )
    """dalle2: the same of the text alone, beyond the CLIP embedding, which then has the other to itself."""
    negative_prompt: Annotated[str | None, arg(metavar='"PROMPT"', help_behavior_hint="(default: none)")] = (
        None
    )
    """dalle2 and glide: what not to paint: guidance leads away from it, in place of leading from no words."""
    guidance_kind: Annotated[GuidanceKind | None, arg(help_behavior_hint="(default: classifier-free)")] = None
    """glide: what leads to the words: the network without them, noised CLIP, or both."""
    clip_guidance: Annotated[
        float | None, arg(metavar="G", help_behavior_hint=f"(default: {CLIP_GUIDANCE})")
    ] = None
    """glide: how strongly noised CLIP leads, where it does."""
    candidates: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: as count)")] = None
    """dalle1 and dalle_mini: how many to paint of each prompt; the best are kept."""
    temperature: Annotated[float | None, arg(metavar="T", help_behavior_hint=f"(default: {TEMPERATURE})")] = (
        None
    )
    """dalle1 and dalle_mini: below 1 for likelier tokens, 0 for the likeliest."""
    top_k: Annotated[
        int | None,
        arg(metavar="K", help_behavior_hint=f"(default: all, dalle_mini {DALLE_MINI_AS_RELEASED.top_k})"),
    ] = None
    """dalle1 and dalle_mini: draw from the K likeliest tokens only."""
    top_p: Annotated[float | None, arg(metavar="P", help_behavior_hint="(default: all)")] = None
    """dalle1 and dalle_mini: draw from the likeliest tokens that together hold this share."""
    truncation: Annotated[
        float | None, arg(metavar="X", help_behavior_hint="(default: none, noise as in training)")
    ] = None
    """dfgan: below 1 for noise, and pictures, nearer to the middle: less varied and cleaner."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file for a single picture."""
    sheet: bool = False
    """One contact sheet of all pictures instead of a file for each."""
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: what ships)")] = None
    """Weights of your own: the folder OUT/line of `limner train`."""
    precision: Precision = "fp32"
    """dalle2 and glide: bf16 multiplies in half precision, which is faster where the processor can."""
    compile: bool = False
    """dalle2 and glide: have PyTorch compile the networks: minutes to begin with, then faster pictures."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Refuse what cannot be painted, paint, save each picture as soon as it is dry, print the paths."""
        if is_place(self.model):
            return self._named().run()
        wanted = commissions(self.prompts, count=self.count, seed=self.seed)
        self._check_options()
        if self.compile and self.device in ("auto", "cpu"):
            from limner.pipelines.devices import checked_compiler

            checked_compiler()
        where = place(self.out, files=1 if self.sheet else len(wanted))
        try_writing(where.folder)

        saved: list[Path] = []
        try:
            with progress() as on_tick:
                by = {
                    "dalle1": self._by_tokens,
                    "dalle2": self._by_dalle2,
                    "dalle_mini": self._by_tokens,
                    "dfgan": self._by_dfgan,
                    "glide": self._by_glide,
                }
                paintings = by[self.model](on_tick)
                if self.sheet:
                    saved.append(where.save(*self._sheet(list(paintings))))
                else:
                    for painting in paintings:
                        saved.append(where.save(painting.png(), painting.name))
        finally:
            for path in saved:
                print(path)

    def _named(self) -> "Paint":
        """The same, by the painter's name and its weights, where a path was given for the painter."""
        commissions(self.prompts, count=self.count, seed=self.seed)
        if self.weights is not None:
            raise ValueError(
                f"weights is {self.weights}, and model is {self.model}, weights already: give one"
            )
        from limner.formats.hub import resolved
        from limner.pipelines.folders import model_of

        weights = resolved(Path(self.model))
        return replace(self, model=model_of(weights), weights=weights)

    def _check_options(self) -> None:
        """What this painter does not know, and what it cannot do, before anything heavy is loaded."""
        checked_model(self.model, weights=self.weights)
        checked_arithmetic(self.model, precision=self.precision, compile=self.compile)
        for name, models in OWN.items():
            if self.model not in models and (given := getattr(self, name)) is not None:
                who = " and ".join(models)
                raise ValueError(
                    f"{name} is {given}, of which only {who} {'know' if models[1:] else 'knows'}: leave it "
                    f"out, or add --model {models[0]}"
                )
        if self.model in ("dalle1", "dalle_mini"):
            of = self._token_settings().candidates
            candidates_for(self.prompts, count=self.count, seed=self.seed, of=of)
        elif self.model == "dfgan":
            self._dfgan_settings()
        elif self.model == "glide":
            self._glide_settings()
        else:
            self._paint_settings()
            if self.condition == "neither" and self.guidance is not None:
                raise ValueError(
                    f"guidance is {self.guidance}, but the decoder is told neither: leave it out, or choose "
                    "another --condition"
                )
        if self.weights is None and self.size is not None:
            checked_size(self.size, OFFERED.get(self.model, SIZES))

    def _paint_settings(self, usual: PaintSettings = UNCLIP) -> PaintSettings:
        given = self._given(
            *("prior", "steps", "condition", "guidance", "text_guidance", "negative_prompt", "tile")
        )
        return replace(usual, **given)

    def _glide_settings(self, usual: GlideSettings = GLIDE) -> GlideSettings:
        given = self._given("steps", "guidance", "guidance_kind", "clip_guidance", "negative_prompt")
        return glide_settings(**given, usual=usual)

    def _token_settings(self, usual: TokenSettings = TOKENS) -> TokenSettings:
        return replace(usual, **self._given("guidance", "candidates", "temperature", "top_k", "top_p"))

    def _dfgan_settings(self, usual: DfGanSettings = DFGAN) -> DfGanSettings:
        return replace(usual, **self._given("truncation"))

    def _given(self, *names: str) -> dict[str, Any]:
        """Of these options, those that were given; a painter's own defaults stand for the others."""
        return {name: given for name in names if (given := getattr(self, name)) is not None}

    def _by_tokens(self, on_tick: Callable[["Tick"], None]) -> Iterator[Painting]:
        from limner.pipelines import load

        painter: Dalle1 | DalleMini
        if self.model == "dalle_mini":
            assert self.weights is not None
            painter = load("dalle_mini", weights=self.weights, device=self.device)
        else:
            painter = load("dalle1", weights=self.weights, device=self.device)
        settings = self._token_settings(painter.usual)
        stages = painter.paint(
            self.prompts,
            count=self.count,
            size=self.size,
            seed=self.seed,
            settings=settings,
            stages=True,
            on_tick=on_tick,
        )
        return of_tokens(painter, stages, settings=settings, count=self.count)

    def _by_glide(self, on_tick: Callable[["Tick"], None]) -> Iterator[Painting]:
        from limner.pipelines import load

        painter = load(
            "glide",
            weights=self.weights,
            device=self.device,
            precision=self.precision,
            compile=self.compile,
        )
        settings = self._glide_settings(painter.usual)
        size = painter.sizes[1] if self.size is None else self.size
        stages = painter.paint(
            self.prompts,
            count=self.count,
            size=size,
            seed=self.seed,
            settings=settings,
            stages=True,
            on_tick=on_tick,
        )
        return of_size(
            stages,
            lambda commission: painter.metadata(commission, size=size, settings=settings),
            size=size,
            seed=self.seed,
        )

    def _by_dfgan(self, on_tick: Callable[["Tick"], None]) -> Iterator[Painting]:
        from limner.pipelines import load

        painter = load("dfgan", weights=self.weights, device=self.device)
        settings = self._dfgan_settings(painter.usual)
        (size,) = painter.sizes
        stages = painter.paint(
            self.prompts,
            count=self.count,
            size=self.size,
            seed=self.seed,
            settings=settings,
            stages=True,
            on_tick=on_tick,
        )
        return of_size(
            stages,
            lambda commission: painter.metadata(commission, size=size, settings=settings),
            size=size,
            seed=self.seed,
        )

    def _by_dalle2(self, on_tick: Callable[["Tick"], None]) -> Iterator[Painting]:
        from limner.pipelines import load

        painter = load(
            "dalle2",
            weights=self.weights,
            device=self.device,
            precision=self.precision,
            compile=self.compile,
        )
        settings = self._paint_settings(painter.usual)
        size = painter.sizes[1] if self.size is None else self.size
        stages = painter.paint(
            self.prompts,
            count=self.count,
            size=size,
            seed=self.seed,
            settings=settings,
            stages=True,
            on_tick=on_tick,
        )
        return of_size(
            stages,
            lambda commission: painter.metadata(commission, size=size, settings=settings),
            size=size,
            seed=self.seed,
        )

    def _sheet(self, paintings: list[Painting]) -> tuple[bytes, str]:
        """One PNG of all pictures with their prompts below, and its name."""
        from limner.pipelines.png import contact_sheet, encode_png

        first = commissions(self.prompts, count=1, seed=self.seed)[0]
        metadata = paintings[0].metadata | {"prompt": "\n".join(self.prompts), "seed": str(self.seed)}
        metadata |= {"count": str(self.count)}
        if "score" in metadata:
            metadata["score"] = "\n".join(painting.metadata["score"] for painting in paintings)
        sheet = contact_sheet(
            [painting.image for painting in paintings],
            [painting.commission.prompt for painting in paintings],
        )
        return encode_png(sheet, metadata), f"sheet-of-{len(paintings)}-{named(first, 1)}"
