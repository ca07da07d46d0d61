"""220 broken checkpoints of eleven kinds: each is one clear line, runs nothing and leaves nothing."""

import builtins
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from limner.cli import main
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.formats import opened, usable
from limner.formats.openai_clip import places
from limner.formats.places import give

EACH = 20
CONFIG = ClipConfig(
    vision=VisionConfig(resolution=16, patch=8, width=64, layers=1, heads=1),
    text=TextConfig(context=8, vocabulary=20, width=64, layers=1, heads=1),
    embedding=16,
    activation="quick_gelu",
)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A CLIP as OpenAI names it."""
    torch.manual_seed(0)
    return give(places(CONFIG), Clip(CONFIG).state_dict())


class Calling:
    """Pickled, it asks for a function to be called."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.given


def saved(state: Mapping[str, Tensor], path: Path, choose: random.Random) -> None:
    """In one of three ways."""
    way = choose.randrange(3)
    if way == 0:
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path, _use_new_zipfile_serialization=way == 1)


def cut_short(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    saved(state, path, choose)
    whole = path.read_bytes()
    path.write_bytes(whole[: choose.randrange(1, len(whole) - 30)])
    return ""


def a_bit_flipped_in_the_data(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        member = choose.choice(
            [one for one in archive.infolist() if one.file_size > 50 and "data/" in one.filename]
        )
    whole = bytearray(path.read_bytes())
    names = struct.unpack("<2H", whole[member.header_offset + 26 : member.header_offset + 30])
    start = member.header_offset + 30 + sum(names)
    whole[start + choose.randrange(member.file_size)] ^= 1 << choose.randrange(8)
    path.write_bytes(whole)
    return "check sum"


def a_bit_flipped_in_the_sizes(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    """The first eight bytes of a safetensors file say how long its header is."""
    save_file(state, path)
    whole = bytearray(path.read_bytes())
    whole[choose.randrange(8)] ^= 1 << choose.randrange(8)
    path.write_bytes(whole)
    return ""


def a_wrong_shape(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    # The width of an MLP is whatever its first layer says, and the others are then wrong.
    inner = [name for name in state if "resblocks" in name and state[name].ndim == 2 and "c_fc" not in name]
    name = choose.choice(inner)
    saved(state | {name: state[name][: choose.randrange(1, 63)].clone()}, path, choose)
    return name


def a_tensor_missing(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    name = choose.choice([name for name in state if "resblocks" in name or "ln_" in name])
    saved({other: tensor for other, tensor in state.items() if other != name}, path, choose)
    return name


def not_a_number(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    name = choose.choice([name for name in state if state[name].ndim])
    broken = state[name].clone()
    broken.view(-1)[choose.randrange(broken.numel())] = choose.choice(
        [float("nan"), float("inf"), -float("inf")]
    )
    saved(state | {name: broken}, path, choose)
    return "not a finite number"


def a_function_to_call(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    witness = path.parent / "witness"
    function, *given = choose.choice(
        [
            (os.system, f"touch {witness}"),
            (builtins.eval, f"open({str(witness)!r}, 'w')"),
            (builtins.exec, f"open({str(witness)!r}, 'w')"),
            (subprocess.getoutput, f"touch {witness}"),
            (shutil.rmtree, str(witness.parent)),
            (builtins.getattr, "", "join"),
            (torch.load, str(path)),
        ]
    )
    evil = state | {"extra": Calling(function, *given)}
    torch.save(evil, path, _use_new_zipfile_serialization=choose.random() < 0.5)
    return "is not among what limner reads"


def a_member_outside(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    torch.save(state, path)
    outside = choose.choice(["../../witness", "/tmp/witness", "archive/../../witness", "..\\witness"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(outside, "here")
    return "lies outside of it"


def no_checkpoint(_state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    """Nothing, noise, words, a picture's first bytes, a pickle of no tensors, another zip."""
    kind = choose.randrange(6)
    if kind == 5:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        return ""
    path.write_bytes(
        [
            b"",
            choose.randbytes(choose.randrange(1, 4000)),
            json.dumps({"weights": list(range(choose.randrange(1, 99)))}).encode(),
            b"\x89PNG\r\n\x1a\n" + choose.randbytes(100),
            pickle.dumps({"a": choose.random()}),
        ][kind]
    )
    return ""


def places_beyond_the_file(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    """A safetensors header that speaks of bytes which are not there, or of the same ones twice."""
    save_file(state, path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    name = choose.choice([name for name in header if name != "__metadata__"])
    begin, end = header[name]["data_offsets"]
    moved = choose.choice([10**9, 64, -begin - 4])
    header[name]["data_offsets"] = [begin + moved, end + moved]
    packed = json.dumps(header).encode()
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + whole[8 + length :])
    return ""


def flax_with_a_wrong_length(state: dict[str, Tensor], path: Path, choose: random.Random) -> str:
    """msgpack as Flax writes it, all lengths in four bytes, of which one is wrong, or its end."""
    lengths: list[int] = []
    whole = b""

    def headed(code: int, length: int, *more: int) -> None:
        nonlocal whole
        lengths.append(len(whole) + 1)
        whole += bytes([code]) + length.to_bytes(4, "big") + bytes(more)

    headed(0xDF, len(state))
    for name, tensor in state.items():
        headed(0xDB, len(name))
        whole += name.encode()
        data = tensor.numpy().tobytes()
        shape = b"".join(b"\xce" + n.to_bytes(4, "big") for n in tensor.shape)
        inside = b"\x93" + bytes([0x90 | tensor.ndim]) + shape + b"\xa7float32\xc6"
        headed(0xC9, len(inside) + 4 + len(data), 1)
        whole += inside
        lengths.append(len(whole))
        whole += len(data).to_bytes(4, "big") + data
    place = choose.choice(lengths)
    if choose.random() < 0.2:
        path.write_bytes(whole[: choose.randrange(5, len(whole))])
    else:
        wrong = int.from_bytes(whole[place : place + 4], "big") ^ 1 << choose.randrange(32)
        path.write_bytes(whole[:place] + wrong.to_bytes(4, "big") + whole[place + 4 :])
    return ""


KINDS = (
    cut_short,
    a_bit_flipped_in_the_data,
    a_bit_flipped_in_the_sizes,
    a_wrong_shape,
    a_tensor_missing,
    not_a_number,
    a_function_to_call,
    a_member_outside,
    no_checkpoint,
    places_beyond_the_file,
    flax_with_a_wrong_length,
)


@pytest.mark.parametrize("number", range(EACH))
@pytest.mark.parametrize("broken", KINDS, ids=lambda kind: kind.__name__)
def test_it_is_refused_in_one_line(
    broken: Callable[..., str],
    number: int,
    state: dict[str, Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "weights"
    says = broken(state, path, random.Random(f"{broken.__name__} {number}"))
    before = path.read_bytes()
    for arguments in (["open"], ["convert", "--out", str(tmp_path / "out")]):
        assert main([*arguments, str(path)]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("limner: ")
        assert errors.count("\n") == 1
        assert str(path) in errors
        assert says in errors
    # Nothing else is there: no witness, no folder half written.
    assert [one.name for one in tmp_path.iterdir()] == ["weights"]
    assert path.read_bytes() == before


def test_the_same_unbroken_is_opened(state: dict[str, Tensor], tmp_path: Path) -> None:
    for number in range(6):
        saved(state, tmp_path / "weights", random.Random(number))
        assert usable(opened(tmp_path / "weights")).complaints == []
