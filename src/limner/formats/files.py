"""Checkpoint files as they lie on the disk → their tensors, each a view of the file, and what else is said.

Nothing is unpacked, and what torch has saved since 1.6 is not copied: a file of four gigabytes is mapped, and
read where it is looked at. Every way in which a file may be broken ends in one `LimnerError` that names it.
"""

import io
import json
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limner.errors import LimnerError
from limner.formats import msgpack
from limner.formats.pickles import BROKEN, Find, Storage, Thing, load, tensors_in

AGAIN = "copy it again from its source"
# Before 1.6, torch wrote five pickles one after the other, of which the first two are these.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# The fixed part of a zip member's own header.
LOCAL = struct.Struct("<4s5H3I2H")
LARGEST_PICKLE = 2**25
LONGEST_WORD = 80
VERSION = "packaging.version.Version"


@dataclass(frozen=True, kw_only=True)
class File:
    """`kind` of file; its `tensors` by name; `said`, whatever else it holds that is plain: numbers, words."""

    path: Path
    kind: str
    tensors: Mapping[str, Tensor]
    said: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self.path.stat().st_size


def read(path: Path) -> File:
    """Read a .safetensors, .pt, .pth, .ckpt, .bin, .pkl or .msgpack file by what it holds, whatever its name.

    Raises LimnerError for one that is missing, damaged, or asks for what is not allowed.
    """
    try:
        if path.stat().st_size == 0:
            raise LimnerError(f"{path} is empty: {AGAIN}")
        with path.open("rb") as file:
            first = file.read(16)
    except OSError as error:
        raise LimnerError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        if first[:4] == b"PK\x03\x04":
            return _archive(path)
        if len(first) > 8 and first[8:9] == b"{":
            return _safetensors(path)
        if first[:1] == b"\x80":
            return _pickles(path)
        if msgpack.begins(first):
            return _msgpack(path)
    except BROKEN as error:
        raise damaged(path, error) from error
    raise LimnerError(
        f"{path} is no checkpoint that limner knows by its first bytes: it reads safetensors and what torch "
        "and Flax save"
    )


def _safetensors(path: Path) -> File:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            said = plain(file.metadata())
    except (SafetensorError, OSError, ValueError) as error:
        raise LimnerError(f"{path} is not a whole safetensors file ({error}): {AGAIN}") from error
    return File(path=path, kind="safetensors", tensors=tensors, said=said)


def _archive(path: Path) -> File:
    """What torch saves since 1.6, and TorchScript: a zip of a pickle and of the storages' bytes."""
    whole = mapped(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise LimnerError(f"{path} is a damaged archive ({error}): {AGAIN}") from error
    for name in members:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise LimnerError(
                f"{path} has a member '{name}', which lies outside of it: do not trust this file"
            )
    programs = [name for name in members if PurePosixPath(name).name == "data.pkl"]
    if len(programs) != 1:
        raise LimnerError(f"{path} is a zip with {len(programs)} data.pkl, where torch writes one: {AGAIN}")
    root = programs[0].removesuffix("data.pkl")
    script = f"{root}constants.pkl" in members or any(name.startswith(f"{root}code/") for name in members)
    order = f"{root}byteorder"
    if order in members and bytes(_bytes(path, whole, members[order])) == b"big":
        raise LimnerError(f"{path} was written by a big-endian machine: save it again on another")

    # A storage that many tensors share is checked once.
    stored: dict[tuple[str, torch.dtype, int], Storage] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Storage:
        name, which = f"{root}data/{key}", (key, dtype, count)
        if name not in members:
            raise LimnerError(f"{path} lacks its member '{name}': {AGAIN}")
        if which not in stored:
            stored[which] = Storage(numbers(path, _bytes(path, whole, members[name]), dtype, count))
        return stored[which]

    program = members[programs[0]]
    if program.file_size > LARGEST_PICKLE:
        raise LimnerError(f"{path} has a data.pkl of {program.file_size} bytes, larger than any: {AGAIN}")
    found = run(path, io.BytesIO(bytes(_bytes(path, whole, program))), storage)
    kind = "TorchScript archive" if script else "torch archive"
    return File(path=path, kind=kind, tensors=tensors_in(found), said=plain(found))


def _pickles(path: Path) -> File:
    """What torch saved before 1.6: pickles one after the other, then the storages' bytes.

    Where these lie is known last, so the pickle of the tensors is read twice: first for what it speaks of.
    """
    whole = mapped(path)
    wanted: dict[str, tuple[torch.dtype, int]] = {}

    def spoken_of(dtype: torch.dtype, key: str, count: int) -> Storage:
        if wanted.setdefault(key, (dtype, count)) != (dtype, count):
            raise LimnerError(f"{path} is damaged: two tensors differ about one storage; {AGAIN}")
        return Storage(torch.empty(count, dtype=dtype, device="meta"))

    if run(path, whole, spoken_of) != MAGIC:
        raise LimnerError(f"{path} is a pickle, but none that torch wrote: limner reads torch's alone")
    if run(path, whole, spoken_of) != PROTOCOL:
        raise LimnerError(f"{path} was saved in a way that is not known: load and save it with a newer torch")
    run(path, whole, spoken_of)  # sizes of C's types where it was written
    content = whole.tell()
    run(path, whole, spoken_of)
    keys = run(path, whole, spoken_of)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(wanted):
        raise LimnerError(f"{path} is damaged: its storages are not those of its tensors; {AGAIN}")
    place, there = whole.tell(), {}
    for key in map(str, keys):
        dtype, count = wanted[key]
        begin, size = place + 8, count * width(dtype)
        if int.from_bytes(whole[place:begin], "little") != count or begin + size > len(whole):
            raise LimnerError(f"{path} is cut short or damaged at byte {place}: {AGAIN}")
        there[key] = Storage(numbers(path, memoryview(whole)[begin : begin + size], dtype, count))
        place = begin + size
    whole.seek(content)
    found = run(path, whole, lambda _dtype, key, _count: there[key])
    return File(path=path, kind="torch pickle", tensors=tensors_in(found), said=plain(found))


def _msgpack(path: Path) -> File:
    """What Flax saves: nested maps of arrays."""
    found = msgpack.load(
        memoryview(mapped(path)), lambda data, dtype, count: numbers(path, data, dtype, count)
    )
    return File(path=path, kind="Flax msgpack", tensors=tensors_in(found), said=plain(found))


def run(path: Path, file: Any, find: Find) -> Any:
    """One pickle from here on, safely."""
    try:
        return load(file, find)
    except LimnerError as error:
        said = str(error)
        raise LimnerError(said if said.startswith(str(path)) else f"{path} is refused: {said}") from error
    except BROKEN as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: BaseException) -> LimnerError:
    """The one error for whatever goes wrong in somebody else's file."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return LimnerError(f"{path} is damaged ({said}): {AGAIN}")


def mapped(path: Path) -> mmap.mmap:
    """The file's bytes; what is written into them stays in memory."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _bytes(path: Path, whole: mmap.mmap, member: zipfile.ZipInfo) -> memoryview:
    """A member's bytes where they lie, once they are what the archive says they are."""
    name, start = member.filename, member.header_offset
    try:
        signature, *_, name_length, extra_length = LOCAL.unpack(whole[start : start + LOCAL.size])
    except struct.error as error:
        raise LimnerError(f"{path} is cut short at its member '{name}': {AGAIN}") from error
    begin = start + LOCAL.size + name_length + extra_length
    stored = member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size
    if signature != b"PK\x03\x04" or not stored or begin + member.file_size > len(whole):
        raise LimnerError(
            f"{path} is damaged at its member '{name}', or packed by another than torch: {AGAIN}"
        )
    found = memoryview(whole)[begin : begin + member.file_size]
    # torch may be told to leave the check sum out; it is zero then.
    if member.CRC and zlib.crc32(found) != member.CRC:
        raise LimnerError(f"{path} is damaged: its member '{name}' has another check sum; {AGAIN}")
    return found


def numbers(path: Path, found: memoryview, dtype: torch.dtype, count: int) -> Tensor:
    """A storage's bytes as numbers; LimnerError where there are fewer or more."""
    if len(found) != count * width(dtype):
        raise LimnerError(
            f"{path} is damaged: {count} numbers take {count * width(dtype)} bytes, not {len(found)}; {AGAIN}"
        )
    if not count:
        return torch.empty(0, dtype=dtype)
    flat = torch.frombuffer(found, dtype=dtype)
    # Older files keep storages at any byte, where not every machine can compute with them.
    return flat if flat.data_ptr() % width(dtype) == 0 else torch.frombuffer(bytearray(found), dtype=dtype)


def width(dtype: torch.dtype) -> int:
    """Bytes of a number."""
    return torch.empty(0, dtype=dtype).element_size()


def plain(found: Any, depth: int = 4) -> dict[str, Any]:
    """The numbers, words and lists of a dictionary, and such of the dictionaries in it; `Namespace`s too.

    A version of the `packaging` library is a word, such as "1.15.6". Words lose what does not print, and are
    cut to `LONGEST_WORD`: they are shown to people.
    """
    if isinstance(found, Thing):
        found = found.state
    if not isinstance(found, dict) or depth == 0:
        return {}
    kept: dict[str, Any] = {}
    for name, value in found.items():
        name = word(str(name))
        if isinstance(value, str):
            kept[name] = word(value)
        elif value is None or isinstance(value, bool | int | float):
            kept[name] = value
        elif isinstance(value, list | tuple) and all(
            isinstance(one, bool | int | float | str) for one in value
        ):
            kept[name] = [word(one) if isinstance(one, str) else one for one in value]
        elif isinstance(value, Thing) and value.name == VERSION:
            if (said := version(value)) is not None:
                kept[name] = said
        elif isinstance(value, dict | Thing) and (inside := plain(value, depth - 1)):
            kept[name] = inside
    return kept


def word(said: str) -> str:
    """What of it prints, cut."""
    return "".join(one for one in said if one.isprintable())[:LONGEST_WORD]


def version(thing: Thing) -> str | None:
    """The release that a `packaging.version.Version` names, in either way that this library keeps it."""
    state = thing.state
    if isinstance(state, dict):
        inside = state.get("_version")
        state = inside.given if isinstance(inside, Thing) else None
    release = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    if not isinstance(release, tuple) or not all(type(n) is int for n in release):
        return None
    return ".".join(map(str, release))


def json_beside(path: Path) -> dict[str, Any]:
    """A JSON file as a dictionary; LimnerError for one that is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LimnerError(f"{path} is no JSON ({error}): {AGAIN}") from error
    if not isinstance(found, dict):
        raise LimnerError(f"{path} holds a {type(found).__name__} where settings are wanted: {AGAIN}")
    return found


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that hold something infinite, or not a number."""
    return [
        name
        for name, tensor in tensors.items()
        # The smallest and the largest are as good as all of them, and take no memory.
        if tensor.is_floating_point()
        and tensor.numel()
        and not all(math.isfinite(float(end)) for end in torch.aminmax(tensor))
    ]
