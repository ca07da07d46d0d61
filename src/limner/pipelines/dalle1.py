"""DALL-E 1: words → a grid of tokens → a picture, many times, of which CLIP keeps the best.

Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation". The methods of `Dalle1` are the steps of
section 2.6, `read`, `write`, `develop`, `rank`, and `paint` is the whole. `stream` shows one picture while it
is written, `complete` goes on from the top of a picture that is there already.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import torch
from einops import rearrange, repeat
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from limner import __version__, checkpoint
from limner.autoregression import Sampling, shares
from limner.clip import Clip, ClipConfig
from limner.dalle1 import Dalle1 as Transformer
from limner.dalle1 import Dalle1Config, cache_bytes
from limner.dalle1 import stream as tokens_one_by_one
from limner.draws import Draws, mix
from limner.dvae import DVae, DVaeConfig
from limner.errors import LimnerError
from limner.pipelines.devices import device_named
from limner.pipelines.embedding import clip_folder
from limner.pipelines.loading import digest_of, loaded
from limner.pipelines.memory import MemoryWarning, free_bytes
from limner.pipelines.memory import at_once as bounded
from limner.pipelines.pictures import seen
from limner.pipelines.progress import Clock, Tick
from limner.pipelines.ranking import best
from limner.pipelines.sampling import sides
from limner.pipelines.settings import (
    Commission,
    TokenSettings,
    candidates_for,
    checked_keep,
    checked_size,
    commissions,
)
from limner.pipelines.stages import Developed, OnSketch, Partial, Ranked, Read, Sketch, TokenStage, Written
from limner.pipelines.words import checked_words, told_of_unknown
from limner.text import CaptionTokenizer, ClipTokenizer

# The parts of a line's folder; where it has no CLIP, the one that ships ranks.
PARTS = ("transformer", "dvae", "clip")
VOCABULARY = "bpe.json"
# How many pictures are in work at once, where memory allows; beyond this a CPU gains nothing.
WRITTEN_AT_ONCE = 32
DEVELOPED_AT_ONCE = 8
# Numbers that a layer holds for each position of the first pass, as a multiple of its width: the fused
# projection and the keys and values kept, or the hidden layer before and after its activation.
FIRST_PASS = 12


def _silently(_: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class Dalle1:
    """Transformer, dVAE and the CLIP that ranks, a tokenizer for each reader, the `digest` of them all."""

    transformer: Transformer
    dvae: DVae
    ranker: Clip
    ranker_tokenizer: ClipTokenizer
    tokenizer: CaptionTokenizer
    digest: str

    def __post_init__(self) -> None:
        """Refuse parts that were not trained for one another."""
        transformer, dvae = self.transformer.config, self.dvae.config
        # Few captions may hold fewer pairs worth a token than a vocabulary has room for.
        words = min(self.tokenizer.vocab_size, transformer.text_vocabulary)
        for name, given, wanted in (
            ("dvae's grid", dvae.grid, transformer.grid),
            ("dvae's vocabulary", dvae.vocabulary, transformer.image_vocabulary),
            ("tokenizer's vocab_size", self.tokenizer.vocab_size, words),
        ):
            if given != wanted:
                raise LimnerError(
                    f"these parts do not belong together: the {name} is {given} where {wanted} is needed; "
                    "take all of them from one training"
                )

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> "Dalle1":
        """Read `folder`/{transformer, dvae}, and `folder`/clip or else the CLIP that ships, as float32.

        Raises ValueError for a device that is not there, LimnerError, naming the file, for weights that are
        missing, damaged or of different families.
        """
        place = device_named(device)
        if not folder.is_dir():
            raise LimnerError(f"no weights at {folder}: give a folder that holds transformer and dvae")
        ranker = loaded(parts_of(folder)["clip"], ClipConfig, Clip, place)
        return cls(
            transformer=loaded(folder / "transformer", Dalle1Config, Transformer, place),
            dvae=loaded(folder / "dvae", DVaeConfig, DVae, place),
            ranker=ranker,
            ranker_tokenizer=ClipTokenizer(ranker.config.text.vocabulary),
            tokenizer=CaptionTokenizer.load(folder / "transformer" / VOCABULARY),
            digest=digest(folder),
        )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.ranker.log_scale.device

    @property
    def usual(self) -> TokenSettings:
        """How it paints unless somebody says otherwise."""
        return TokenSettings()

    @property
    def sizes(self) -> tuple[int]:
        """Pixels a side of what is painted: 256 in the paper."""
        return (self.dvae.config.resolution,)

    @overload
    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = ...,
        size: int | None = ...,
        seed: int = ...,
        settings: TokenSettings | None = ...,
        at_once: int | None = ...,
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
        settings: TokenSettings | None = ...,
        at_once: int | None = ...,
        stages: Literal[True],
        on_tick: Callable[[Tick], None] | None = ...,
    ) -> Iterator[TokenStage]: ...

    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = 1,
        size: int | None = None,
        seed: int = 0,
        settings: TokenSettings | None = None,
        at_once: int | None = None,
        stages: bool = False,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> list[Image.Image] | Iterator[TokenStage]:
        """The best `count` of `settings.candidates` pictures of each prompt, best first, prompt by prompt.

        Candidate k is what the seed `seed` + k paints alone: neighbours change no more than the last bit of a
        sum. `at_once`: how many are written together, by default as many as memory allows. With `stages`,
        yields Read, Written, Developed and Ranked instead, for a few prompts and then for the next. `on_tick`
        hears of every row of tokens. Raises ValueError, before any work is done, for what cannot be painted,
        or more at once than fits; LimnerError where memory holds not even one.
        """
        chosen = settings or self.usual
        if size is not None:
            checked_size(size, self.sizes)
        wanted = candidates_for(prompts, count=count, seed=seed, of=chosen.candidates)
        checked_words(prompts)
        self._tell_turns(len(wanted), chosen, at_once)
        each = count if chosen.candidates is None else chosen.candidates
        together = max(1, self.fitting(chosen, at_once) // each) * each
        clock = Clock(len(wanted) * (self.transformer.config.grid + 2), on_tick)
        passed = (
            stage
            for start in range(0, len(wanted), together)
            for stage in self._stages(
                wanted[start : start + together], chosen, count=count, each=each, at_once=at_once, clock=clock
            )
        )
        if stages:
            return passed
        return [image for stage in passed if isinstance(stage, Ranked) for image in stage.images()]

    def stream(
        self, prompt: str, *, seed: int = 0, settings: TokenSettings | None = None
    ) -> Iterator[Partial]:
        """One picture while it is painted: after each finished row of tokens, what is there of it.

        The last is the picture that `paint` makes of this seed. Raises ValueError, at once, for a prompt or
        seed that cannot be painted, and for settings that ask for a choice among several.
        """
        chosen = settings or self.usual
        if chosen.candidates not in (None, 1):
            raise ValueError(
                f"candidates is {chosen.candidates}: a stream is of one picture, so leave it out"
            )
        wanted = commissions(prompt, count=1, seed=seed)
        checked_words(prompt)
        read = self.read(wanted)
        return self._partials(read, chosen)

    def complete(
        self,
        image: Image.Image,
        prompt: str,
        *,
        keep: float,
        count: int = 1,
        seed: int = 0,
        settings: TokenSettings | None = None,
        at_once: int | None = None,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> Ranked:
        """The top of a picture kept and the rest painted anew: the best `count` of `settings.candidates`.

        `keep`: the share of the picture that is kept, to the nearest row of tokens; kept are its tokens, so
        it comes back as the dVAE remembers it. Any square picture, brought to this model's size; transparent
        ones are seen on white. Candidates and seeds as in `paint`. Section 3.3, image-to-image.
        Raises ValueError for a picture that is not square, and for a `keep` that leaves no row on one side.
        """
        chosen = settings or self.usual
        wanted = candidates_for([prompt], count=count, seed=seed, of=chosen.candidates)
        checked_words(prompt)
        self._tell_turns(len(wanted), chosen, at_once)
        kept = self.top(image, keep)
        grid = self.transformer.config.grid
        clock = Clock(len(wanted) * (grid - len(kept) + 2), on_tick)
        *_, last = self._stages(
            wanted, chosen, count=count, each=len(wanted), at_once=at_once, clock=clock, kept=kept
        )
        assert isinstance(last, Ranked)
        return last

    def metadata(self, commission: Commission, *, settings: TokenSettings, score: float) -> dict[str, str]:
        """What a picture's file says about how it was painted, and how well CLIP thinks of it.

        The seed is the candidate's own: alone, with these settings, it paints this picture again; what was
        completed, again below the same top.
        """
        (size,) = self.sizes
        several = {} if settings.candidates is None else {"candidates": str(settings.candidates)}
        return {
            "prompt": commission.prompt,
            "seed": str(commission.seed),
            "model": "dalle1",
            "weights": self.digest,
            "settings": json.dumps({"size": size, **settings.described()}),
            "score": f"{score:.4f}",
            **several,
            "limner": __version__,
        }

    def fitting(self, settings: TokenSettings, at_once: int | None = None) -> int:
        """How many pictures to write at once: `at_once` if that many fit into memory, else what does fit.

        Raises ValueError, saying how many fit, where more are asked for; LimnerError where not even one does.
        """
        each, free = self.bytes_each(settings), free_bytes(self.device)
        return bounded(at_once, most=WRITTEN_AT_ONCE, each=each, free=free)

    def _tell_turns(self, total: int, settings: TokenSettings, at_once: int | None) -> None:
        """Warn where memory, not choice, has pictures written in turns."""
        fit = self.fitting(settings, at_once)
        if at_once is None and fit < min(total, WRITTEN_AT_ONCE):
            warnings.warn(
                f"of {total} pictures {fit} fit into memory at once, so they are written in turns",
                MemoryWarning,
                stacklevel=3,
            )

    def bytes_each(self, settings: TokenSettings) -> int:
        """About the memory that a picture takes while it is written, besides the weights."""
        config, dtype = self.transformer.config, self.transformer.head.weight.dtype
        first_pass = FIRST_PASS * config.width * (config.text_context + config.image) * dtype.itemsize
        # With guidance every sequence is read twice, with its words and without.
        return len(sides(settings.guidance)) * (cache_bytes(config, dtype) + first_pass)

    def top(self, image: Image.Image, keep: float) -> Int[Tensor, "rows w"]:
        """The tokens of the top of a square picture, of which the share `keep` is kept."""
        checked_keep(keep)
        if image.width != image.height:
            raise ValueError(
                f"image is {image.width}×{image.height} pixels: give a square picture, such as "
                f"{self.sizes[0]}×{self.sizes[0]}"
            )
        grid = self.transformer.config.grid
        rows = round(keep * grid)
        if not 0 < rows < grid:
            left = "none is kept" if rows == 0 else "nothing is left to paint"
            raise ValueError(
                f"keep is {keep}: of {grid} rows of tokens {left}; give {1 / grid:.2g} to {1 - 1 / grid:.2g}"
            )
        return self.dvae.tokens(seen([image], self.sizes[0]).to(self.device))[0, :rows]

    @torch.inference_mode()
    def read(self, wanted: Sequence[Commission]) -> Read:
        """Words → ids. A caption too long for the transformer is cut, with one `CutCaptionWarning`."""
        prompts = list(dict.fromkeys(commission.prompt for commission in wanted))
        told_of_unknown(self.tokenizer, prompts)
        ids = self.tokenizer(prompts, self.transformer.config.caption).to(self.device)
        rows = [prompts.index(commission.prompt) for commission in wanted]
        return Read(commissions=tuple(wanted), ids=ids[rows])

    @torch.inference_mode()
    def write(
        self,
        read: Read,
        settings: TokenSettings,
        *,
        kept: Int[Tensor, "rows w"] | None = None,
        at_once: int | None = None,
        advance: Callable[[int], None] = _silently,
        on_sketch: OnSketch | None = None,
    ) -> Written:
        """Transformer: ids → a grid of image tokens each, below the rows that are `kept`.

        `on_sketch` sees the pictures after every row, which costs a pass of the dVAE each time.
        """
        chunk = self.fitting(settings, at_once)
        grids = []
        for start in range(0, len(read.commissions), chunk):
            part = slice(start, start + chunk)
            few = Read(commissions=read.commissions[part], ids=read.ids[part])
            rows = [] if kept is None else [repeat(row, "w -> b w", b=len(few.ids)) for row in kept]
            for row in self._rows(few, settings, kept):
                rows.append(row)
                advance(len(row))
                if on_sketch is not None:
                    on_sketch(self._sketch(few.commissions, torch.stack(rows, dim=1)))
            grids.append(torch.stack(rows, dim=1))
        return Written(commissions=read.commissions, tokens=torch.cat(grids))

    @torch.inference_mode()
    def develop(self, written: Written, *, advance: Callable[[int], None] = _silently) -> Developed:
        """The dVAE's decoder: tokens → pictures."""
        pictures = []
        for tokens in written.tokens.split(DEVELOPED_AT_ONCE):
            pictures.append(self.dvae.decode(tokens).clamp(-1, 1))
            advance(len(tokens))
        return Developed(commissions=written.commissions, tokens=written.tokens, pictures=torch.cat(pictures))

    def rank(
        self,
        developed: Developed,
        *,
        count: int,
        of: int | None = None,
        advance: Callable[[int], None] = _silently,
    ) -> Ranked:
        """CLIP: the best `count` of every `of` pictures in a row, which share a prompt; None: of all.

        Pictures are judged as a file would hold them, in 8 bits. Of equals the first comes first.
        """
        return best(self.ranker, self.ranker_tokenizer, developed, count=count, of=of, advance=advance)

    def _stages(
        self,
        wanted: Sequence[Commission],
        settings: TokenSettings,
        *,
        count: int,
        each: int,
        at_once: int | None,
        clock: Clock,
        kept: Int[Tensor, "rows w"] | None = None,
    ) -> Iterator[TokenStage]:
        """Every stage of some prompts, each with all its candidates."""
        read = self.read(wanted)
        yield read
        written = self.write(read, settings, kept=kept, at_once=at_once, advance=clock.during("writing"))
        yield written
        developed = self.develop(written, advance=clock.during("developing"))
        yield developed
        yield self.rank(developed, count=count, of=each, advance=clock.during("ranking"))

    def _rows(
        self,
        read: Read,
        settings: TokenSettings,
        kept: Int[Tensor, "rows w"] | None = None,
        overhear: Callable[[Tensor], None] | None = None,
    ) -> Iterator[Int[Tensor, "b w"]]:
        """Rows of tokens, as soon as they are finished."""
        columns = tokens_one_by_one(
            self.transformer,
            read.ids,
            draws=Draws([mix(c.seed, "dalle1") for c in read.commissions], device=self.device),
            sampling=Sampling(temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p),
            guidance=settings.guidance,
            prefix=None if kept is None else repeat(kept, "r w -> b r w", b=len(read.ids)),
            overhear=overhear,
        )
        # As many times the one iterator as a row has tokens.
        for row in zip(*[columns] * self.transformer.config.grid, strict=True):
            yield torch.stack(row, dim=1)

    def _partials(self, read: Read, settings: TokenSettings) -> Iterator[Partial]:
        rows: list[Tensor] = []
        odds: list[Tensor] = []
        heard: list[Tensor] = []
        for row in self._rows(read, settings, overhear=heard.append):
            rows.append(row)
            tokens = torch.stack(rows, dim=1)
            (picture,) = self._sketch(read.commissions, tokens).pictures
            likely = shares(torch.cat(heard), settings.temperature)
            odds.append(likely.gather(-1, rearrange(row[0], "w -> w 1"))[:, 0])
            # Of a whole picture they would be thousands for each token.
            heard.clear()
            yield Partial(
                commission=read.commissions[0], tokens=tokens[0], odds=torch.stack(odds), picture=picture
            )

    @torch.inference_mode()
    def _sketch(self, wanted: tuple[Commission, ...], tokens: Int[Tensor, "b rows w"]) -> Sketch:
        """The pictures of rows of tokens, white where there are none yet."""
        (side,) = self.sizes
        finished = self.dvae.decode(tokens).clamp(-1, 1)
        pictures = torch.ones(len(tokens), 3, side, side, device=self.device)
        pictures[:, :, : finished.shape[2]] = finished
        rows, total = tokens.shape[1:]
        return Sketch(commissions=wanted, index=rows - 1, total=total, pictures=pictures)


def parts_of(folder: Path) -> dict[str, Path]:
    """Where each of `PARTS` lies. LimnerError where no CLIP is there and none ships."""
    inside = {part: folder / part for part in PARTS}
    return inside if inside["clip"].is_dir() else inside | {"clip": clip_folder(None)}


def digest(folder: Path) -> str:
    """Twelve hexadecimal digits for the weights of all parts together, and the words of the captions."""
    words = folder / "transformer" / VOCABULARY
    try:
        told = hashlib.sha256(words.read_bytes()).hexdigest()
    except OSError as error:
        raise LimnerError(f"{words} is missing: copy it from where the transformer came from") from error
    return digest_of([*(checkpoint.digest(part) for part in parts_of(folder).values()), told])
