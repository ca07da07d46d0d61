"""Folders of captioned pictures as arrays in reach, and the batches that training draws from them.

A transparent picture is laid on a ground: plain white, or one of a few colours chosen for that picture and
then named in the caption. Which grounds a picture has is a function of the picture alone, so what is computed
from picture and ground, such as a CLIP embedding, is computed once and kept.
"""

import hashlib
import json
import os
import random
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from limner.data.captions import with_ground
from limner.data.colours import GROUNDS
from limner.data.folder import Problem, Record, read, unusable, upright
from limner.draws import mix
from limner.errors import LimnerError
from limner.progress import watched

# Flags are a sixth of the emoji and all alike; left alone they would be a sixth of every batch.
GROUP_WEIGHT = {"flags": 0.3}
COLOURS = [name for name in GROUNDS if name != "white"]
# How often a transparent picture lies on plain white, of which captions say nothing.
PLAIN_SHARE = 0.6
# Coloured grounds that each picture has, besides white.
COLOURED_GROUNDS = 3
# How pictures are decoded; what was kept when it was done otherwise is decoded again.
DECODER = 2


class Drawn(NamedTuple):
    """What a batch consists of: picture numbers, which ground lies under each, and a caption for each."""

    pictures: list[int]
    grounds: list[int]
    captions: list[str]


@dataclass(frozen=True)
class Gallery:
    """Captioned pictures of one size: `pixels` (N, size, size, 4) uint8, not premultiplied."""

    pixels: NDArray[np.uint8]
    records: tuple[Record, ...]
    weights: NDArray[np.float64]
    opaque: NDArray[np.bool_]

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Cumulative share of each picture, by weight."""
        edges: NDArray[np.float64] = np.cumsum(self.weights) / self.weights.sum()
        return edges

    def __len__(self) -> int:
        return len(self.records)

    @property
    def size(self) -> int:
        """Side in pixels."""
        return int(self.pixels.shape[1])

    def ground(self, picture: int, number: int) -> str:
        """The name of ground `number` under a picture: 0 is white, the others are its own choice."""
        if number == 0 or self.opaque[picture]:
            return "white"
        choose = random.Random(mix(self.records[picture].captions[0], str(self.records[picture].file.name)))
        return choose.sample(COLOURS, COLOURED_GROUNDS)[number - 1]

    def draw(self, *, seed: int, step: int, rows: range) -> Drawn:
        """Rows of the batch of a step: pictures by weight, grounds and captions by chance."""
        drawn = Drawn([], [], [])
        for row in rows:
            choose = random.Random(mix("gallery", seed, step, row))
            picture = min(int(np.searchsorted(self.edges, choose.random(), side="right")), len(self) - 1)
            plain = self.opaque[picture] or choose.random() < PLAIN_SHARE
            ground = 0 if plain else choose.randrange(COLOURED_GROUNDS) + 1
            caption = choose.choice(self.records[picture].captions)
            drawn.pictures.append(picture)
            drawn.grounds.append(ground)
            drawn.captions.append(caption if plain else with_ground(caption, self.ground(picture, ground)))
        return drawn

    def composited(self, pictures: Sequence[int], grounds: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
        """The pictures on their grounds, in [-1, 1]."""
        names = [self.ground(p, g) for p, g in zip(pictures, grounds, strict=True)]
        return composited(self.pixels[list(pictures)], [GROUNDS[name] for name in names])


def open_gallery(
    folders: Sequence[Path],
    *,
    size: int,
    splits: Sequence[str] = ("train",),
    share: Sequence[float] | None = None,
) -> Gallery:
    """Read folders into one gallery of size × size pictures; the pixels are kept beside the pictures.

    `splits` chooses among records that name their split; the others (anybody's own folder) are all taken.
    `share`: how much of every batch each folder gets; by default as much as it has pictures.
    Broken pictures are left out with a warning. Pictures that are not square get margins: opaque ones white,
    transparent ones transparent. Raises `LimnerError` for a folder that has nothing to draw.
    """
    if share is not None and len(share) != len(folders):
        raise ValueError(f"share: {len(share)} numbers for {len(folders)} folders")
    parts = [_part(folder, size, splits) for folder in folders]
    weights = [part.weights for part in parts]
    if share is not None:
        weights = [w * (wanted / w.sum()) for w, wanted in zip(weights, share, strict=True)]
    return Gallery(
        parts[0].pixels if len(parts) == 1 else np.concatenate([part.pixels for part in parts]),
        tuple(record for part in parts for record in part.records),
        np.concatenate(weights),
        np.concatenate([part.opaque for part in parts]),
    )


def _part(folder: Path, size: int, splits: Sequence[str]) -> Gallery:
    """One folder's records of the chosen splits."""
    found = read(folder)
    if not found.records:
        raise LimnerError(unusable(folder, found.problems))
    chosen = [i for i, r in enumerate(found.records) if r.facts.get("split", splits[0]) in splits]
    if not chosen:
        raise LimnerError(f"{folder} has no pictures of the split {' or '.join(splits)}")
    pixels, broken = _pixels(folder, found.records, size)
    problems = [Problem(found.records[i].file, reason) for i, reason in broken.items()] + [*found.problems]
    chosen = [i for i in chosen if i not in broken]
    if not chosen:
        raise LimnerError(unusable(folder, problems))
    if problems:
        first = problems[0]
        warnings.warn(
            f"{folder}: {len(problems)} pictures skipped, such as {first.path} ({first.reason}); "
            f"`limner data check {folder} --all` lists them",
            stacklevel=3,
        )
    if len(chosen) < len(pixels):
        pixels = pixels[chosen]
    records = tuple(found.records[i] for i in chosen)
    weights = np.array([GROUP_WEIGHT.get(str(r.facts.get("group")), 1.0) for r in records])
    opaque = np.array([bool(p[..., 3].min() == 255) for p in pixels])
    return Gallery(pixels, records, weights, opaque)


def composited(rgba: NDArray[np.uint8], grounds: Sequence[tuple[int, int, int]]) -> Float[Tensor, "b 3 h w"]:
    """Lay RGBA pictures (B, H, W, 4) on their grounds; result in [-1, 1]."""
    picture = torch.from_numpy(rgba).float()
    alpha = picture[..., 3:] / 255
    ground = rearrange(torch.tensor(grounds, dtype=torch.float32), "b c -> b 1 1 c")
    flat = picture[..., :3] * alpha + ground * (1 - alpha)
    return rearrange(flat, "b h w c -> b c h w").contiguous() / 127.5 - 1


def _pixels(folder: Path, records: Sequence[Record], size: int) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """All pictures of a folder at one size, decoded once and kept in a memory-mapped file.

    Those that cannot be decoded keep an empty row, so that rows and records stay aligned; beside the pixels
    is kept which they are and why. That file is written last: pixels without it are decoded again.
    """
    files = [[str(r.file), r.file.stat().st_size, r.file.stat().st_mtime_ns] for r in records]
    listing = json.dumps([DECODER, files])
    key = hashlib.sha256(listing.encode()).hexdigest()[:16]
    cache = folder / ".limner"
    path = cache / f"pixels_{size}_{key}.npy"
    reasons = path.with_suffix(".json")
    shape = (len(records), size, size, 4)
    if not (path.exists() and reasons.exists()):
        try:
            cache.mkdir(exist_ok=True)
        except OSError:  # a read-only folder, such as the sample inside the package: keep them in memory
            held = np.zeros(shape, np.uint8)
            return held, _fill(held, folder, records, size)
        partial = path.with_suffix(f".{os.getpid()}.partial")  # several processes may come here at once
        try:
            kept = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            found = _fill(kept, folder, records, size)
            kept.flush()
            del kept
            os.replace(partial, path)
            partial.write_text(json.dumps([*found.items()]), encoding="utf-8")
            os.replace(partial, reasons)
        finally:
            partial.unlink(missing_ok=True)
    whole: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return whole, dict(json.loads(reasons.read_text(encoding="utf-8")))


def _fill(pixels: NDArray[np.uint8], folder: Path, records: Sequence[Record], size: int) -> dict[int, str]:
    """Decode every record into its row of `pixels`; which could not be decoded, and why."""
    broken = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(lambda r: decoded_file(r.file, size), records)
        label = f"reading {folder.name} at {size} pixels"
        for i, row in enumerate(watched(decoded, label, total=len(records))):
            if isinstance(row, str):
                broken[i] = row
            else:
                pixels[i] = row
    return broken


def decoded_file(path: Path, size: int) -> NDArray[np.uint8] | str:
    """A picture's pixels, or why it has none: `read` proves only so much as is quick to prove."""
    try:
        with Image.open(path) as opened:
            return squared(upright(opened), size)
    except Exception as error:  # As in folder.unreadable: a malformed file may raise anything.
        return f"it cannot be decoded ({error})"


def squared(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """A picture with transparent (opaque pictures: white) margins, brought to size: RGBA, (size, size, 4)."""
    picture = picture.convert("RGBA")
    side = max(picture.size)
    if picture.size != (side, side):
        # The least alpha is 255 in opaque pictures only; their margins are as opaque as they are.
        alpha = 255 if np.asarray(picture)[..., 3].min() == 255 else 0
        square = Image.new("RGBA", (side, side), (255, 255, 255, alpha))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = square
    if side != size:
        # Premultiplied, or the colour of invisible pixels bleeds into the edges.
        filter_ = Image.Resampling.BOX if side % size == 0 else Image.Resampling.LANCZOS
        picture = picture.convert("RGBa").resize((size, size), filter_).convert("RGBA")
    return np.asarray(picture)
