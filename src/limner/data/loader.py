"""Folders of captioned pictures as arrays in reach, and the views of them that training sees.

A view is a picture laid on a ground with one of its captions; the ground is named in the caption when it is
not plain white. Which views exist is a function of (seed, picture, view number), so whatever is computed from
a view, such as its CLIP embedding, can be computed once and kept.
"""

import hashlib
import json
import os
import random
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor

from limner.data.captions import with_ground
from limner.data.colours import GROUNDS
from limner.data.folder import Record, read
from limner.draws import Draws, mix

# Flags are a sixth of the emoji and all alike; left alone they would be a sixth of every batch.
GROUP_WEIGHT = {"flags": 0.3}
PLAIN_SHARE = 0.6


class View(NamedTuple):
    """One picture as training sees it: the ground under it (sRGB) and what is said about it."""

    ground: tuple[int, int, int]
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Captioned pictures of one size: `pixels` (N, size, size, 4) uint8, not premultiplied."""

    pixels: NDArray[np.uint8]
    records: tuple[Record, ...]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def size(self) -> int:
        """Side in pixels."""
        return int(self.pixels.shape[1])

    def draw(self, draws: Draws) -> Int[Tensor, "b"]:
        """A picture number for each row, by weight."""
        edges = np.cumsum(self.weights) / self.weights.sum()
        return torch.from_numpy(np.searchsorted(edges, draws.uniform().numpy(), side="right").clip(max=len(self) - 1))


def open_gallery(folders: Sequence[Path], *, size: int, splits: Sequence[str] = ("train",), share: Sequence[float] | None = None) -> Gallery:
    """Read folders into one gallery of size × size pictures, once; the pixels are kept beside the pictures.

    `splits` chooses records that name a split; records without one (anybody's own folder) are all taken.
    `share`: how much of every batch each folder gets, in the folders' order; by default by number of pictures.
    Unreadable pictures were reported by `read` and are absent. Pictures that are not square are padded.
    """
    parts = []
    for number, folder in enumerate(folders):
        found = read(folder)
        if found.problems:
            first = found.problems[0]
            warnings.warn(
                f"{folder}: {len(found.problems)} pictures skipped, such as {first.path} ({first.reason}); "
                f"`limner data check {folder}` lists them",
                stacklevel=2,
            )
        pixels = _pixels(folder, found.records, size)
        chosen = [i for i, r in enumerate(found.records) if r.facts.get("split", splits[0]) in splits]
        records = tuple(found.records[i] for i in chosen)
        weights = np.array([GROUP_WEIGHT.get(str(r.facts.get("group")), 1.0) for r in records])
        if share is not None:
            weights = weights * (share[number] / weights.sum())
        parts.append((pixels, np.array(chosen), records, weights))
    if len(parts) == 1 and len(parts[0][1]) == len(parts[0][0]):
        pixels = parts[0][0]
    else:
        pixels = np.concatenate([p[chosen] for p, chosen, _, _ in parts])
    return Gallery(pixels, sum((r for _, _, r, _ in parts), ()), np.concatenate([w for *_, w in parts]))


def view(record: Record, *, seed: int, number: int, transparent: bool = True) -> View:
    """View `number` of a picture. The first lies on white and carries the plainest caption.

    `transparent`: whether the picture has a ground to choose; an opaque one keeps its own.
    """
    if number == 0:
        return View(GROUNDS["white"], record.captions[0])
    choose = random.Random(mix(seed, str(record.file.name), record.captions[0], number))
    caption = choose.choice(record.captions)
    if not transparent or choose.random() < PLAIN_SHARE:
        return View(GROUNDS["white"], caption)
    name = choose.choice(sorted(GROUNDS))
    return View(GROUNDS[name], with_ground(caption, name))


def composited(
    rgba: NDArray[np.uint8], grounds: Sequence[tuple[int, int, int]]
) -> Float[Tensor, "b 3 h w"]:
    """Lay RGBA pictures (B, H, W, 4) on their grounds; result in [-1, 1]."""
    picture = torch.from_numpy(rgba).float()
    alpha = picture[..., 3:] / 255
    ground = rearrange(torch.tensor(grounds, dtype=torch.float32), "b c -> b 1 1 c")
    flat = picture[..., :3] * alpha + ground * (1 - alpha)
    return rearrange(flat, "b h w c -> b c h w").contiguous() / 127.5 - 1


def _pixels(folder: Path, records: Sequence[Record], size: int) -> NDArray[np.uint8]:
    """All pictures of a folder at one size, decoded once and kept in a memory-mapped file."""
    listing = json.dumps([[str(r.file), r.file.stat().st_size, r.file.stat().st_mtime_ns] for r in records])
    key = hashlib.sha256(listing.encode()).hexdigest()[:16]
    cache = folder / ".limner"
    path = cache / f"pixels_{size}_{key}.npy"
    if not path.exists():
        try:
            cache.mkdir(exist_ok=True)
        except OSError:  # a read-only folder, such as the sample inside the package: keep them in memory
            return np.stack([_decode(r.file, size) for r in records])
        partial = path.with_suffix(".partial")
        kept = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(len(records), size, size, 4))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = pool.map(lambda r: _decode(r.file, size), records)
            label = f"reading {folder.name} at {size} pixels"
            for i, pixels in enumerate(track(decoded, label, total=len(records), transient=True)):
                kept[i] = pixels
        kept.flush()
        del kept
        os.replace(partial, path)
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return pixels


def _decode(path: Path, size: int) -> NDArray[np.uint8]:
    """A picture, squared with transparent (opaque pictures: white) margins and brought to size."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    side = max(picture.size)
    if picture.size != (side, side):
        square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = square
    if side != size:
        # Premultiplied, or the colour of invisible pixels bleeds into the edges.
        filter_ = Image.Resampling.BOX if side % size == 0 else Image.Resampling.LANCZOS
        picture = picture.convert("RGBa").resize((size, size), filter_).convert("RGBA")
    return np.asarray(picture)
