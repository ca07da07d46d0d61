"""DALL-E 2, also called unCLIP: words → a place in CLIP's space → a small picture → a large one.

Ramesh et al. 2022, "Hierarchical Text-Conditional Image Generation with CLIP Latents", figure 2. The methods
of `Dalle2` are that figure from left to right, `understand`, `imagine`, `draw`, `enlarge`, `enlarge_again`,
and `paint` is the whole.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner import __version__
from limner.autoregression import Sampling
from limner.clip import Clip, TextWithProjection, unit
from limner.dalle2 import prior_autoregressive
from limner.dalle2.decoder import ClipTextConfig, ClipTokens, Decoder
from limner.dalle2.objective import clip_reader
from limner.dalle2.prior_autoregressive import AutoregressivePrior
from limner.dalle2.prior_diffusion import Prior
from limner.dalle2.upsampler import Upsampler
from limner.diffusion.guidance import clipped
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.pipelines import conditions
from limner.pipelines.dalle2_parts import OTHER, SECOND, parts_at
from limner.pipelines.devices import device_named
from limner.pipelines.progress import Clock, Tick
from limner.pipelines.sampling import sample, scales, sides, unbounded, within_pixels
from limner.pipelines.settings import (
    UNCLIP,
    UNCLIP_AS_RELEASED,
    Commission,
    PaintSettings,
    Precision,
    Sampler,
    checked_size,
    commissions,
)
from limner.pipelines.stages import (
    Drawn,
    Enlarged,
    EnlargedAgain,
    Imagined,
    OnSketch,
    Stage,
    Understood,
    eight_bit,
    sketching,
)
from limner.pipelines.words import checked_words, told_of_unknown
from limner.text import ClipTokenizer

# How many pictures are in work at once, so that memory stays bounded whatever is asked for. An enlarged
# picture takes sixteen times as much as a drawn one, and one that is enlarged again goes alone.
DRAWN_AT_ONCE = 16
ENLARGED_AT_ONCE = 4


def _silently(_: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class Dalle2:
    """The networks, the tokenizer, the `digest` of all weights, and the arithmetic of the U-Nets.

    `upsampler_1024` and `prior_autoregressive` are None where nobody has trained them; pictures then end at
    the size of the first upsampler, and the diffusion prior alone imagines. `prior` is None where an unCLIP
    came without, to vary pictures with; `clip` a text tower alone where it came to paint words with.
    """

    clip: Clip | TextWithProjection
    prior: Prior | None
    decoder: Decoder
    upsampler: Upsampler
    tokenizer: ClipTokenizer
    digest: str
    upsampler_1024: Upsampler | None = None
    prior_autoregressive: AutoregressivePrior | None = None
    precision: Precision = "fp32"
    compiled: bool = False

    def __post_init__(self) -> None:
        """Refuse parts that were not trained for one another."""
        clip, decoder = self.clip.config, self.decoder.config
        if not isinstance(decoder.text, ClipTextConfig):
            raise LimnerError("this decoder reads captions by itself: give one that reads them through CLIP")
        imagines: tuple[tuple[str, object, object], ...] = ()
        if self.prior is not None:
            prior = self.prior.config
            imagines = (
                ("prior's embedding", prior.embedding, clip.embedding),
                ("prior's text_width", prior.text_width, clip.text.width),
                # A prior may have places for longer captions than CLIP reads (256 and 77 in the paper).
                ("prior's context", min(prior.context, clip.text.context), clip.text.context),
                ("prior's whitened", prior.whitened, decoder.raw),
            )
        for name, given, wanted in (
            *imagines,
            ("decoder's embedding", decoder.embedding, clip.embedding),
            ("decoder's text.width", decoder.text.width, clip.text.width),
            ("decoder's text.embedding", decoder.text.embedding, clip.embedding),
            ("upsampler's low", self.upsampler.config.low, decoder.resolution),
        ):
            if given != wanted:
                raise LimnerError(
                    f"these parts do not belong together: the {name} is {given} where {wanted} is needed; "
                    "take all four from one training"
                )
        if self.prior_autoregressive is not None:
            other = self.prior_autoregressive.config
            for name, given, wanted in (
                ("embedding", other.embedding, clip.embedding),
                ("text_width", other.text_width, clip.text.width),
                ("context", min(other.context, clip.text.context), clip.text.context),
            ):
                if given != wanted:
                    raise LimnerError(
                        f"these parts do not belong together: the autoregressive prior's {name} is {given} "
                        f"where {wanted} is needed; take it from a training on the same CLIP"
                    )
        second = self.upsampler_1024
        if second is not None and second.config.low != self.upsampler.config.high:
            raise LimnerError(
                f"these parts do not belong together: the second upsampler's low is {second.config.low} "
                f"where {self.upsampler.config.high} is needed; take both from one line"
            )

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "cpu", precision: Precision = "fp32", compile: bool = False
    ) -> "Dalle2":
        """Read what lies in `folder`, as float32: a line of limner's own, or an unCLIP as others keep it.

        The first has {clip, prior, decoder, upsampler}, each a checkpoint folder, and maybe upsampler_1024
        and prior_autoregressive; the second is Karlo's files, or a folder of diffusers, or what `limner
        convert` made of them, where text_encoder may stand for clip, and prior be missing. `precision` "bf16"
        lets the U-Nets multiply in bfloat16; with `compile`, PyTorch's compiler fuses them at their first
        steps. Raises ValueError for a device that is not there, LimnerError, naming the file, for weights
        that are missing, damaged or of different families.
        """
        parts = parts_at(folder, device_named(device))
        painter = cls(
            clip=parts.clip,
            prior=parts.prior,
            decoder=parts.decoder,
            upsampler=parts.upsampler,
            upsampler_1024=parts.upsampler_1024,
            prior_autoregressive=parts.prior_autoregressive,
            tokenizer=parts.tokenizer,
            digest=parts.digest,
            precision=precision,
            compiled=compile,
        )
        if compile:
            painter.compile()
        return painter

    def compile(self) -> None:
        """Have PyTorch's compiler fuse the U-Nets at their first steps."""
        second = () if self.upsampler_1024 is None else self.upsampler_1024.unets
        for unet in (self.decoder.unet, *self.upsampler.unets, *second):
            unet.compile()

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.decoder.null.device

    @property
    def seeing(self) -> Clip:
        """CLIP with its picture tower; LimnerError where there is none."""
        if not isinstance(self.clip, Clip):
            raise LimnerError(
                "this painter reads words and does not look at pictures: its CLIP came without the picture "
                "tower, so give weights that have it"
            )
        return self.clip

    @property
    def usual(self) -> PaintSettings:
        """What it is painted with unless somebody says otherwise; Karlo's kind by Karlo's own steps."""
        return UNCLIP_AS_RELEASED if self.decoder.config.raw else UNCLIP

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels a side of what is drawn, enlarged, and enlarged again: 64, 256 and 1024 in the paper."""
        second = () if self.upsampler_1024 is None else (self.upsampler_1024.config.high,)
        return self.decoder.config.resolution, self.upsampler.config.high, *second

    @overload
    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = ...,
        size: int | None = ...,
        seed: int = ...,
        settings: PaintSettings | None = ...,
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
        settings: PaintSettings | None = ...,
        stages: Literal[True],
        on_tick: Callable[[Tick], None] | None = ...,
    ) -> Iterator[Stage]: ...

    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = 1,
        size: int | None = None,
        seed: int = 0,
        settings: PaintSettings | None = None,
        stages: bool = False,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> list[Image.Image] | Iterator[Stage]:
        """Paint `count` pictures of each prompt, prompt by prompt, in order; `size` is one of `sizes`, by
        default the second.

        Picture k is what picture 0 of the seed `seed` + k would be: neighbours change no more than the last
        bit of a sum. With `stages`, yields Understood, Imagined, Drawn and (at the larger sizes) Enlarged and
        EnlargedAgain instead, for up to 16 pictures and then for the next. `on_tick` hears of every step.
        Raises ValueError, before any work is done, for what cannot be painted.
        """
        side = self.sizes[1] if size is None else size
        checked_size(side, self.sizes)
        wanted = commissions(prompts, count=count, seed=seed)
        passed = self.paint_each(wanted, size=size, settings=settings, on_tick=on_tick)
        if stages:
            return passed
        last = (Drawn, Enlarged, EnlargedAgain)[self.sizes.index(side)]
        return [image for stage in passed if isinstance(stage, last) for image in stage.images()]

    def paint_each(
        self,
        wanted: Sequence[Commission],
        *,
        size: int | None = None,
        settings: PaintSettings | None = None,
        on_tick: Callable[[Tick], None] | None = None,
        on_sketch: OnSketch | None = None,
    ) -> Iterator[Stage]:
        """As `paint` with `stages`, of pictures that have words and a seed each of their own.

        `on_sketch` sees the small pictures at every step on their way.
        """
        chosen = settings or self.usual
        side = self.sizes[1] if size is None else size
        checked_size(side, self.sizes)
        checked_words([commission.prompt for commission in wanted])
        if chosen.negative_prompt != "":
            checked_words(chosen.negative_prompt, "negative_prompt")
        self._check_steps(chosen)
        if chosen.imagining == "diffusion":
            self.checked_prior()
        if chosen.prior == "autoregressive":
            self._checked_other()
        if chosen.tile is not None:
            self._check_tile(chosen.tile, side)
        return self._stages(wanted, side, chosen, on_tick, on_sketch)

    def metadata(self, commission: Commission, *, size: int, settings: PaintSettings) -> dict[str, str]:
        """What a picture's file says about how it was painted."""
        return {
            "prompt": commission.prompt,
            "seed": str(commission.seed),
            "model": "dalle2",
            "weights": self.digest,
            "settings": json.dumps({"size": size, "precision": self.precision, **settings.described()}),
            # A compiled network adds its sums up in another order.
            **({"compiled": "yes"} if self.compiled else {}),
            "limner": __version__,
        }

    @torch.inference_mode()
    def understand(self, wanted: Sequence[Commission]) -> Understood:
        """Words → ids → what CLIP's text tower makes of them: its tokens, and z_t."""
        context = self.clip.config.text.context
        prompts = list(dict.fromkeys(commission.prompt for commission in wanted))
        told_of_unknown(self.tokenizer, prompts)
        ids = torch.cat([self.tokenizer(prompts, context), self.tokenizer([""], context)]).to(self.device)
        read = clip_reader(self.clip, raw=self.decoder.config.raw)(ids)
        rows = torch.tensor([prompts.index(commission.prompt) for commission in wanted], device=self.device)
        return Understood(
            commissions=tuple(wanted),
            ids=ids[rows],
            caption=_rows(read, rows),
            empty=_rows(read, torch.full_like(rows, len(prompts))),
        )

    @torch.inference_mode()
    def imagine(
        self,
        understood: Understood,
        settings: PaintSettings,
        *,
        advance: Callable[[int], None] = _silently,
    ) -> Imagined:
        """Prior: words → candidates for z_i, of which the one nearest to z_t is kept; section 2.2.

        Without a prior, z_t itself, the paper's ablation; also where the decoder is not told z_i, so that
        nobody reads it. Raises ValueError for a prior that is not there.
        """
        wanted = understood.commissions
        if settings.imagining == "none":
            candidates = rearrange(understood.embedding, "b d -> b 1 d")
            advance(len(wanted))
        else:
            by = self._by_diffusion if settings.imagining == "diffusion" else self._by_codes
            each = settings.prior_candidates
            candidates = rearrange(by(understood, settings, advance), "(b c) d -> b c d", c=each)
        scores = (unit(candidates) * rearrange(unit(understood.embedding), "b d -> b 1 d")).sum(dim=-1)
        best = scores.argmax(dim=1)
        kept = candidates[torch.arange(len(wanted), device=self.device), best]
        return Imagined(commissions=wanted, embeddings=kept, candidates=candidates, scores=scores)

    def _by_diffusion(
        self, understood: Understood, settings: PaintSettings, advance: Callable[[int], None]
    ) -> Float[Tensor, "b d"]:
        """Every commission's candidates, one after the other, as CLIP would have them."""
        prior, wanted, each = self.checked_prior(), understood.commissions, settings.prior_candidates
        bound = prior.config.bound
        draws = Draws([mix(c.seed, "prior", i) for c in wanted for i in range(each)], device=self.device)
        read = self._prior_reads(understood, settings)
        z = sample(
            lambda x, t: prior(x, t, tokens=read.tokens, caption=read.embedding, mask=read.mask),
            prior.config.diffusion,
            draws.normal(prior.config.embedding),
            draws,
            sampler=settings.prior_sampler,
            steps=settings.prior_steps,
            scales=scales(settings.prior_guidance),
            bounds=unbounded if bound is None else lambda denoise: clipped(denoise, bound),
            variance=prior.variance,
            advance=lambda: advance(len(wanted)),
        )
        return prior.embeddings(z)

    def _by_codes(
        self, understood: Understood, settings: PaintSettings, advance: Callable[[int], None]
    ) -> Float[Tensor, "b d"]:
        """The same by the autoregressive prior."""
        wanted, each = understood.commissions, settings.prior_candidates
        draws = Draws([mix(c.seed, OTHER, i) for c in wanted for i in range(each)], device=self.device)
        return prior_autoregressive.sample(
            self._checked_other(),
            self._prior_reads(understood, settings),
            draws,
            guidance=settings.prior_guidance,
            sampling=Sampling(),
            on_code=lambda: advance(len(wanted)),
        )

    def _prior_reads(self, understood: Understood, settings: PaintSettings) -> ClipTokens:
        """Every commission's caption once for each candidate, and what is avoided, as the guidance asks."""
        avoided, each = self._avoided(understood, settings), settings.prior_candidates
        rows = repeat(torch.arange(len(understood.ids), device=self.device), "b -> (b c)", c=each)
        asked = [understood.caption if words else avoided for words in sides(settings.prior_guidance)]
        return _joined([_rows(side, rows) for side in asked])

    def _avoided(self, understood: Understood, settings: PaintSettings) -> ClipTokens:
        """What a side that is told nothing reads: the empty caption, or the negative prompt."""
        if settings.negative_prompt == "":
            return understood.empty
        told_of_unknown(self.tokenizer, [settings.negative_prompt])
        ids = self.tokenizer([settings.negative_prompt], understood.ids.shape[1]).to(self.device)
        read = clip_reader(self.clip, raw=self.decoder.config.raw)(ids)
        return _rows(read, torch.zeros_like(understood.ids[:, 0]))

    def checked_prior(self) -> Prior:
        """The diffusion prior; ValueError where these weights have none."""
        if self.prior is None:
            raise ValueError(
                "prior is 'diffusion': these weights have none, so vary a picture, or choose prior none"
            )
        return self.prior

    def _checked_other(self) -> AutoregressivePrior:
        if self.prior_autoregressive is None:
            raise ValueError(
                "prior is 'autoregressive': these weights have none, so choose diffusion or none"
            )
        return self.prior_autoregressive

    def _imagining(self, settings: PaintSettings) -> int:
        """How many steps the prior takes."""
        if settings.imagining == "none":
            return 1
        return (
            self._checked_other().config.components
            if settings.imagining == "autoregressive"
            else settings.prior_steps
        )

    @torch.inference_mode()
    def draw(
        self,
        understood: Understood,
        imagined: Imagined,
        settings: PaintSettings,
        *,
        advance: Callable[[int], None] = _silently,
        on_sketch: OnSketch | None = None,
    ) -> Drawn:
        """Decoder: z_i and the words → small picture; section 2.1. Guidance is away from having neither.

        Of the two it is told what `settings.condition` says. `on_sketch` sees the picture at every step.
        """
        decoder, wanted = self.decoder, understood.commissions
        side = decoder.config.resolution
        draws = Draws([mix(c.seed, "decoder") for c in wanted], device=self.device)
        told, leading = conditions.sides(settings.condition, settings.guidance, settings.text_guidance)
        # A side that is told the picture alone is no less told something, and reads the empty caption.
        without = {True: understood.empty, False: self._avoided(understood, settings)}
        read = _joined([understood.caption if side.words else without[side.embedding] for side in told])
        picture = repeat(decoder.told(imagined.embeddings), "b d -> (s b) d", s=len(told))
        keep = torch.tensor([side.embedding for side in told], device=self.device)
        keep = repeat(keep, "s -> (s b)", b=len(wanted))

        def network(x: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
            with self._arithmetic():
                return decoder(x, t, picture=picture, keep_picture=keep, caption=read)

        pictures = sample(
            network,
            decoder.config.diffusion,
            draws.normal(3, side, side),
            draws,
            sampler=settings.sampler,
            steps=settings.steps,
            scales=leading,
            bounds=within_pixels,
            advance=lambda: advance(len(wanted)),
            look=sketching(wanted, on_sketch),
        )
        return Drawn(commissions=wanted, pictures=pictures.clamp(-1, 1))

    @torch.inference_mode()
    def enlarge(
        self, drawn: Drawn, settings: PaintSettings, *, advance: Callable[[int], None] = _silently
    ) -> Enlarged:
        """Upsampler: small picture, rounded as a file would hold it (not Karlo's), → large; no words."""
        finished = []
        for start in range(0, len(drawn.commissions), ENLARGED_AT_ONCE):
            rows = slice(start, start + ENLARGED_AT_ONCE)
            draws = Draws([mix(c.seed, "upsampler") for c in drawn.commissions[rows]], device=self.device)
            larger = self._enlarged(
                self.upsampler,
                drawn.pictures[rows],
                draws,
                sampler=settings.upsampler_sampler,
                steps=settings.upsampler_steps,
                tile=None,
                advance=advance,
            )
            finished.append(larger)
        return Enlarged(commissions=drawn.commissions, pictures=torch.cat(finished))

    @torch.inference_mode()
    def enlarge_again(
        self, enlarged: Enlarged, settings: PaintSettings, *, advance: Callable[[int], None] = _silently
    ) -> EnlargedAgain:
        """Second upsampler: large picture, rounded, → larger; one after the other, in tiles where asked for.

        Raises ValueError where there is no second upsampler.
        """
        if self.upsampler_1024 is None:
            raise ValueError("upsampler_1024 is None: these weights have no second upsampler")
        finished = []
        for picture, commission in zip(enlarged.pictures, enlarged.commissions, strict=True):
            larger = self._enlarged(
                self.upsampler_1024,
                picture[None],
                Draws([mix(commission.seed, SECOND)], device=self.device),
                sampler=settings.upsampler_1024_sampler,
                steps=settings.upsampler_1024_steps,
                tile=settings.tile,
                advance=advance,
            )
            finished.append(larger)
        return EnlargedAgain(commissions=enlarged.commissions, pictures=torch.cat(finished))

    def _enlarged(
        self,
        upsampler: Upsampler,
        pictures: Float[Tensor, "b 3 h w"],
        draws: Draws,
        *,
        sampler: Sampler,
        steps: int,
        tile: int | None,
        advance: Callable[[int], None],
    ) -> Float[Tensor, "b 3 h2 w2"]:
        side = upsampler.config.high
        low = given(upsampler, pictures)

        def network(x: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
            with self._arithmetic():
                return upsampler(x, t, low=low, tile=tile)

        large = sample(
            network,
            upsampler.config.diffusion,
            draws.normal(3, side, side),
            draws,
            sampler=sampler,
            steps=steps,
            scales=(),
            bounds=within_pixels,
            advance=lambda: advance(len(pictures)),
        )
        return large.clamp(-1, 1)

    def _stages(
        self,
        wanted: Sequence[Commission],
        size: int,
        settings: PaintSettings,
        on_tick: Callable[[Tick], None] | None,
        on_sketch: OnSketch | None,
    ) -> Iterator[Stage]:
        """Every stage of the first few pictures, then of the next few."""
        times = self.sizes.index(size)
        enlarging = (settings.upsampler_steps, settings.upsampler_1024_steps)[:times]
        each = self._imagining(settings) + settings.steps + sum(enlarging)
        clock = Clock(len(wanted) * each, on_tick)
        for start in range(0, len(wanted), DRAWN_AT_ONCE):
            understood = self.understand(wanted[start : start + DRAWN_AT_ONCE])
            yield understood
            imagined = self.imagine(understood, settings, advance=clock.during("imagining"))
            yield imagined
            drawn = self.draw(
                understood, imagined, settings, advance=clock.during("drawing"), on_sketch=on_sketch
            )
            yield drawn
            if times:
                enlarged = self.enlarge(drawn, settings, advance=clock.during("enlarging"))
                yield enlarged
            if times > 1:
                yield self.enlarge_again(enlarged, settings, advance=clock.during("enlarging again"))

    def _check_tile(self, tile: int, side: int) -> None:
        if self.upsampler_1024 is None or side != self.upsampler_1024.config.high:
            raise ValueError(f"tile is {tile}: it is for the second upsampler alone, so leave it out")
        self.upsampler_1024.check_tile(tile)

    def _check_steps(self, settings: PaintSettings) -> None:
        second = self.upsampler if self.upsampler_1024 is None else self.upsampler_1024
        prior = self.decoder if self.prior is None else self.prior
        for name, steps, spec in (
            ("prior_steps", settings.prior_steps, prior.config.diffusion),
            ("steps", settings.steps, self.decoder.config.diffusion),
            ("upsampler_steps", settings.upsampler_steps, self.upsampler.config.diffusion),
            ("upsampler_1024_steps", settings.upsampler_1024_steps, second.config.diffusion),
        ):
            if steps > spec.steps:
                raise ValueError(f"{name} is {steps}: these weights know {spec.steps}, so give at most that")

    def _arithmetic(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def given(upsampler: Upsampler, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Small pictures as the upsampler is given them: mostly as a file would hold them."""
    return eight_bit(pictures) if upsampler.config.rounded else pictures


def _rows(read: ClipTokens, rows: Tensor) -> ClipTokens:
    return ClipTokens(read.tokens[rows], read.embedding[rows], read.mask[rows])


def _joined(parts: Sequence[ClipTokens]) -> ClipTokens:
    """Captions of several sides, one side after the other; none is heard beyond its own length."""
    longest = max(part.mask.shape[1] for part in parts)
    missing = [longest - part.mask.shape[1] for part in parts]
    return ClipTokens(
        tokens=torch.cat([F.pad(p.tokens, (0, 0, 0, more)) for p, more in zip(parts, missing, strict=True)]),
        embedding=torch.cat([part.embedding for part in parts]),
        mask=torch.cat([F.pad(p.mask, (0, more)) for p, more in zip(parts, missing, strict=True)]),
    )
