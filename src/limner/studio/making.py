"""How a picture comes about, step by step: what each painter sees and decides on the way."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from limner.clip import Clip, unit
from limner.pipelines.autoencoders import grid_picture
from limner.pipelines.dalle1 import Dalle1
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.embedding import Reader, pictured
from limner.pipelines.glide import Glide
from limner.pipelines.progress import Tick
from limner.pipelines.settings import Commission
from limner.pipelines.stages import Drawn, Enlarged, Imagined, Partial, Read, Sketch, Understood, to_images
from limner.server.painters import Check
from limner.server.service import Served
from limner.studio.known import Known, Neighbour
from limner.studio.turns import Sketched, Tell, ticking

# Behind the words of a caption there is nothing to be seen, and much of it.
NEIGHBOURS = 8
# Probabilities lie far apart, so that their roots are shown.
SHOWN_POWER = 0.5
LIKELY, UNLIKELY = (15, 118, 110), (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One step: pictures side by side with a word on each, and a caption below them all."""

    pictures: tuple[tuple[str, Image.Image], ...]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Imagining:
    """What DALL-E 2's prior made of the words.

    `candidates`: cosines of each candidate z_i with z_t. `near_words` and `near_picture`: the drawings of the
    shipped sample whose embeddings are nearest to z_t and to the z_i that was kept. `painted`: the cosine of
    z_i with what CLIP sees in the finished picture.
    """

    candidates: tuple[float, ...]
    near_words: tuple[Neighbour, ...]
    near_picture: tuple[Neighbour, ...]
    painted: float


@dataclass(frozen=True, kw_only=True)
class Making:
    """A picture with all that led to it. `odds`: the mean probability of its
    tokens, among how many equal ones a draw would be as unsure, and how many there are."""

    picture: Image.Image
    tokens: tuple[str, ...]
    frames: tuple[Frame, ...]
    imagining: Imagining | None = None
    odds: tuple[float, float, int] | None = None


@dataclass
class _Film:
    """Collects a sampler's steps as frames."""

    tell: Tell
    frames: list[Frame] = field(default_factory=list)

    def on_sketch(self, sketch: Sketch) -> None:
        (guess,) = sketch.images()
        pictures = [("its guess x̂₀", guess)]
        if sketch.noisy is not None:
            pictures.insert(0, ("where it stands, xₜ", to_images(sketch.noisy)[0]))
        caption = f"step {sketch.index + 1} of {sketch.total}"
        self.frames.append(Frame(pictures=tuple(pictures), caption=caption))
        self.tell(Sketched(0, guess))


def making(served: Served, known: Known, prompt: str, seed: int, check: Check, tell: Tell) -> Making:
    """Paint one picture as usual and keep what is seen on the way. ValueError for what cannot be painted."""
    painter, wanted = served.painter, (Commission(prompt, seed),)
    film = _Film(tell)
    if isinstance(painter, Dalle2):
        return _unclip(painter, known, wanted, film, ticking(check, tell))
    if isinstance(painter, Glide):
        return _glide(painter, wanted, film, ticking(check, tell))
    if isinstance(painter, Dalle1):
        return _written(painter, prompt, seed, check, tell)
    raise ValueError(f"model is {served.name!r}, whose steps are not shown: choose another")


def _unclip(
    painter: Dalle2,
    known: Known,
    wanted: tuple[Commission, ...],
    film: _Film,
    on_tick: Callable[[Tick], None],
) -> Making:
    understood: Understood | None = None
    imagined: Imagined | None = None
    for stage in painter.paint_each(wanted, on_tick=on_tick, on_sketch=film.on_sketch):
        if isinstance(stage, Understood):
            understood = stage
        elif isinstance(stage, Imagined):
            imagined = stage
        elif isinstance(stage, Drawn | Enlarged):
            (picture,) = stage.images()
    assert understood is not None
    assert imagined is not None
    found = None
    if isinstance(painter.clip, Clip):
        reader = Reader(painter.clip, painter.tokenizer, painter.digest)
        z_t, z_i = (unit(z.float())[0] for z in (understood.embedding, imagined.embeddings))
        found = Imagining(
            candidates=tuple(imagined.scores[0].tolist()),
            near_words=known.nearest(reader, z_t, NEIGHBOURS),
            near_picture=known.nearest(reader, z_i, NEIGHBOURS),
            painted=float(pictured(painter.clip, [picture])[0].float() @ z_i),
        )
    return Making(
        picture=picture,
        tokens=_pieces(painter.tokenizer.encode(wanted[0].prompt), painter.tokenizer.decode),
        frames=tuple(film.frames),
        imagining=found,
    )


def _glide(
    painter: Glide, wanted: tuple[Commission, ...], film: _Film, on_tick: Callable[[Tick], None]
) -> Making:
    for stage in painter.paint_each(wanted, on_tick=on_tick, on_sketch=film.on_sketch):
        if isinstance(stage, Drawn | Enlarged):
            (picture,) = stage.images()
        else:
            assert isinstance(stage, Read)
    words = painter.base_tokenizer
    return Making(
        picture=picture,
        tokens=_pieces(words.encode(wanted[0].prompt), words.decode),
        frames=tuple(film.frames),
    )


def _written(painter: Dalle1, prompt: str, seed: int, check: Check, tell: Tell) -> Making:
    grid = painter.transformer.config.grid
    frames: list[Frame] = []
    for partial in painter.stream(prompt, seed=seed):
        check()
        frames.append(_row(partial, painter.sizes[0], grid))
        tell(Tick("writing", partial.rows, grid))
        tell(Sketched(0, partial.image()))
    return Making(
        picture=partial.image(),
        tokens=_pieces(painter.tokenizer.encode(prompt), painter.tokenizer.decode),
        frames=tuple(frames),
        odds=(
            float(partial.odds.mean()),
            math.exp(-float(partial.odds.clamp(min=1e-9).log().mean())),
            painter.transformer.config.image_vocabulary,
        ),
    )


def _row(partial: Partial, side: int, grid: int) -> Frame:
    """What is written so far: the tokens as colours, how probable each was, and the picture they make."""
    high = round(side * partial.rows / grid)
    sheets = []
    square = torch.nn.functional.pad(partial.tokens, (0, 0, 0, grid - partial.rows))
    for drawn in (grid_picture(square, side), odds_picture(partial.odds, side, high)):
        sheet = Image.new("RGB", (side, side), "white")
        sheet.paste(drawn.crop((0, 0, side, high)), (0, 0))
        sheets.append(sheet)
    last = float(partial.odds[-1].mean())
    return Frame(
        pictures=(
            ("its tokens", sheets[0]),
            ("how probable each was", sheets[1]),
            ("what they make", partial.image()),
        ),
        caption=f"row {partial.rows} of {grid}, whose tokens had a probability of {last:.2f} on average",
    )


def odds_picture(odds: torch.Tensor, width: int, height: int) -> Image.Image:
    """Probabilities as squares, the darker the likelier."""
    shares = (odds.float().cpu().numpy() ** SHOWN_POWER)[..., None]
    colours = (1 - shares) * np.array(UNLIKELY) + shares * np.array(LIKELY)
    small = Image.fromarray(colours.round().astype(np.uint8))
    return small.resize((width, height), Image.Resampling.NEAREST)


def _pieces(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> tuple[str, ...]:
    """The tokens of words, each as what is written."""
    return tuple(decode([one]).strip() for one in ids)
