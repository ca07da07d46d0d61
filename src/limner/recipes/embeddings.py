"""CLIP embeddings of a gallery and its captions, computed once: they do not change while others train."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limner.clip import Clip, ClipConfig, unit
from limner.dalle2.objective import clip_reader
from limner.data.captions import with_ground
from limner.data.loader import COLOURED_GROUNDS, Drawn, Gallery
from limner.draws import mix
from limner.layers.trunk import Whitening
from limner.progress import watched
from limner.recipes.codes import finished
from limner.recipes.pictures import fingerprint
from limner.text import ClipTokenizer

CHUNK = 256
# What is added to the variance of each direction when embeddings are whitened, as a share of the mean one's.
FLOOR = 0.05
# How many captions of a picture on a ground are read once and kept.
KEPT = 3


@dataclass(frozen=True)
class Told:
    """What a decoder learns to be told of pictures.

    `embeddings` (N, grounds, d) are CLIP's own. Of `share` of the pictures it is told instead what a prior
    `imagined` of their captions, (N, grounds, KEPT, d), for that is what it will be told one day. `captions`,
    of the same shape, are those captions' own embeddings.
    """

    embeddings: NDArray[np.float32]
    imagined: NDArray[np.float16] | None = None
    share: float = 0.0
    captions: NDArray[np.float16] | None = None

    def __call__(self, drawn: Drawn, *, seed: int, step: int, rows: range) -> Float[Tensor, "b d"]:
        """Of these rows of the batch at `step`."""
        seen = torch.from_numpy(self.embeddings[drawn.pictures, drawn.grounds])
        if self.imagined is None:
            return seen
        chances, which = _chances(seed, step, rows, self.imagined.shape[2])
        instead = torch.tensor([chance < self.share for chance in chances])
        imagined = torch.from_numpy(self.imagined[drawn.pictures, drawn.grounds, which])
        return torch.where(rearrange(instead, "b -> b 1"), imagined.float(), seen)

    def said(self, drawn: Drawn, *, seed: int, step: int, rows: range) -> Float[Tensor, "b d"] | None:
        """The captions' embeddings of these rows, each that of which `imagined` is; None if not kept."""
        if self.captions is None:
            return None
        _, which = _chances(seed, step, rows, self.captions.shape[2])
        return torch.from_numpy(self.captions[drawn.pictures, drawn.grounds, which]).float()


def _chances(seed: int, step: int, rows: range, kept: int) -> tuple[list[float], list[int]]:
    """For each row a number in [0, 1), and which of so many `kept` captions."""
    choosing = [random.Random(mix("imagined", seed, step, row)) for row in rows]
    return [one.random() for one in choosing], [one.randrange(kept) for one in choosing]


@torch.inference_mode()
def told_nearly_right(told: Told, sphere: Whitening, *, length: float, within: float) -> Told:
    """The same, where what is imagined lies too far off replaced by the embedding itself.

    Near is whose squared distance in the whitened space is at most `within` of the embedding's own square
    there; `length` is that of the vectors that `sphere` was fitted to. Of a caption that fits many pictures a
    prior imagines another one of them, and a regression that has to answer with this one learns their mean.
    """
    if told.imagined is None:
        return told
    # Read whole, since what is kept on disk may not be written to.
    near = np.array(told.imagined)
    for ground in range(near.shape[1]):
        own = told.embeddings[:, ground]
        z = sphere(torch.from_numpy(own) * length)
        for number in range(near.shape[2]):
            guess = sphere(torch.from_numpy(near[:, ground, number]).float() * length)
            far = (guess - z).square().sum(dim=1) > within * z.square().sum(dim=1)
            near[far.numpy(), ground, number] = own[far.numpy()]
    return replace(told, imagined=near)


def load_clip(folder: Path, device: str | None) -> Clip:
    """A finished CLIP, frozen, from its checkpoint folder."""
    return finished(Clip, ClipConfig, folder, device)


@torch.inference_mode()
def embedded(clip: Clip, gallery: Gallery, *, weights: str, out: Path) -> NDArray[np.float32]:
    """Unit embeddings of every picture on each of its grounds, (N, grounds, d); kept in the folder `out`.

    `weights`: the `checkpoint.digest` of the CLIP. The file's name says which CLIP saw which pictures, so a
    decoder may take it from the prior that was trained beside it, and never takes another.
    """
    name = f"embeddings_{weights}_{fingerprint(gallery)}.npy"
    cache = out / name
    for found in (cache, *out.parent.glob(f"*/{name}")):
        if found.exists():
            kept: NDArray[np.float32] = np.load(found)
            return kept
    device = next(clip.parameters()).device
    grounds = COLOURED_GROUNDS + 1
    made = np.zeros((len(gallery), grounds, clip.config.embedding), np.float32)
    for start in watched(range(0, len(gallery), CHUNK), "reading pictures with CLIP"):
        rows = list(range(start, min(start + CHUNK, len(gallery))))
        for number in range(grounds):
            seen = rows if number == 0 else [row for row in rows if not gallery.opaque[row]]
            if seen:
                pictures = gallery.composited(seen, [number] * len(seen)).to(device)
                made[seen, number] = unit(clip.encode_image(pictures).pooled).cpu().numpy()
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(f".{os.getpid()}.npy")  # several processes may come here at once
    np.save(partial, made)
    os.replace(partial, cache)
    return made


def seen(gallery: Gallery, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The embeddings that there are, (n, d): opaque pictures have but the first of a row."""
    there = np.ones(embeddings.shape[:2], bool)
    there[gallery.opaque, 1:] = False
    kept: NDArray[np.float32] = embeddings[there]
    return kept


@torch.inference_mode()
def said(
    clip: Clip, tokenizer: ClipTokenizer, gallery: Gallery, *, weights: str, out: Path
) -> NDArray[np.float16]:
    """Unit embeddings of `KEPT` captions of every picture on each of its grounds, (N, grounds, KEPT, d).

    Kept in the folder `out` as those of pictures are, and in half precision, for they are many. Where there
    are fewer captions they come again.
    """
    read, device, context = clip_reader(clip), next(clip.parameters()).device, clip.config.text.context

    def embed(captions: list[str]) -> Tensor:
        return read(tokenizer(captions, context).to(device)).embedding

    cache = out / f"captions_{weights}_{fingerprint(gallery)}.npy"
    return kept_of_captions(gallery, cache, clip.config.embedding, embed, "reading captions with CLIP")


def kept_of_captions(
    gallery: Gallery, cache: Path, width: int, make: Callable[[list[str]], Tensor], doing: str
) -> NDArray[np.float16]:
    """What `make` makes of the kept captions, (N, grounds, KEPT, width); from the file `cache`, if there.

    `doing`: what is said of it while it lasts.
    """
    if cache.exists():
        kept: NDArray[np.float16] = np.load(cache, mmap_mode="r")
        return kept
    places = [
        (picture, ground, number, caption)
        for picture in range(len(gallery))
        for ground in range(1 if gallery.opaque[picture] else COLOURED_GROUNDS + 1)
        for number, caption in enumerate(chosen(gallery, picture, ground))
    ]
    places.sort(key=lambda place: len(place[3]))  # what is padded together is of about one length
    partial = cache.with_suffix(f".{os.getpid()}.partial")  # several processes may come here at once
    cache.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(gallery), COLOURED_GROUNDS + 1, KEPT, width)
    made = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    for start in watched(range(0, len(places), CHUNK), doing):
        some = places[start : start + CHUNK]
        found = make([caption for *_, caption in some]).cpu().half().numpy()
        for (picture, ground, number, _), vector in zip(some, found, strict=True):
            made[picture, ground, number] = vector
    made.flush()
    del made
    os.replace(partial, cache)
    whole: NDArray[np.float16] = np.load(cache, mmap_mode="r")
    return whole


def chosen(gallery: Gallery, picture: int, ground: int) -> list[str]:
    """`KEPT` captions of a picture on a ground, as batches would say them, by a chance of its own."""
    captions = gallery.records[picture].captions
    choose = random.Random(mix("kept", captions[0], str(gallery.records[picture].file.name), ground))
    few = choose.sample(captions, min(KEPT, len(captions)))
    some = [few[number % len(few)] for number in range(KEPT)]
    return some if ground == 0 else [with_ground(one, gallery.ground(picture, ground)) for one in some]
