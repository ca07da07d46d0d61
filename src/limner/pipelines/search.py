"""Finding pictures by words or by likeness: an index of a folder's embeddings, and exact search in it.

The index is one safetensors file: `embeddings`, unit vectors in half precision, and `files`, what each of
them is of, as JSON. Its metadata names the CLIP, for vectors of two CLIPs have nothing to do with each other.
"""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from limner.clip import unit
from limner.data.folder import pictures_in
from limner.errors import LimnerError
from limner.pipelines.embedding import looked_at, pictured, reader, worded
from limner.pipelines.png import write
from limner.pipelines.settings import MOST_FOUND, checked_prompt, checked_whole
from limner.pipelines.words import checked_words, told_of_unknown

# Where the index of a folder lies unless somebody says otherwise, and what it is marked with.
PLACE = Path(".limner") / "index.safetensors"
FORMAT = "limner index 1"
# New pictures after which the index is written, so that a killed run goes on from there.
KEPT_EVERY = 4096
# Rows that are multiplied at once: half precision becomes single only for as long.
ROWS_AT_ONCE = 16_384
# Above so many pictures faiss searches.
MOST_BY_NUMPY = 100_000


class Stamp(NamedTuple):
    """A picture file as it was when it was read: its path from the folder, bytes, time of change in ns."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True, kw_only=True)
class Index:
    """Unit `embeddings`, (n, d), of a folder's `files`, by the CLIP whose short name is `weights`."""

    folder: Path
    weights: str
    files: tuple[Stamp, ...]
    embeddings: NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """The index as it is now, where it lies, how many pictures were `read` for it, and what could not be."""

    index: Index
    path: Path
    read: int
    broken: dict[Path, str]


@dataclass(frozen=True)
class Found:
    """A picture, and the cosine of its embedding with what was searched for."""

    score: float
    path: Path


# --- making it -----------------------------------------------------------------------------------


def index(
    folder: Path, *, out: Path | None = None, weights: Path | None = None, device: str = "cpu"
) -> Indexed:
    """Embed every picture under `folder` that can be read, and keep that in `out` (by default in the folder).

    Pictures that an index in the same place holds already are not read again, unless their size or time of
    change is another, or the CLIP is. A run that is killed loses at most what it did since it last wrote.
    `weights`: a CLIP's folder, or a line's that holds one; the CLIP that ships without. Raises LimnerError
    for a folder without pictures that can be read, and for a place that cannot be written.
    """
    path = folder / PLACE if out is None else out
    if path.is_dir():
        raise ValueError(f"out is '{path}', a folder: give the name of a file in it")
    stamps = [stamp(folder, picture) for picture in pictures_in(folder)]
    known = kept(path, folder)
    read = reader(weights, device)
    rows = known.get(read.digest, {})
    new = {folder / one.path: one for one in stamps if one not in rows}
    broken: dict[Path, str] = {}

    def grown() -> Index:
        files = tuple(one for one in stamps if one in rows)
        embeddings = np.array([rows[one] for one in files], np.float16)
        return Index(folder=folder, weights=read.digest, files=files, embeddings=embeddings)

    since = 0
    for look in looked_at(read.clip, list(new), "indexing"):
        broken |= look.broken
        halved = look.embeddings.numpy().astype(np.float16)
        rows |= zip((new[file] for file in look.files), halved, strict=True)
        since += len(look.files)
        if since >= KEPT_EVERY:
            keep(grown(), path)
            since = 0
    whole = grown()
    if not whole.files:
        file, reason = next(iter(broken.items()))
        raise LimnerError(f"no picture in {folder} can be read, such as {file} ({reason}): give another")
    keep(whole, path)
    return Indexed(index=whole, path=path, read=len(new) - len(broken), broken=broken)


def stamp(folder: Path, picture: Path) -> Stamp:
    """What tells whether a picture has changed since."""
    told = picture.stat()
    return Stamp(picture.relative_to(folder).as_posix(), told.st_size, told.st_mtime_ns)


def kept(path: Path, folder: Path) -> dict[str, dict[Stamp, NDArray[np.float16]]]:
    """What an index in this place, if there is one, has of this folder: embeddings, by the CLIP's name."""
    if not path.is_file():
        return {}
    there = opened(path)
    if there.folder.resolve() != folder.resolve():
        return {}
    return {there.weights: dict(zip(there.files, there.embeddings, strict=True))}


# --- keeping it ----------------------------------------------------------------------------------


def keep(made: Index, path: Path) -> None:
    """Write an index, whole or not at all. LimnerError where that fails."""
    listed = json.dumps(made.files).encode()
    tensors: dict[str, NDArray[Any]] = {
        "embeddings": made.embeddings,
        "files": np.frombuffer(listed, np.uint8),
    }
    # From the file's own place, so that folder and index may move together.
    folder = os.path.relpath(made.folder.resolve(), path.parent.resolve())
    metadata = {"format": FORMAT, "weights": made.weights, "folder": Path(folder).as_posix()}
    write(path, save(tensors, metadata))


def opened(path: Path) -> Index:
    """The index at `path`, a file, or a folder with its own. LimnerError for none, and for a broken one."""
    file = path / PLACE if path.is_dir() else path
    if not file.is_file():
        raise LimnerError(f"there is no index at {path}: make one with `limner index DIR`")
    try:
        with safe_open(file, framework="numpy") as held:
            told = held.metadata() or {}
            if told.get("format") != FORMAT:
                raise LimnerError(f"{file} is no index of this limner: make it anew with `limner index`")
            embeddings = held.get_tensor("embeddings")
            files = tuple(Stamp(*one) for one in json.loads(held.get_tensor("files").tobytes()))
            made, by = told["folder"], told["weights"]
        if embeddings.ndim != 2 or len(embeddings) != len(files):
            raise ValueError(f"{len(files)} files and embeddings of shape {embeddings.shape}")
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise LimnerError(
            f"{file} is not a whole index ({error}): remove it and make it anew with `limner index`"
        ) from error
    folder = path if path.is_dir() else Path(os.path.normpath(file.parent.resolve() / made))
    return Index(folder=folder, weights=by, files=files, embeddings=embeddings)


# --- searching it --------------------------------------------------------------------------------


def find(
    text: str | None,
    place: Path,
    *,
    like: Sequence[Image.Image] = (),
    top: int = 10,
    weights: Path | None = None,
    device: str = "cpu",
) -> list[Found]:
    """The `top` pictures of an index that go best with words, or are most like others, or both; best first.

    `place`: a folder that was indexed, or the index's file. Of several wishes the mean of their unit
    embeddings is searched for. `weights`: the CLIP that the folder was indexed with. Raises ValueError where
    nothing is wished for, LimnerError for an index that is missing, broken or another CLIP's.
    """
    if text is not None:
        checked_prompt(text, "text")
        checked_words(text, "text")
    elif not like:
        raise ValueError("text and like are both missing: give words, pictures, or both")
    checked_whole("top", top, 1, MOST_FOUND)
    there, read = opened(place), reader(weights, device)
    if there.weights != read.digest:
        raise LimnerError(
            f"{place} was indexed with the CLIP {there.weights}, and this is {read.digest}: give the weights "
            "it was indexed with, or index it anew"
        )
    wishes = [pictured(read.clip, like)] if like else []
    if text is not None:
        told_of_unknown(read.tokenizer, [text])
        wishes.append(worded(read.clip, read.tokenizer, text)[None])
    wanted: NDArray[np.float32] = unit(torch.cat(wishes).mean(dim=0)).float().cpu().numpy()
    scores, numbers = nearest(there.embeddings, wanted, top)
    return [
        Found(float(score), there.folder / there.files[number].path)
        for score, number in zip(scores, numbers, strict=True)
    ]


def nearest(
    embeddings: NDArray[np.float16], wanted: NDArray[np.float32], top: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `top` highest products of rows with `wanted`, best first, and the numbers of these rows."""
    if len(embeddings) > MOST_BY_NUMPY:
        try:
            return nearest_by_faiss(embeddings, wanted, top)
        except ModuleNotFoundError:
            warnings.warn(
                f"{len(embeddings):,} pictures are searched by numpy; faiss is made for so many: "
                "pip install 'limner[search]'",
                stacklevel=2,
            )
    scores = np.concatenate(
        [
            embeddings[start : start + ROWS_AT_ONCE].astype(np.float32) @ wanted
            for start in range(0, len(embeddings), ROWS_AT_ONCE)
        ]
    )
    numbers = np.argsort(-scores, kind="stable")[:top]
    return scores[numbers], numbers


def nearest_by_faiss(
    embeddings: NDArray[np.float16], wanted: NDArray[np.float32], top: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The same by faiss, of equal scores perhaps others; ModuleNotFoundError where it is not installed.

    It reads half precision as it lies there, and makes every number single only to multiply it: no score is
    rounded more than by numpy. A flat index of single precision would first have to be written, twice the
    size, which took longer than the whole search by numpy.
    """
    import faiss

    quantizer = faiss.ScalarQuantizer.QT_fp16
    rows = faiss.IndexScalarQuantizer(embeddings.shape[1], quantizer, faiss.METRIC_INNER_PRODUCT)
    rows.add_sa_codes(embeddings.view(np.uint8))
    (scores,), (numbers,) = rows.search(wanted[None], min(top, len(embeddings)))
    order = np.lexsort((numbers, -scores))
    return scores[order], numbers[order]
