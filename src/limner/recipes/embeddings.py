"""CLIP embeddings of a gallery, computed once: they do not change while prior and decoder train."""

import os
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from limner import checkpoint
from limner.clip import Clip, ClipConfig, unit
from limner.data.loader import COLOURED_GROUNDS, Gallery
from limner.progress import watched

CHUNK = 256


def load_clip(folder: Path, device: str | None) -> Clip:
    """A finished CLIP, frozen, from its checkpoint folder."""
    config, state = checkpoint.load(folder, ClipConfig)
    clip = Clip(config)
    checkpoint.load_into(clip, state)
    # Under `accelerate launch` each process has a GPU of its own, which only accelerate knows.
    place = PartialState(cpu=device == "cpu").device
    return clip.to(place).eval().requires_grad_(False)


@torch.inference_mode()
def embedded(clip: Clip, gallery: Gallery, *, cache: Path) -> NDArray[np.float32]:
    """Unit embeddings of every picture on each of its grounds, (N, grounds, d); kept in `cache`."""
    if cache.exists():
        kept: NDArray[np.float32] = np.load(cache)
        if kept.shape == (len(gallery), COLOURED_GROUNDS + 1, clip.config.embedding):
            return kept
    device = next(clip.parameters()).device
    grounds = COLOURED_GROUNDS + 1
    out = np.zeros((len(gallery), grounds, clip.config.embedding), np.float32)
    for start in watched(range(0, len(gallery), CHUNK), "reading pictures with CLIP"):
        rows = list(range(start, min(start + CHUNK, len(gallery))))
        for number in range(grounds):
            seen = rows if number == 0 else [row for row in rows if not gallery.opaque[row]]
            if seen:
                pictures = gallery.composited(seen, [number] * len(seen)).to(device)
                out[seen, number] = unit(clip.encode_image(pictures).pooled).cpu().numpy()
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(f".{os.getpid()}.npy")  # several processes may come here at once
    np.save(partial, out)
    os.replace(partial, cache)
    return out
