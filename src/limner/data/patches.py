"""Small pieces of large pictures, cut once and kept: all of thousands at 1024 pixels would fill a disk."""

import hashlib
import json
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limner.data.colours import GROUNDS
from limner.data.folder import Record, read, unusable
from limner.data.loader import COLOURS, PLAIN_SHARE, decoded_file
from limner.draws import mix
from limner.errors import LimnerError
from limner.progress import watched

# Of so many places in a picture the busiest is cut out, since much of a drawing is plain.
LOOKED_AT = 2
# How pieces are cut; those that were cut otherwise are cut again.
CUTTER = 2


def open_patches(
    folders: Sequence[Path], *, size: int, side: int, each: int, splits: Sequence[str] = ("train",)
) -> NDArray[np.uint8]:
    """`each` pieces of side × side pixels from every picture at size × size: (N, side, side, 3).

    Transparent pictures are laid on a ground, a piece at a time. Pictures with fewer than `size` pixels are
    passed over, for they have nothing finer to teach. The pieces are kept beside the pictures.
    Raises `LimnerError` for a folder in which no picture is as large.
    """
    parts = [_of_folder(folder, size, side, each, splits) for folder in folders]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _of_folder(folder: Path, size: int, side: int, each: int, splits: Sequence[str]) -> NDArray[np.uint8]:
    found = read(folder)
    if not found.records:
        raise LimnerError(unusable(folder, found.problems))
    records = [r for r in found.records if r.facts.get("split", splits[0]) in splits]
    files = [[str(r.file), r.file.stat().st_size, r.file.stat().st_mtime_ns] for r in records]
    listing = json.dumps([CUTTER, LOOKED_AT, size, side, each, files])
    path = folder / ".limner" / f"patches_{hashlib.sha256(listing.encode()).hexdigest()[:16]}.npy"
    if path.exists():
        kept: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        return kept
    pieces: list[NDArray[np.uint8]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cut = pool.map(lambda r: _pieces(r, folder, size, side, each), records)
        for part in watched(cut, f"cutting pieces from {folder.name}", total=len(records)):
            pieces += part
    if not pieces:
        raise LimnerError(
            f"no picture in {folder} has {size} pixels a side: give larger ones, such as those of "
            f"`limner data fetch vector --pixels {size}`"
        )
    whole = np.stack(pieces)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(exist_ok=True)
        with partial.open("wb") as file:
            np.save(file, whole)
        os.replace(partial, path)
        kept = np.load(path, mmap_mode="r")
        return kept
    except OSError:  # a folder that may only be read: they stay in memory
        partial.unlink(missing_ok=True)
    return whole


def _pieces(record: Record, folder: Path, size: int, side: int, each: int) -> list[NDArray[np.uint8]]:
    """The pieces of one picture; none of one that is too small or cannot be decoded."""
    with Image.open(record.file) as opened:  # `read` has proved that it opens
        if max(opened.size) < size:
            return []
    rgba = decoded_file(record.file, size)
    if isinstance(rgba, str):
        return []
    choose = random.Random(mix("patches", record.file.relative_to(folder).as_posix()))
    return [_piece(rgba, side, choose) for _ in range(each)]


def _piece(rgba: NDArray[np.uint8], side: int, choose: random.Random) -> NDArray[np.uint8]:
    """The busier of a few places, on a ground."""
    plain = choose.random() < PLAIN_SHARE
    ground = np.array(GROUNDS["white" if plain else choose.choice(COLOURS)], np.float32)
    room = len(rgba) - side + 1
    best, most = None, -1.0
    for _ in range(LOOKED_AT):
        top, left = choose.randrange(room), choose.randrange(room)
        part = rgba[top : top + side, left : left + side].astype(np.float32)
        alpha = part[..., 3:] / 255
        flat = part[..., :3] * alpha + ground * (1 - alpha)
        if (busy := float(flat.std(axis=(0, 1)).sum())) > most:
            best, most = flat, busy
    assert best is not None
    return best.round().astype(np.uint8)
