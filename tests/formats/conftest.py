"""What Flax writes, written here after its description: msgpack, arrays as an extension of kind 1."""

import importlib.util
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def tiny_karlo() -> ModuleType:
    """What stands in the file of that name."""
    path = Path(__file__).with_name("tiny_karlo.py")
    spec = importlib.util.spec_from_file_location("tiny_karlo", path)
    assert spec is not None
    assert spec.loader is not None
    tiny_karlo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny_karlo)
    return tiny_karlo


@pytest.fixture(scope="session")
def flax() -> ModuleType:
    """The functions below."""
    return sys.modules[__name__]


def packed(value: Any) -> bytes:
    """One value; maps, words and lists in the sizes that msgpack itself would choose."""
    if isinstance(value, Tensor):
        return extension(1, array(value))
    if isinstance(value, dict):
        inside = b"".join(packed(name) + packed(one) for name, one in value.items())
        return headed(len(value), 0x80, 15, None, 0xDE, 0xDF) + inside
    if isinstance(value, list | tuple):
        return headed(len(value), 0x90, 15, None, 0xDC, 0xDD) + b"".join(map(packed, value))
    if isinstance(value, str):
        data = value.encode()
        return headed(len(data), 0xA0, 31, 0xD9, 0xDA, 0xDB) + data
    if isinstance(value, bytes):
        return headed(len(value), None, -1, 0xC4, 0xC5, 0xC6) + value
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, complex):
        return extension(2, packed((value.real, value.imag)))
    if -32 <= value <= 127:
        return struct.pack(">b", value)
    unsigned = ((0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q"))
    signed = ((0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"), (0xD3, ">q"))
    for code, form in unsigned if value >= 0 else signed:
        bits = 8 * struct.calcsize(form)
        if value < 2**bits if value >= 0 else value >= -(2 ** (bits - 1)):
            return bytes([code]) + struct.pack(form, value)
    raise OverflowError(value)


def array(tensor: Tensor) -> bytes:
    """Shape, kind of numbers, bytes."""
    name = str(tensor.dtype).removeprefix("torch.")
    data = bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy().data) if tensor.numel() else b""
    return packed((tuple(tensor.shape), name, data))


def chunked(tensor: Tensor, size: int) -> dict[str, Any]:
    """An array that is too large for one extension, in pieces of a few numbers."""
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(n): length for n, length in enumerate(tensor.shape)},
        "chunks": {str(n): piece for n, piece in enumerate(tensor.flatten().split(size))},
    }


def extension(kind: int, data: bytes) -> bytes:
    short = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
    if len(data) in short:
        return bytes([short[len(data)], kind]) + data
    return headed(len(data), None, -1, 0xC7, 0xC8, 0xC9) + bytes([kind]) + data


def headed(count: int, fixed: int | None, most: int, one: int | None, two: int, four: int) -> bytes:
    """A length in the fewest bytes that it may take."""
    if fixed is not None and count <= most:
        return bytes([fixed | count])
    if one is not None and count < 2**8:
        return bytes([one, count])
    return (
        bytes([two]) + struct.pack(">H", count) if count < 2**16 else bytes([four]) + struct.pack(">I", count)
    )


def nested(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Maps within maps from names with dots."""
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *folders, last = name.split(".")
        here = found
        for folder in folders:
            here = here.setdefault(folder, {})
        here[last] = tensor
    return found


def stacked(halves: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """DALL-E mini's halves by Flax's names, in the order of making: layers stacked, kernels turned."""
    names = {
        "pre_self_attn_layer_norm": "LayerNorm_0",
        "self_attn_layer_norm": "LayerNorm_1",
        "pre_encoder_attn_layer_norm": "LayerNorm_2",
        "encoder_attn_layer_norm": "LayerNorm_3",
        "self_attn": "FlaxBartAttention_0",
        "encoder_attn": "FlaxBartAttention_1",
        "glu": "GLU_0",
        **{"ln0": "LayerNorm_0", "ln1": "LayerNorm_1", "fc0": "Dense_0", "fc1": "Dense_1", "fc2": "Dense_2"},
    }
    found: dict[str, Tensor] = {}
    stacks: dict[str, list[Tensor]] = {}
    for half, tensors in halves.items():
        layers = sorted(tensors, key=lambda name: (not name.startswith("layers."), len(name), name))
        for name in layers:
            *path, end = name.split(".")
            tensor = tensors[name]
            if end == "weight":
                kernel = path[-1] == "lm_head" or path[-1].endswith("_proj") or path[-1].startswith("fc")
                end = "kernel" if kernel else "embedding" if path[-1].startswith("embed") else "scale"
                tensor = tensor.T if kernel else tensor
            if path[0] == "layers":
                inside = ".".join(names.get(one, one) for one in path[2:])
                stack = f"model.{half}.layers.FlaxBart{half.title()}Layers.{inside}.{end}"
                stacks.setdefault(stack, []).append(tensor)
            elif path[0] == "lm_head":
                found["lm_head.kernel"] = tensor
            else:
                found[f"model.{half}.{'.'.join(path)}.{end}"] = tensor
    return found | {name: torch.stack(one) for name, one in stacks.items()}
