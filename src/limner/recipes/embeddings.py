"""CLIP embeddings of a gallery, computed once: they do not change while prior and decoder train."""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from limner.clip import Clip, ClipConfig, unit
from limner.data.loader import COLOURED_GROUNDS, Gallery
from limner.progress import watched
from limner.recipes.codes import finished
from limner.recipes.pictures import fingerprint

CHUNK = 256
# What is added to the variance of each direction when embeddings are whitened, as a share of the mean one's.
FLOOR = 0.05


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
