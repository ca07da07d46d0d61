"""DALL-E mini: words → a grid of a VQGAN's codes → a picture; CLIP keeps the best, where it is asked.

Dayma et al. 2021. The methods of `DalleMini` are the steps of their figure, `read`, `write`, `develop`,
`rank`, and `paint` is the whole.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, overload

import torch
from PIL import Image

from limner import __version__
from limner.autoregression import Sampling
from limner.dalle_mini import DalleMini as Transformer
from limner.dalle_mini import DalleMiniWords, stream
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.pipelines.dalle_mini_parts import parts_at
from limner.pipelines.devices import device_named
from limner.pipelines.embedding import Reader, reader
from limner.pipelines.memory import MemoryWarning, at_once, free_bytes
from limner.pipelines.progress import Clock, Tick
from limner.pipelines.ranking import best
from limner.pipelines.sampling import sides
from limner.pipelines.settings import (
    DALLE_MINI_AS_RELEASED,
    Commission,
    TokenSettings,
    candidates_for,
    checked_size,
)
from limner.pipelines.stages import Developed, Ranked, Read, TokenStage, Written
from limner.pipelines.words import checked_words
from limner.text import UnknownCharacterWarning
from limner.vqgan import Decoder

# How many pictures are in work at once, where memory allows.
WRITTEN_AT_ONCE = 16
DEVELOPED_AT_ONCE = 4


def _silently(_: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class DalleMini:
    """Transformer, the half of a VQGAN that paints, the words, the `digest` of them all.

    `ranker` is called for the CLIP that chooses among candidates, where there is a choice.
    """

    transformer: Transformer
    detoker: Decoder
    words: DalleMiniWords
    digest: str
    ranker: Callable[[], Reader]

    def __post_init__(self) -> None:
        """Refuse parts that were not trained for one another."""
        codes, vocabulary = self.transformer.config.codes, self.transformer.config.text_vocabulary
        if self.detoker.config.codes != codes:
            raise LimnerError(
                f"these parts do not belong together: the VQGAN has {self.detoker.config.codes} codes where "
                f"{codes} are written; take the VQGAN of DALL-E mini, f16 with 16384 codes"
            )
        if self.words.vocab_size > vocabulary:
            raise LimnerError(
                f"these parts do not belong together: there are {self.words.vocab_size} words where the "
                f"network knows {vocabulary}; mini's and mega's differ, so take them from where it came from"
            )

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> "DalleMini":
        """Read what lies in `folder`: min-dalle's files or Flax's, or what `limner convert` made of them.

        The words, `vocab.json` and `merges.txt` or `tokenizer.json`, lie beside the transformer; the VQGAN
        too, or in a folder `vqgan` within or beside. `folder`/clip, if it is there, ranks candidates, else
        the CLIP that ships. Raises ValueError for a device that is not there, LimnerError, naming the file,
        for weights that are missing, damaged or of different families.
        """
        parts, clip = parts_at(folder, device_named(device)), folder / "clip"
        return cls(
            transformer=parts.transformer,
            detoker=parts.detoker,
            words=parts.words,
            digest=parts.digest,
            ranker=cache(lambda: reader(clip if clip.is_dir() else None, device)),
        )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.transformer.decoder.positions.device

    @property
    def usual(self) -> TokenSettings:
        """How it paints unless somebody says otherwise: as min-dalle does."""
        return DALLE_MINI_AS_RELEASED

    @property
    def sizes(self) -> tuple[int]:
        """Pixels a side of what is painted: 256 as released."""
        return (self.transformer.config.grid * self.detoker.config.factor,)

    @overload
    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = ...,
        size: int | None = ...,
        seed: int = ...,
        settings: TokenSettings | None = ...,
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
        stages: bool = False,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> list[Image.Image] | Iterator[TokenStage]:
        """Paint `count` pictures of each prompt, prompt by prompt, in order of their seeds.

        Where `settings` ask for candidates, so many are painted, and CLIP keeps the best `count`, best first.
        Picture k is what the seed `seed` + k paints alone: neighbours change no more than the last bit of a
        sum. With `stages`, yields Read, Written, Developed and, with candidates, Ranked instead, for a few
        prompts and then for the next. `on_tick` hears of every row of tokens. Raises ValueError, before any
        work is done, for what cannot be painted; LimnerError where memory holds not even one.
        """
        chosen = settings or self.usual
        if size is not None:
            checked_size(size, self.sizes)
        wanted = candidates_for(prompts, count=count, seed=seed, of=chosen.candidates)
        self._check_words([commission.prompt for commission in wanted])
        fit = self.fitting(chosen)
        if fit < min(len(wanted), WRITTEN_AT_ONCE):
            warnings.warn(
                f"of {len(wanted)} pictures {fit} fit into memory at once, so they are written in turns",
                MemoryWarning,
                stacklevel=2,
            )
        ranks = chosen.candidates is not None
        each = count if chosen.candidates is None else chosen.candidates
        together = max(1, fit // each) * each
        clock = Clock(len(wanted) * (self.transformer.config.grid + (2 if ranks else 1)), on_tick)
        passed = (
            stage
            for start in range(0, len(wanted), together)
            for stage in self._stages(wanted[start : start + together], chosen, count, clock)
        )
        if stages:
            return passed
        last = Ranked if ranks else Developed
        return [image for stage in passed if isinstance(stage, last) for image in stage.images()]

    def metadata(
        self, commission: Commission, *, settings: TokenSettings, score: float | None = None
    ) -> dict[str, str]:
        """What a picture's file says about how it was painted, and CLIP's score, if it was asked.

        The seed is the picture's own: alone, with these settings, it is painted again.
        """
        (size,) = self.sizes
        return {
            "prompt": commission.prompt,
            "seed": str(commission.seed),
            "model": "dalle_mini",
            "weights": self.digest,
            "settings": json.dumps({"size": size, **settings.described()}),
            **({} if score is None else {"score": f"{score:.4f}"}),
            **({} if settings.candidates is None else {"candidates": str(settings.candidates)}),
            "limner": __version__,
        }

    def fitting(self, settings: TokenSettings) -> int:
        """How many pictures to write at once, by the memory that is free; LimnerError for none."""
        return at_once(
            None, most=WRITTEN_AT_ONCE, each=self.bytes_each(settings), free=free_bytes(self.device)
        )

    def bytes_each(self, settings: TokenSettings) -> int:
        """The memory that a picture takes while it is written: keys and values of image and caption."""
        config = self.transformer.config
        kept = 2 * config.decoder_layers * config.width * (config.image + config.text_context)
        # With guidance every picture is written beside one of nothing.
        return len(sides(settings.guidance)) * kept * self.transformer.decoder.positions.element_size()

    def read(self, wanted: Sequence[Commission]) -> Read:
        """Words → ids. A caption too long for the transformer is cut, with one `CutCaptionWarning`."""
        prompts = list(dict.fromkeys(commission.prompt for commission in wanted))
        ids = self.words(prompts, self.transformer.config.text_context).to(self.device)
        rows = [prompts.index(commission.prompt) for commission in wanted]
        return Read(commissions=tuple(wanted), ids=ids[rows])

    @torch.inference_mode()
    def write(
        self, read: Read, settings: TokenSettings, *, advance: Callable[[int], None] = _silently
    ) -> Written:
        """Transformer: ids → a grid of codes each, guided away from what it would write to no words."""
        grid, chunk = self.transformer.config.grid, self.fitting(settings)
        grids = []
        for start in range(0, len(read.commissions), chunk):
            part = slice(start, start + chunk)
            columns = stream(
                self.transformer,
                read.ids[part],
                nothing=self.words.nothing(self.transformer.config.text_context).to(self.device),
                draws=Draws([mix(c.seed, "dalle_mini") for c in read.commissions[part]], device=self.device),
                sampling=Sampling(
                    temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p
                ),
                guidance=settings.guidance,
            )
            rows = []
            # As many times the one iterator as a row has tokens.
            for row in zip(*[columns] * grid, strict=True):
                rows.append(torch.stack(row, dim=1))
                advance(len(row[0]))
            grids.append(torch.stack(rows, dim=1))
        return Written(commissions=read.commissions, tokens=torch.cat(grids))

    @torch.inference_mode()
    def develop(self, written: Written, *, advance: Callable[[int], None] = _silently) -> Developed:
        """The VQGAN's decoder: codes → pictures."""
        pictures = []
        for tokens in written.tokens.split(DEVELOPED_AT_ONCE):
            pictures.append(self.detoker.decode(tokens))
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
        """CLIP: the best `count` of every `of` pictures in a row, which share a prompt; None: of all."""
        judge = self.ranker()
        return best(judge.clip, judge.tokenizer, developed, count=count, of=of, advance=advance)

    def _stages(
        self, wanted: Sequence[Commission], settings: TokenSettings, count: int, clock: Clock
    ) -> Iterator[TokenStage]:
        """Every stage of some prompts, each with all its candidates."""
        read = self.read(wanted)
        yield read
        written = self.write(read, settings, advance=clock.during("writing"))
        yield written
        developed = self.develop(written, advance=clock.during("developing"))
        yield developed
        if settings.candidates is not None:
            yield self.rank(developed, count=count, of=settings.candidates, advance=clock.during("ranking"))

    def _check_words(self, prompts: Sequence[str]) -> None:
        """Refuse a prompt of which nothing would be read, and warn, once, of what is left out of others."""
        checked_words(prompts)
        lost = ""
        for prompt in dict.fromkeys(prompts):
            if not self.words.encode(prompt):
                raise ValueError(
                    f"prompt is {prompt[:20]!r}, of which DALL-E mini reads nothing: its words are of "
                    "ASCII's letters alone"
                )
            lost += self.words.unknown(prompt)
        if lost:
            warnings.warn(
                f"no word of this model holds {' '.join(dict.fromkeys(lost))}: it is left out",
                UnknownCharacterWarning,
                stacklevel=3,
            )
