"""What Flax writes: msgpack, of which it uses maps, words, numbers, and arrays as an extension of its own.

Nothing is called. An array is itself a small msgpack in an extension of kind 1: its shape, the name of its
kind of numbers, its bytes; of kind 3 where it is a single number. It lies at any byte, so it is copied where
a machine could not compute with it there. What is larger than a gigabyte lies there in pieces.
"""

import struct
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# numpy's names of kinds of numbers, and one of jax's.
KINDS: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
ARRAY, COMPLEX, SCALAR = 1, 2, 3
CHUNKED = "__msgpack_chunked_array__"
DEEPEST = 64
# First byte → how many bytes say how long it is, of what comes in one size only: how it is packed.
LONG = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
EXTENSION = {0xC7: 1, 0xC8: 2, 0xC9: 4}
NUMBER = {
    **{0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
    **{0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"},
}
CONSTANT = {0xC0: None, 0xC2: False, 0xC3: True}

# Bytes, kind of numbers and how many → a flat tensor; it checks that they agree.
Flat = Callable[[memoryview, torch.dtype, int], Tensor]


def begins(first: bytes) -> bool:
    """Whether a file's first byte is a map's, of one entry or more."""
    return bool(first) and (0x81 <= first[0] <= 0x8F or first[0] in (0xDE, 0xDF))


def load(whole: memoryview, flat: Flat) -> Any:
    """What one msgpack comes to, arrays as tensors. ValueError, or another of `BROKEN`, for what is none."""
    found, end = _value(whole, 0, flat, 0)
    if end != len(whole):
        raise ValueError(f"{len(whole) - end} bytes follow its end")
    return found


def _value(whole: memoryview, at: int, flat: Flat, depth: int) -> tuple[Any, int]:
    """The value at a place, and where the next one begins."""
    if depth > DEEPEST:
        raise ValueError(f"its maps are nested more than {DEEPEST} deep")
    code, at = whole[at], at + 1
    if code <= 0x7F:
        return code, at
    if code >= 0xE0:
        return code - 0x100, at
    if code in CONSTANT:
        return CONSTANT[code], at
    if code in NUMBER:
        size = struct.calcsize(NUMBER[code])
        return struct.unpack(NUMBER[code], _bytes(whole, at, size))[0], at + size
    if code in EXTENSION:
        length, at = _length(whole, at, EXTENSION[code])
        return _extension(whole, at, length, flat, depth)
    if 0xD4 <= code <= 0xD8:
        return _extension(whole, at, 1 << (code - 0xD4), flat, depth)
    if code in LONG:
        length, at = _length(whole, at, LONG[code])
    elif code <= 0x9F:
        length = code & 0x0F
    elif code <= 0xBF:
        length = code & 0x1F
    else:
        raise ValueError(f"a byte {code:#x} that begins nothing")
    if code in (0xC4, 0xC5, 0xC6):
        return _bytes(whole, at, length), at + length
    if 0xA0 <= code <= 0xBF or code in (0xD9, 0xDA, 0xDB):
        return str(_bytes(whole, at, length), "utf-8"), at + length
    if code <= 0x8F or code in (0xDE, 0xDF):
        return _map(whole, at, length, flat, depth)
    found = []
    for _ in range(length):
        value, at = _value(whole, at, flat, depth + 1)
        found.append(value)
    return found, at


def _map(whole: memoryview, at: int, length: int, flat: Flat, depth: int) -> tuple[Any, int]:
    found: dict[str, Any] = {}
    for _ in range(length):
        name, at = _value(whole, at, flat, depth + 1)
        if not isinstance(name, str) or name in found:
            raise ValueError(f"a map has {str(name)[:40]!r} for a name, or twice")
        found[name], at = _value(whole, at, flat, depth + 1)
    return (_joined(found) if CHUNKED in found else found), at


def _extension(whole: memoryview, at: int, length: int, flat: Flat, depth: int) -> tuple[Any, int]:
    kind, at = whole[at], at + 1
    inside = _bytes(whole, at, length)
    if kind not in (ARRAY, COMPLEX, SCALAR):
        raise ValueError(f"an extension of kind {kind}, which Flax does not write")
    packed, end = _value(inside, 0, flat, depth + 1)
    if end != length or not isinstance(packed, list):
        raise ValueError("an array that is none")
    if kind == COMPLEX:
        return tuple(packed), at + length
    shape, name, data = packed
    name = name if isinstance(name, str) else str(name, "ascii")
    if name not in KINDS or not isinstance(shape, list) or not isinstance(data, memoryview):
        raise ValueError(f"an array of {name[:40]!r}, which no weights are")
    return flat(data, KINDS[name], _count(shape)).reshape(shape), at + length


def _joined(found: dict[str, Any]) -> Tensor:
    """An array from its pieces, which are flat."""
    shape, pieces = ([found[key][str(n)] for n in range(len(found[key]))] for key in ("shape", "chunks"))
    if sum(piece.numel() for piece in pieces) != _count(shape):
        raise ValueError(f"an array of shape {tuple(shape)} in pieces that are another")
    return torch.cat(pieces).reshape(shape)


def _count(shape: list[Any]) -> int:
    """How many numbers a shape holds."""
    count = 1
    for n in shape:
        if type(n) is not int or not 0 <= n < 2**48:
            raise ValueError(f"a shape with {str(n)[:40]!r} in it")
        count *= n
    return count


def _length(whole: memoryview, at: int, size: int) -> tuple[int, int]:
    return int.from_bytes(_bytes(whole, at, size), "big"), at + size


def _bytes(whole: memoryview, at: int, length: int) -> memoryview:
    if at + length > len(whole):
        raise ValueError(f"it is cut short at byte {at}")
    return whole[at : at + length]
