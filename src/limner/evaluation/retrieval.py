"""Does CLIP know things it has never seen? Finding the caption of a picture, and the picture of a caption.

The pictures are of held-out concepts, which training has seen in no style. Each style's pictures are a
gallery of their own, one picture for each concept, and their captions say name and style, so that one caption
alone is right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.clip import Clip, unit
from limner.data.loader import Gallery, open_gallery
from limner.errors import LimnerError
from limner.evaluation.intervals import Estimate, share
from limner.progress import watched
from limner.text import ClipTokenizer

CHUNK = 64
# The second caption of an emoji is its name and style: "a red apple, Noto style".
STYLED = 1


@dataclass(frozen=True)
class Matched:
    """One gallery: unit embeddings of pictures and their captions, (n, d), row by row, and what they show."""

    pictures: Tensor
    captions: Tensor
    concepts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recall:
    """How often the right one comes first, or among the first five; `chance` and `chance5` by guessing."""

    to_caption: Estimate
    to_caption5: Estimate
    to_picture: Estimate
    to_picture5: Estimate
    chance: float
    chance5: float


def clip_retrieval(clip: Clip, tokenizer: ClipTokenizer, folder: Path, *, seed: int = 0) -> Recall:
    """Recall of this CLIP on the held-out concepts of a data folder."""
    return recall(list(galleries(clip, tokenizer, folder)), seed=seed)


def recall(galleries: Sequence[Matched], *, seed: int) -> Recall:
    """Recall at 1 and at 5, both ways. Rows of all galleries count alike; chance is the mean over rows.

    For intervals, rows of one concept stay together: what CLIP knows in one style it may know in all.
    """
    if not galleries or any(len(gallery.concepts) < 2 for gallery in galleries):
        raise ValueError("galleries: give at least one, of at least two pictures each")
    to_caption = torch.cat([places(gallery.pictures, gallery.captions) for gallery in galleries])
    to_picture = torch.cat([places(gallery.captions, gallery.pictures) for gallery in galleries])
    sizes = [len(gallery.concepts) for gallery in galleries for _ in gallery.concepts]
    concepts = [concept for gallery in galleries for concept in gallery.concepts]

    def within(found: Int[Tensor, "n"], k: int) -> Estimate:
        return share((found < k).tolist(), concepts, seed=seed)

    return Recall(
        to_caption=within(to_caption, 1),
        to_caption5=within(to_caption, 5),
        to_picture=within(to_picture, 1),
        to_picture5=within(to_picture, 5),
        chance=sum(1 / n for n in sizes) / len(sizes),
        chance5=sum(min(5, n) / n for n in sizes) / len(sizes),
    )


def places(queries: Float[Tensor, "n d"], answers: Float[Tensor, "n d"]) -> Int[Tensor, "n"]:
    """How many wrong answers are at least as near to each query as its own, which has its row number."""
    scores = queries.double() @ answers.double().T
    own = scores.diagonal().unsqueeze(1)
    # A tie counts against the model, or one that answers everything alike would always be right; so does NaN.
    return (~(scores < own)).sum(dim=1) - 1


def galleries(clip: Clip, tokenizer: ClipTokenizer, folder: Path) -> Iterator[Matched]:
    """A folder's held-out concepts as this CLIP sees them, one gallery for each style.

    Skin tones are left out, and of pictures that share a caption all but the first. Raises LimnerError when
    no style has two held-out pictures.
    """
    held_out = open_gallery([folder], size=clip.config.vision.resolution, splits=("concept",))
    found = False
    for numbers in watched(list(by_style(held_out).values()), "retrieving"):
        if len(numbers) < 2:
            continue
        found = True
        captions = [styled(held_out, number) for number in numbers]
        yield Matched(
            embedded(clip, held_out, numbers),
            read(clip, tokenizer, captions),
            tuple(str(held_out.records[number].facts.get("hexcode", number)) for number in numbers),
        )
    if not found:
        raise LimnerError(f"{folder} holds out no concepts: give a folder made by `limner data fetch emoji`")


def by_style(gallery: Gallery) -> dict[str, list[int]]:
    """The gallery's picture numbers by style: plain ones, each with a caption that no other has."""
    chosen: dict[str, dict[str, int]] = {}
    for number, record in enumerate(gallery.records):
        if not record.facts.get("skin_tone"):
            style = chosen.setdefault(str(record.facts.get("style", "")), {})
            style.setdefault(styled(gallery, number), number)
    return {style: list(numbers.values()) for style, numbers in chosen.items()}


def styled(gallery: Gallery, number: int) -> str:
    """The caption that says name and style, or whatever is said last where there are fewer."""
    captions = gallery.records[number].captions
    return captions[min(STYLED, len(captions) - 1)]


@torch.inference_mode()
def embedded(clip: Clip, gallery: Gallery, numbers: Sequence[int]) -> Float[Tensor, "n d"]:
    """Unit embeddings of pictures on white, on the CPU."""
    device = clip.log_scale.device
    chunks = [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
    parts = [
        unit(clip.encode_image(gallery.composited(chunk, [0] * len(chunk)).to(device)).pooled)
        for chunk in chunks
    ]
    return torch.cat(parts).float().cpu()


@torch.inference_mode()
def read(clip: Clip, tokenizer: ClipTokenizer, captions: Sequence[str]) -> Float[Tensor, "n d"]:
    """Unit embeddings of captions, on the CPU."""
    ids = tokenizer(captions, clip.config.text.context).to(clip.log_scale.device)
    return torch.cat([unit(clip.encode_text(chunk).pooled) for chunk in ids.split(CHUNK)]).float().cpu()
