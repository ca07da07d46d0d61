"""DF-GAN: words → a picture in a single pass.

Tao et al. 2020, "DF-GAN: A Simple and Effective Baseline for Text-to-Image Synthesis". The methods of `DfGan`
are the steps of figure 2, `hear` and `draw`, and `paint` is the whole.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, overload

import torch
from PIL import Image

from limner import __version__, checkpoint
from limner.clip import TextWithProjection, TextWithProjectionConfig, trimmed, unit
from limner.dfgan import DfGanConfig, Generator, noise
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.pipelines.devices import device_named
from limner.pipelines.loading import digest_of, loaded
from limner.pipelines.memory import at_once as bounded
from limner.pipelines.memory import free_bytes
from limner.pipelines.progress import Clock, Tick
from limner.pipelines.settings import DFGAN, Commission, DfGanSettings, checked_size, commissions
from limner.pipelines.stages import Drawn, Heard
from limner.pipelines.words import checked_words, told_of_unknown
from limner.text import ClipTokenizer

# The parts of its folder: what paints, and the text tower whose sentences it hears.
PARTS = ("generator", "text")
# How many pictures are in work at once, where memory allows; beyond this a CPU gains nothing.
DRAWN_AT_ONCE = 32
# Grids of the last block, of so many channels as go into it, that live at the same time.
LIVING = 4

DfGanStage: TypeAlias = Heard | Drawn


@dataclass(frozen=True, kw_only=True)
class DfGan:
    """The generator, the text tower that reads for it, its tokenizer, and the `digest` of both networks."""

    generator: Generator
    text: TextWithProjection
    tokenizer: ClipTokenizer
    digest: str

    def __post_init__(self) -> None:
        """Refuse parts that were not trained for one another."""
        given, wanted = self.text.config.embedding, self.generator.config.sentence
        if given != wanted:
            raise LimnerError(
                f"these parts do not belong together: the text's embedding has {given} numbers where "
                f"{wanted} are needed; take both of them from one training"
            )

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> "DfGan":
        """Read `folder`/{generator, text} as float32.

        Raises ValueError for a device that is not there, LimnerError, naming the file, for weights that are
        missing, damaged or of different families.
        """
        place = device_named(device)
        if not folder.is_dir():
            raise LimnerError(f"no weights at {folder}: give a folder that holds {' and '.join(PARTS)}")
        text = loaded(folder / "text", TextWithProjectionConfig, TextWithProjection, place)
        return cls(
            generator=loaded(folder / "generator", DfGanConfig, Generator, place),
            text=text,
            tokenizer=ClipTokenizer(text.config.text.vocabulary),
            digest=digest(folder),
        )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.generator.start.weight.device

    @property
    def usual(self) -> DfGanSettings:
        """How it paints unless somebody says otherwise."""
        return DFGAN

    @property
    def sizes(self) -> tuple[int]:
        """Pixels a side of what is painted: 256 in the paper."""
        return (self.generator.config.resolution,)

    @overload
    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = ...,
        size: int | None = ...,
        seed: int = ...,
        settings: DfGanSettings | None = ...,
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
        settings: DfGanSettings | None = ...,
        at_once: int | None = ...,
        stages: Literal[True],
        on_tick: Callable[[Tick], None] | None = ...,
    ) -> Iterator[DfGanStage]: ...

    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = 1,
        size: int | None = None,
        seed: int = 0,
        settings: DfGanSettings | None = None,
        at_once: int | None = None,
        stages: bool = False,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> list[Image.Image] | Iterator[DfGanStage]:
        """`count` pictures of each prompt, prompt by prompt; picture k has the seed `seed` + k.

        What a seed paints does not depend on what is painted beside it, but for the last bit of a sum.
        `at_once`: how many go through the networks together, by default as many as memory allows. With
        `stages`, yields Heard and Drawn instead, for a few pictures and then for the next. `on_tick` hears of
        every few pictures. Raises ValueError, before any work is done, for what cannot be painted, or more at
        once than fits; LimnerError where memory holds not even one.
        """
        wanted = commissions(prompts, count=count, seed=seed)
        checked_words(prompts)
        passed = self.paint_each(wanted, size=size, settings=settings, at_once=at_once, on_tick=on_tick)
        if stages:
            return passed
        return [image for stage in passed if isinstance(stage, Drawn) for image in stage.images()]

    def paint_each(
        self,
        wanted: Sequence[Commission],
        *,
        size: int | None = None,
        settings: DfGanSettings | None = None,
        at_once: int | None = None,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> Iterator[DfGanStage]:
        """As `paint` with `stages`, of pictures that have words and a seed each of their own."""
        if size is not None:
            checked_size(size, self.sizes)
        checked_words([commission.prompt for commission in wanted])
        chunk = bounded(at_once, most=DRAWN_AT_ONCE, each=self.bytes_each(), free=free_bytes(self.device))
        return self._stages(wanted, settings or self.usual, chunk, Clock(len(wanted), on_tick))

    def metadata(self, commission: Commission, *, size: int, settings: DfGanSettings) -> dict[str, str]:
        """What a picture's file says about how it was painted."""
        return {
            "prompt": commission.prompt,
            "seed": str(commission.seed),
            "model": "dfgan",
            "weights": self.digest,
            "settings": json.dumps({"size": size, **settings.described()}),
            "limner": __version__,
        }

    def bytes_each(self) -> int:
        """About the memory that a picture takes while it is painted, besides the weights."""
        config = self.generator.config
        channels, itemsize = config.channels[1], self.generator.start.weight.dtype.itemsize
        return LIVING * channels * config.resolution**2 * itemsize

    @torch.inference_mode()
    def hear(self, wanted: Sequence[Commission]) -> Heard:
        """CLIP's text tower: words → ids → s."""
        prompts = [commission.prompt for commission in wanted]
        told_of_unknown(self.tokenizer, list(dict.fromkeys(prompts)))
        ids = self.tokenizer(prompts, self.text.config.text.context).to(self.device)
        embedding = unit(self.text.encode_text(trimmed(ids)).pooled)
        return Heard(commissions=tuple(wanted), ids=ids, sentences=self.generator.spoken(embedding))

    @torch.inference_mode()
    def draw(self, heard: Heard, settings: DfGanSettings) -> Drawn:
        """The generator: noise and s → pictures."""
        draws = Draws([mix(c.seed, "dfgan") for c in heard.commissions], device=self.device)
        z = noise(draws, self.generator.config, truncation=settings.truncation)
        pictures = self.generator(z, heard.sentences).clamp(-1, 1)
        return Drawn(commissions=heard.commissions, pictures=pictures)

    def _stages(
        self, wanted: Sequence[Commission], settings: DfGanSettings, chunk: int, clock: Clock
    ) -> Iterator[DfGanStage]:
        """Both stages of the first few pictures, then of the next few."""
        advance = clock.during("drawing")
        for start in range(0, len(wanted), chunk):
            heard = self.hear(wanted[start : start + chunk])
            yield heard
            drawn = self.draw(heard, settings)
            advance(len(drawn.pictures))
            yield drawn


def digest(folder: Path) -> str:
    """Twelve hexadecimal digits for the weights of both parts together."""
    return digest_of([checkpoint.digest(folder / part) for part in PARTS])
