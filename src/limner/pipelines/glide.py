"""GLIDE: words → a small picture → a large one, from noise, around what is known, or from a sketch.

Nichol et al. 2021. `Glide.paint` is the figure, `read`, `draw`, `enlarge`; `inpaint` keeps known pixels and
`redraw` begins from a picture (Meng et al. 2021, "SDEdit").
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, TypeAlias, overload

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from limner import __version__
from limner.clip import Clip
from limner.data.folder import upright
from limner.diffusion.guidance import held
from limner.diffusion.process import Denoiser, Steer
from limner.diffusion.seamless import seamless
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.glide import Caption, read_ids, toward_caption
from limner.glide import Glide as Network
from limner.pipelines.devices import device_named
from limner.pipelines.glide_parts import MENDING, PARTS, VOCABULARY, OwnParts, ReleasedParts, Words, parts_at
from limner.pipelines.known import Kept, known_of
from limner.pipelines.pictures import seen
from limner.pipelines.progress import Clock, Tick
from limner.pipelines.sampling import sample, scales, sides, within_pixels
from limner.pipelines.settings import (
    GLIDE,
    GLIDE_AS_RELEASED,
    Commission,
    GlideSettings,
    Precision,
    checked_size,
    checked_strength,
    commissions,
)
from limner.pipelines.stages import Drawn, Enlarged, OnSketch, Read, eight_bit, sketching
from limner.pipelines.words import checked_words, told_of_unknown
from limner.text import CLIP_VOCAB_SIZE, PADDING, ClipTokenizer, Gpt2Tokenizer

# As DALL-E 2's: how many pictures are in work at once, so that memory stays bounded.
DRAWN_AT_ONCE = 16
ENLARGED_AT_ONCE = 4

GlideStage: TypeAlias = Read | Drawn | Enlarged


def _silently(_: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class Glide:
    """The networks, a tokenizer for each reader, the `digest` of all weights, the U-Nets' arithmetic.

    Without a `clip` none can guide. `mender`: where other networks mend than paint, a painter of those, made
    when it is first asked for.
    """

    base: Network
    upsampler: Network
    clip: Clip | None
    base_tokenizer: Words
    upsampler_tokenizer: Words
    digest: str
    precision: Precision = "fp32"
    compiled: bool = False
    mender: "Callable[[], Glide] | None" = None

    def __post_init__(self) -> None:
        """Refuse parts that were not trained for one another."""
        base, upsampler = self.base.config, self.upsampler.config
        asked = [("base's low", base.low, None), ("upsampler's low", upsampler.low, base.resolution)]
        if self.clip is not None:
            vision = self.clip.config.vision
            asked += [
                ("clip's vision.resolution", vision.resolution, base.resolution),
                ("clip's vision.times", vision.times, base.diffusion.steps),
            ]
        for name, given, wanted in asked:
            if given != wanted:
                raise LimnerError(
                    f"these parts do not belong together: the {name} is {given} where {wanted} is needed; "
                    "take all three from one training"
                )
        for name, tokenizer, network in (
            ("base", self.base_tokenizer, base),
            ("upsampler", self.upsampler_tokenizer, upsampler),
        ):
            if tokenizer.vocab_size > network.text.vocabulary:
                raise LimnerError(
                    f"{name}/{VOCABULARY} has {tokenizer.vocab_size} words, and the {name} knows "
                    f"{network.text.vocabulary}: take both from one training"
                )

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "cpu", precision: Precision = "fp32", compile: bool = False
    ) -> "Glide":
        """Read what lies in `folder`, as float32: a line of limner's own, or GLIDE as it was released.

        The first has {base, upsampler, clip}, each a checkpoint folder; the second base.pt and upsample.pt,
        and, if they are there, base_inpaint.pt and upsample_inpaint.pt, which mend, and both files of the
        noised CLIP; or what `limner convert` made of them. With `precision` "bf16" the U-Nets are in
        bfloat16; with `compile`, PyTorch's compiler fuses them at their first steps. Raises ValueError for a
        device that is not there, LimnerError, naming the file, for weights that are missing, damaged or of
        different families.
        """
        place, parts = device_named(device), parts_at(folder)
        clip = parts.clip(place) if "clip" in parts.names else None

        def painter(mends: bool) -> "Glide":
            names = [_chosen(parts, name, mends) for name in PARTS[:2]]
            base, upsampler = (parts.glide(name, place) for name in names)
            if precision == "bf16":
                base.backbone.to(torch.bfloat16)
                upsampler.backbone.to(torch.bfloat16)
            if compile:
                base.backbone.compile()
                upsampler.backbone.compile()
            words = [
                parts.words(name, network.config.text.vocabulary)
                for name, network in zip(names, (base, upsampler), strict=True)
            ]
            others = not mends and any(_chosen(parts, name, True) != name for name in names)
            return cls(
                base=base,
                upsampler=upsampler,
                clip=clip,
                base_tokenizer=words[0],
                upsampler_tokenizer=words[1],
                digest=parts.digest([*names, *(() if clip is None else ("clip",))]),
                precision=precision,
                compiled=compile,
                mender=cache(lambda: painter(True)) if others else None,
            )

        return painter(False)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.base.text.positions.device

    @property
    def usual(self) -> GlideSettings:
        """How it paints unless somebody says otherwise: what was released, as its authors' examples do."""
        return GLIDE_AS_RELEASED if isinstance(self.base_tokenizer, Gpt2Tokenizer) else GLIDE

    @property
    def mending(self) -> "Glide":
        """The painter that `inpaint` is left to: of other networks, or itself."""
        return self if self.mender is None else self.mender()

    @cached_property
    def clip_tokenizer(self) -> ClipTokenizer:
        """The words that noised CLIP reads: the released one has all of CLIP's, in a longer table."""
        assert self.clip is not None
        return ClipTokenizer(min(self.clip.config.text.vocabulary, CLIP_VOCAB_SIZE))

    @property
    def sizes(self) -> tuple[int, int]:
        """Pixels a side of what is drawn and of what is enlarged: 64 and 256 in the paper."""
        return self.base.config.resolution, self.upsampler.config.resolution

    @overload
    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = ...,
        size: int | None = ...,
        seed: int = ...,
        settings: GlideSettings | None = ...,
        stages: Literal[False] = ...,
        on_tick: Callable[[Tick], None] | None = ...,
    ) -> list[Image.Image]: ...

    @overload
    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = ...,
        size: int | None = ...,
        seed: int = ...,
        settings: GlideSettings | None = ...,
        stages: Literal[True],
        on_tick: Callable[[Tick], None] | None = ...,
    ) -> Iterator[GlideStage]: ...

    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = 1,
        size: int | None = None,
        seed: int = 0,
        settings: GlideSettings | None = None,
        stages: bool = False,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> list[Image.Image] | Iterator[GlideStage]:
        """Paint `count` pictures of each prompt, prompt by prompt, in order; `size` is one of `sizes`.

        Picture k is what picture 0 of the seed `seed` + k would be: neighbours change no more than the last
        bit of a sum. With `stages`, yields Read, Drawn and (at the larger size) Enlarged instead, for up to
        16 pictures and then for the next. `on_tick` hears of every step.
        Raises ValueError, before any work is done, for what cannot be painted.
        """
        side = self._side(size)
        wanted = commissions(prompts, count=count, seed=seed)
        passed = self.paint_each(wanted, size=side, settings=settings, on_tick=on_tick)
        if stages:
            return passed
        return _finished(passed, side)

    def paint_each(
        self,
        wanted: Sequence[Commission],
        *,
        size: int | None = None,
        settings: GlideSettings | None = None,
        on_tick: Callable[[Tick], None] | None = None,
        on_sketch: OnSketch | None = None,
    ) -> Iterator[GlideStage]:
        """As `paint` with `stages`, of pictures that have words and a seed each of their own.

        `on_sketch` sees the small pictures at every step on their way.
        """
        chosen = settings or self.usual
        self._check([commission.prompt for commission in wanted], chosen)
        return self._stages(wanted, self._side(size), chosen, on_tick, on_sketch=on_sketch)

    def inpaint(
        self,
        image: Image.Image,
        mask: Image.Image,
        prompt: str,
        *,
        count: int = 1,
        size: int | None = None,
        seed: int = 0,
        settings: GlideSettings | None = None,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> list[Image.Image]:
        """Paint `image` anew where `mask` is white, so that the whole is a picture of `prompt`; section 2.4.

        `mask`: as large as `image`, mode "L", above 127 where to paint. Transparent pictures are seen on
        white, squared with margins and brought to the larger of `sizes`; there the known pixels come back
        exactly, and a pixel of which any part was to be painted is. Raises ValueError for networks that do
        not mend, and as `paint` does.
        """
        stages = self.inpaint_stages(
            image, mask, prompt, count=count, size=size, seed=seed, settings=settings, on_tick=on_tick
        )
        return _finished(stages, self._side(size))

    def inpaint_stages(
        self,
        image: Image.Image,
        mask: Image.Image,
        prompt: str,
        *,
        count: int = 1,
        size: int | None = None,
        seed: int = 0,
        settings: GlideSettings | None = None,
        on_tick: Callable[[Tick], None] | None = None,
        on_sketch: OnSketch | None = None,
    ) -> Iterator[GlideStage]:
        """The same, handing out what each step made, as `paint` does with `stages`.

        `on_sketch` sees the small pictures at every step on their way.
        """
        if self.mender is not None:
            return self.mending.inpaint_stages(
                image,
                mask,
                prompt,
                count=count,
                size=size,
                seed=seed,
                settings=settings,
                on_tick=on_tick,
                on_sketch=on_sketch,
            )
        chosen, side, wanted = self._asked(prompt, count, size, seed, settings)
        for name, network in (("base", self.base), ("upsampler", self.upsampler)):
            if not network.config.inpaint:
                raise ValueError(f"{name} is a network that paints and does not mend: load one that does")
        kept = known_of(upright(image), mask, self.sizes[1]).to(self.device)
        return self._stages(wanted, side, chosen, on_tick, known=kept, on_sketch=on_sketch)

    def redraw(
        self,
        image: Image.Image,
        prompt: str,
        *,
        strength: float,
        count: int = 1,
        size: int | None = None,
        seed: int = 0,
        settings: GlideSettings | None = None,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> list[Image.Image]:
        """Noise `image` to the share `strength` of all noise levels and paint it anew from there (SDEdit).

        1 forgets the picture, little keeps almost all of it; so much of the steps is walked. Transparent
        pictures are seen on white, squared with margins. Raises ValueError as `paint` does, and for a
        strength outside (0, 1].
        """
        stages = self.redraw_stages(
            image,
            prompt,
            strength=strength,
            count=count,
            size=size,
            seed=seed,
            settings=settings,
            on_tick=on_tick,
        )
        return _finished(stages, self._side(size))

    def redraw_stages(
        self,
        image: Image.Image,
        prompt: str,
        *,
        strength: float,
        count: int = 1,
        size: int | None = None,
        seed: int = 0,
        settings: GlideSettings | None = None,
        on_tick: Callable[[Tick], None] | None = None,
        on_sketch: OnSketch | None = None,
    ) -> Iterator[GlideStage]:
        """The same, handing out what each step made, as `paint` does with `stages`.

        `on_sketch` sees the small pictures at every step on their way.
        """
        chosen, side, wanted = self._asked(prompt, count, size, seed, settings)
        checked_strength(strength)
        begun = Begun(seen([upright(image)], self.sizes[0]).to(self.device), strength)
        return self._stages(wanted, side, chosen, on_tick, begun=begun, on_sketch=on_sketch)

    def metadata(self, commission: Commission, *, size: int, settings: GlideSettings) -> dict[str, str]:
        """What a picture's file says about how it was painted."""
        return {
            "prompt": commission.prompt,
            "seed": str(commission.seed),
            "model": "glide",
            "weights": self.digest,
            "settings": json.dumps({"size": size, "precision": self.precision, **settings.described()}),
            # A compiled network adds its sums up in another order.
            **({"compiled": "yes"} if self.compiled else {}),
            "limner": __version__,
        }

    @torch.inference_mode()
    def read(self, wanted: Sequence[Commission]) -> Read:
        """Words → ids of the base's vocabulary, `PADDING` behind the caption's end."""
        prompts = [commission.prompt for commission in wanted]
        told_of_unknown(self.base_tokenizer, list(dict.fromkeys(prompts)))
        ids = self.base_tokenizer(prompts, self.base.config.text.context).to(self.device)
        return Read(commissions=tuple(wanted), ids=ids)

    @torch.inference_mode()
    def draw(
        self,
        read: Read,
        settings: GlideSettings,
        *,
        known: Kept | None = None,
        begun: "Begun | None" = None,
        advance: Callable[[int], None] = _silently,
        on_sketch: OnSketch | None = None,
    ) -> Drawn:
        """Base: words → a small picture, around what is `known` or from where it was `begun`.

        `on_sketch` sees the picture at every step.
        """
        base, wanted = self.base, read.commissions
        spec, side = base.config.diffusion, base.config.resolution
        guidance, clip_guidance = settings.scales
        draws = Draws([mix(c.seed, "base") for c in wanted], device=self.device)
        caption = self._caption(base, read.ids, guidance, self._avoided(read.ids, settings))
        around = None if known is None else known.at(side).of(len(wanted))
        seen_twice = None if around is None else around.of(len(sides(guidance)) * len(wanted)).known

        def network(x: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
            return base.predict(x, t, caption=caption, known=seen_twice)

        start, levels, steps = draws.normal(3, side, side), spec.levels(), settings.steps
        if begun is not None:
            noisiest = max(1, round(begun.strength * spec.steps))
            levels = levels.take(range(noisiest))
            steps = min(noisiest, max(1, round(begun.strength * settings.steps)))
            signal = levels.alpha_bar[-1].item()
            start = signal**0.5 * begun.pictures + (1 - signal) ** 0.5 * start
        pictures = sample(
            network,
            spec,
            start,
            draws,
            sampler=settings.sampler,
            steps=steps,
            scales=scales(guidance),
            bounds=_bounds(around),
            advance=lambda: advance(len(wanted)),
            steer=self._steer(wanted, clip_guidance),
            levels=levels,
            look=sketching(wanted, on_sketch),
        )
        return Drawn(commissions=wanted, pictures=pictures.clamp(-1, 1))

    @torch.inference_mode()
    def enlarge(
        self,
        drawn: Drawn,
        settings: GlideSettings,
        *,
        known: Kept | None = None,
        advance: Callable[[int], None] = _silently,
    ) -> Enlarged:
        """Upsampler: small picture, rounded as a file would hold it, and words → large; not guided."""
        finished = []
        for start in range(0, len(drawn.commissions), ENLARGED_AT_ONCE):
            rows = slice(start, start + ENLARGED_AT_ONCE)
            few = Drawn(commissions=drawn.commissions[rows], pictures=drawn.pictures[rows])
            finished.append(self._enlarged(few, settings, known, advance))
        return Enlarged(commissions=drawn.commissions, pictures=torch.cat(finished))

    def _enlarged(
        self,
        drawn: Drawn,
        settings: GlideSettings,
        known: Kept | None,
        advance: Callable[[int], None],
    ) -> Float[Tensor, "b 3 h w"]:
        upsampler, wanted = self.upsampler, drawn.commissions
        side = upsampler.config.resolution
        draws = Draws([mix(c.seed, "upsampler") for c in wanted], device=self.device)
        prompts = [commission.prompt for commission in wanted]
        ids = self.upsampler_tokenizer(prompts, upsampler.config.text.context).to(self.device)
        caption = self._caption(upsampler, ids, 1.0, torch.full_like(ids, PADDING))
        low = eight_bit(drawn.pictures)
        around = None if known is None else known.of(len(wanted))

        def network(x: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
            beside = None if around is None else around.known
            return upsampler.predict(x, t, caption=caption, low=low, known=beside)

        large = sample(
            network,
            upsampler.config.diffusion,
            settings.upsampler_temperature * draws.normal(3, side, side),
            draws,
            sampler=settings.upsampler_sampler,
            steps=settings.upsampler_steps,
            scales=(),
            bounds=_bounds(around),
            advance=lambda: advance(len(wanted)),
        )
        return large.clamp(-1, 1)

    def _caption(
        self, network: Network, ids: Int[Tensor, "b l"], guidance: float, avoided: Int[Tensor, "b l"]
    ) -> Caption:
        """Every caption read once: its words, what is avoided, or both in this order, as guidance asks."""
        return network.read(*read_ids(torch.cat([ids if side else avoided for side in sides(guidance)])))

    def _avoided(self, ids: Int[Tensor, "b l"], settings: GlideSettings) -> Int[Tensor, "b l"]:
        """What the base reads on the side without the words: nothing, or the negative prompt."""
        if settings.negative_prompt == "":
            return torch.full_like(ids, PADDING)
        told_of_unknown(self.base_tokenizer, [settings.negative_prompt])
        return self.base_tokenizer([settings.negative_prompt], ids.shape[1]).to(ids.device).expand_as(ids)

    def _steer(self, wanted: Sequence[Commission], scale: float) -> Steer | None:
        """Where noised CLIP would have a picture of these words go."""
        if scale == 0 or self.clip is None:
            return None
        prompts = [commission.prompt for commission in wanted]
        ids = self.clip_tokenizer(prompts, self.clip.config.text.context).to(self.device)
        return toward_caption(self.clip, self.clip.encode_text(ids).pooled, scale)

    def _stages(
        self,
        wanted: Sequence[Commission],
        size: int,
        settings: GlideSettings,
        on_tick: Callable[[Tick], None] | None,
        *,
        known: Kept | None = None,
        begun: "Begun | None" = None,
        on_sketch: OnSketch | None = None,
    ) -> Iterator[GlideStage]:
        """Every stage of the first few pictures, then of the next few."""
        enlarging = size != self.sizes[0]
        share = 1.0 if begun is None else begun.strength
        steps = max(1, round(share * settings.steps)) + (settings.upsampler_evaluations if enlarging else 0)
        clock = Clock(len(wanted) * steps, on_tick)
        for start in range(0, len(wanted), DRAWN_AT_ONCE):
            read = self.read(wanted[start : start + DRAWN_AT_ONCE])
            yield read
            drawn = self.draw(
                read,
                settings,
                known=known,
                begun=begun,
                advance=clock.during("drawing"),
                on_sketch=on_sketch,
            )
            yield drawn
            if enlarging:
                yield self.enlarge(drawn, settings, known=known, advance=clock.during("enlarging"))

    def _asked(
        self,
        prompts: str | Sequence[str],
        count: int,
        size: int | None,
        seed: int,
        settings: GlideSettings | None,
    ) -> tuple[GlideSettings, int, tuple[Commission, ...]]:
        """What is wanted, or ValueError for what cannot be painted."""
        chosen, side = settings or self.usual, self._side(size)
        wanted = commissions(prompts, count=count, seed=seed)
        self._check(prompts, chosen)
        return chosen, side, wanted

    def _check(self, prompts: str | Sequence[str], settings: GlideSettings) -> None:
        """Refuse words that cleaning empties, and what these weights cannot do."""
        checked_words(prompts)
        if settings.negative_prompt != "":
            checked_words(settings.negative_prompt, "negative_prompt")
        self._check_steps(settings)
        if settings.scales[1] and self.clip is None:
            raise ValueError(
                f"guidance_kind is '{settings.guidance_kind}', and these weights have no noised CLIP to "
                "guide: put both of its files beside them, or choose classifier-free"
            )

    def _side(self, size: int | None) -> int:
        if size is None:
            return self.sizes[1]
        checked_size(size, self.sizes)
        return size

    def _check_steps(self, settings: GlideSettings) -> None:
        for name, steps, network in (
            ("steps", settings.steps, self.base),
            ("upsampler_steps", settings.upsampler_evaluations, self.upsampler),
        ):
            if steps > network.config.diffusion.steps:
                raise ValueError(
                    f"{name} is {steps}: these weights know {network.config.diffusion.steps}, so give at "
                    "most that"
                )


@dataclass(frozen=True)
class Begun:
    """A picture (1, 3, S, S) to begin with, and the share of all noise levels that it is noised to."""

    pictures: Float[Tensor, "1 3 s s"]
    strength: float


def _chosen(parts: OwnParts | ReleasedParts, name: str, mends: bool) -> str:
    """The base or the upsampler that mends, or that does not, and the other one where there is but one."""
    first, other = (name + MENDING, name) if mends else (name, name + MENDING)
    return first if first in parts.names else other


def _bounds(around: Kept | None) -> Callable[[Denoiser], Denoiser]:
    """x̂_0 within the range of pixels, what is known in its place, and what is not joined to it."""
    if around is None:
        return within_pixels

    def bounded(denoise: Denoiser) -> Denoiser:
        joined = seamless(denoise, around.pictures, around.mask)
        return held(within_pixels(joined), around.pictures, around.mask)

    return bounded


def _finished(stages: Iterator[GlideStage], side: int) -> list[Image.Image]:
    """The pictures of the last stage that makes any."""
    return [
        image
        for stage in stages
        if isinstance(stage, Drawn | Enlarged) and stage.pictures.shape[-1] == side
        for image in stage.images()
    ]
