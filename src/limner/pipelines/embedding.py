"""Pictures and words as CLIP sees them: unit vectors, of whatever pictures there are."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner import checkpoint
from limner.clip import Clip, ClipConfig, unit
from limner.data.loader import composited, decoded_file
from limner.errors import LimnerError
from limner.formats import network, opened, usable
from limner.formats.hub import resolved
from limner.pipelines.devices import device_named
from limner.pipelines.loading import loaded
from limner.pipelines.pictures import WHITE, seen
from limner.progress import watched
from limner.text import ClipTokenizer
from limner.weights import shipped

SEEN_AT_ONCE = 64
# Tokens of CLIP's vocabulary as published; of a cut of it only we know which they are.
CLIP_WORDS = 49_408


@dataclass(frozen=True)
class Reader:
    """A CLIP, its words, and the short name of its weights."""

    clip: Clip
    tokenizer: ClipTokenizer
    digest: str


@dataclass(frozen=True)
class Looked:
    """Some files: those that could be read, a unit embedding for each, and why the others could not."""

    files: tuple[Path, ...]
    embeddings: Float[Tensor, "n d"]
    broken: dict[Path, str]


def reader(weights: Path | None, device: str) -> Reader:
    """The CLIP in `weights`, or that of the line in it, or the one that ships.

    `weights` may be somebody else's checkpoint, a file or a folder, in any of `limner.formats`, or
    hub:owner/name. Raises ValueError for a device that is not there, LimnerError for weights that are
    missing, do not load or read noised pictures.
    """
    place = device_named(device)
    if weights is not None:
        weights = resolved(Path(weights))
        if not weights.exists():
            raise LimnerError(f"no weights at {weights}: give a CLIP's folder or file, limner's or others'")
    folder = clip_folder(weights)
    if weights is not None and not checkpoint.is_ours(folder):
        return theirs(weights, place)
    clip = loaded(folder, ClipConfig, Clip, place)
    check_clean(clip.config, folder)
    return Reader(clip, ClipTokenizer(clip.config.text.vocabulary), checkpoint.digest(folder))


def theirs(weights: Path, place: torch.device) -> Reader:
    """A CLIP of another format. LimnerError for a checkpoint that holds none, or is not whole."""
    found = usable(opened(weights))
    for part in found.parts:
        if isinstance(part.config, ClipConfig):
            check_clean(part.config, weights)
            tokenizer = clip_words(part.config.text.vocabulary, weights)
            clip = network(part)
            assert isinstance(clip, Clip)
            return Reader(clip.to(place), tokenizer, found.contents.digest()[:12])
    raise LimnerError(f"{weights} is {found.format}, which holds no CLIP: give one that does")


def clip_words(vocabulary: int, weights: Path) -> ClipTokenizer:
    """CLIP's own tokenizer, for somebody else's weights. LimnerError where theirs must be another."""
    if vocabulary != CLIP_WORDS:
        raise LimnerError(
            f"{weights} reads {vocabulary} kinds of tokens, and CLIP's own vocabulary has {CLIP_WORDS}: "
            "its words are another tokenizer's, which is not here"
        )
    return ClipTokenizer(vocabulary)


def check_clean(config: ClipConfig, path: Path) -> None:
    """Raise LimnerError for a CLIP that reads noised pictures."""
    if config.vision.times is not None:
        raise LimnerError(
            f"{path} holds the CLIP that guides GLIDE, which reads noised pictures: give another"
        )


def clip_folder(weights: Path | None) -> Path:
    """Where CLIP lies: in `weights`, or in what ships; LimnerError where nothing ships."""
    if weights is None:
        return shipped("dalle2") / "clip"
    return weights / "clip" if (weights / "clip").is_dir() else weights


@torch.inference_mode()
def worded(clip: Clip, tokenizer: ClipTokenizer, text: str) -> Float[Tensor, "d"]:
    """The unit embedding of words, where the model is."""
    ids = tokenizer([text], clip.config.text.context).to(clip.log_scale.device)
    return unit(clip.encode_text(ids).pooled)[0]


@torch.inference_mode()
def pictured(clip: Clip, images: Sequence[Image.Image]) -> Float[Tensor, "n d"]:
    """Unit embeddings of pictures, where the model is; of any size, transparent ones on white."""
    device, side = clip.log_scale.device, clip.config.vision.resolution
    parts = [
        unit(clip.encode_image(seen(images[start : start + SEEN_AT_ONCE], side).to(device)).pooled)
        for start in range(0, len(images), SEEN_AT_ONCE)
    ]
    return torch.cat(parts)


@torch.inference_mode()
def looked_at(clip: Clip, files: Sequence[Path], doing: str) -> Iterator[Looked]:
    """The same of files, read a few at a time, on the CPU; with a bar that says what is being `doing`."""
    device, side = clip.log_scale.device, clip.config.vision.resolution
    chunks = [files[start : start + SEEN_AT_ONCE] for start in range(0, len(files), SEEN_AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in watched(chunks, doing):
            decoded = dict(zip(chunk, pool.map(lambda file: decoded_file(file, side), chunk), strict=True))
            broken = {file: found for file, found in decoded.items() if isinstance(found, str)}
            pixels = {file: found for file, found in decoded.items() if not isinstance(found, str)}
            embeddings = torch.empty(0, clip.config.embedding)
            if pixels:
                pictures = composited(np.stack([*pixels.values()]), [WHITE] * len(pixels)).to(device)
                embeddings = unit(clip.encode_image(pictures).pooled).float().cpu()
            yield Looked(tuple(pixels), embeddings, broken)
