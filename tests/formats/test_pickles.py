"""The reader of pickles: what is on the list is read as torch reads it, whatever else is named is refused."""

import argparse
import collections
import contextlib
import io
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from limner.errors import LimnerError
from limner.formats.files import not_finite, read
from limner.formats.pickles import BROKEN, KNOWN, Name, Storage, load, tensors_in


def kept(content: Any, folder: Path, *, newer: bool = True) -> Path:
    path = folder / "x"
    torch.save(content, path, _use_new_zipfile_serialization=newer)
    return path


def nowhere(_dtype: torch.dtype, _key: str, _count: int) -> Storage:
    raise AssertionError("no tensor is expected")


@given(
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from(
        [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
    ),
    st.booleans(),
    st.booleans(),
)
def test_tensors_of_any_shape_and_type_come_back(tmp_path_factory, shape, dtype, turned, newer):
    tensor = (torch.randn(shape) * 5).to(dtype)
    tensor = tensor.transpose(0, -1) if turned and shape else tensor
    path = kept({"a": {"b": tensor}, "c": [1, 2]}, tmp_path_factory.mktemp("any"), newer=newer)
    found = read(path)
    assert list(found.tensors) == ["a.b"]
    assert found.tensors["a.b"].dtype == dtype
    assert torch.equal(found.tensors["a.b"], tensor)
    assert found.said == {"c": [1, 2]}


@pytest.mark.parametrize("newer", [True, False])
def test_views_of_one_storage_stay_views(tmp_path, newer):
    whole = torch.arange(12.0)
    found = read(
        kept({"whole": whole, "row": whole.view(3, 4)[1], "step": whole[::3]}, tmp_path, newer=newer)
    ).tensors
    assert found["row"].tolist() == [4, 5, 6, 7]
    assert found["step"].tolist() == [0, 3, 6, 9]
    assert found["row"].untyped_storage().data_ptr() == found["whole"].untyped_storage().data_ptr()


def test_an_archive_is_read_where_it_lies(tmp_path):
    """Nothing is copied: what is written into a tensor stays in memory, and the file as it was."""
    path = kept({"a": torch.zeros(1000)}, tmp_path)
    before = path.read_bytes()
    read(path).tensors["a"].fill_(1)
    assert path.read_bytes() == before
    assert read(path).tensors["a"].sum() == 0


@pytest.mark.parametrize("newer", [True, False])
def test_networks_that_were_pickled_whole_are_their_tensors(tmp_path, newer):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2)), nn.GELU())
    found = read(kept({"model": network, "epoch": 7}, tmp_path, newer=newer))
    wanted = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    assert found.tensors.keys() == wanted.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in wanted.items())
    assert found.said["epoch"] == 7


def test_what_trainings_carry_along_is_words_and_numbers(tmp_path):
    content = {
        "hparams": argparse.Namespace(dim=64, names=["a", "b"]),
        "order": collections.OrderedDict(x=1.5, deep={"er": {"still": True}}),
        "where": Path("a/b"),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}},
        "dtype": torch.float16,
        "shape": torch.Size([2, 3]),
        "some": {1, 2},
    }
    found = read(kept(content, tmp_path))
    assert found.said["hparams"] == {"dim": 64, "names": ["a", "b"]}
    assert found.said["order"] == {"x": 1.5, "deep": {"er": {"still": True}}}
    assert list(found.tensors) == ["optimizer.state.0.step"]


class Elsewhere:
    """Some class of somebody's."""


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (subprocess.run, "run"),
        (eval, "eval"),
        (__import__, "__import__"),
        (pickle.loads, "loads"),
        (torch.load, "torch.serialization.load"),
        (nn.functional.relu, "torch.nn.functional.relu"),
        (Elsewhere(), "Elsewhere"),
    ],
)
@pytest.mark.parametrize("newer", [True, False])
def test_any_other_name_is_refused_by_name(tmp_path, content, name, newer, monkeypatch):
    monkeypatch.setattr(Elsewhere, "__module__", "somewhere")
    monkeypatch.setitem(__import__("sys").modules, "somewhere", argparse.Namespace(Elsewhere=Elsewhere))
    with pytest.raises(LimnerError, match=rf"is refused: it asks for '[\w.]*{name}', which is not among"):
        read(kept({"a": content}, tmp_path, newer=newer))


def archive(program: bytes, folder: Path) -> Path:
    """A torch archive with this program, and one storage of four numbers."""
    path = folder / "x"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("x/data.pkl", program)
        made.writestr("x/data/0", bytes(16))
    return path


TENSOR = (
    pickle.PROTO
    + b"\x02"
    + (
        b"ctorch._utils\n_rebuild_tensor_v2\n(((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nK\x04tQK\x00K\x04\x85K\x01\x85"
        b"\x89NtR"
    )
)


@given(st.binary(max_size=200), st.booleans())
def test_any_program_opens_or_is_refused_in_one_error(tmp_path_factory, program, after_a_tensor):
    """Any bytes at all, alone or where they may do something to a tensor that is there already."""
    path = archive(TENSOR + program if after_a_tensor else program, tmp_path_factory.mktemp("any"))
    with contextlib.suppress(LimnerError):
        read(path)


@given(
    st.lists(
        st.sampled_from(
            [
                *(TENSOR, b"ccollections\nOrderedDict\n", b"K\x01", b"Vx\n", b"N", b"q\x00", b"h\x00"),
                *(bytes([one]) for one in b"(t}]suaebR\x81201\x85\x8f\x90)"),
            ]
        ),
        max_size=40,
    )
)
def test_no_order_of_instructions_does_more(tmp_path_factory, instructions):
    path = archive(b"".join(instructions) + b".", tmp_path_factory.mktemp("any"))
    with contextlib.suppress(LimnerError):
        for tensor in read(path).tensors.values():
            assert tensor.tolist() == [0, 0, 0, 0]


def test_a_tensor_cannot_be_rewritten(tmp_path):
    """`BUILD` would call a tensor's __setstate__, which may make it as large as it likes."""
    program = b"}Va\n" + TENSOR + TENSOR + b"K\x00J\x00\x00\x00\x10\x85K\x01\x85tb" + b"s."
    with pytest.raises(LimnerError, match="is damaged"):
        read(archive(program, tmp_path))
    simple = b"}Va\n" + TENSOR + b"}Vreal\nK\x07sb" + b"s."
    assert read(archive(simple, tmp_path)).tensors["a"].tolist() == [0, 0, 0, 0]


def test_functions_of_ours_cannot_be_rewritten(tmp_path):
    before = {name: (function.__defaults__, dict(function.__dict__)) for name, function in KNOWN.items()}
    program = b"ctorch._utils\n_rebuild_tensor_v2\n}V__defaults__\n(K\x01K\x02tsb."
    read(archive(program, tmp_path))
    assert {
        name: (function.__defaults__, dict(function.__dict__)) for name, function in KNOWN.items()
    } == before


@pytest.mark.parametrize(
    "program",
    [
        b"}" + b")" + b"\x85" * 200_000 + b"Ns.",  # a key that is nested so deep that hashing it would crash
        b"}" * 6000 + b".",
        b"}Va\n" * 6000 + b"}" + b"s" * 6000 + b".",  # dictionaries in dictionaries
        b"I" + b"9" * 6000 + b"\n.",  # a number of six thousand digits
        b"(" * 100_000 + b".",
        b"ctorch\nSize\n" + TENSOR + b"\x85R.",
        b"Q.",
        b"P1\n.",
    ],
)
def test_programs_that_would_crash_or_never_end(tmp_path, program):
    with pytest.raises(LimnerError, match="is damaged"):
        read(archive(program, tmp_path))


def test_a_tensor_of_one_number_is_not_a_tensor_of_many(tmp_path):
    """Stride zero makes as much of nothing as somebody likes."""
    path = tmp_path / "x"
    torch.save({"a": torch.zeros(1).expand(10**9)}, path)
    with pytest.raises(
        LimnerError, match=r"a tensor of shape \(1000000000,\) is more than the 1 numbers stored"
    ):
        read(path)


def test_what_is_known_is_ours_by_name():
    """Every function on the list does what is written in this one file, and there are not many."""
    written = {"_tensor", "_first", "_pairs", "_size", "_object", "_listed", "_nothing"}
    assert {function.__name__ for function in KNOWN.values()} == written
    assert {function.__module__ for function in KNOWN.values()} == {"limner.formats.pickles"}


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((5,), (1,), 0),
        ((2, 2), (3, 1), 0),
        ((1,), (1,), 4),
        ((2,), (-1,), 3),
        ((2,), (1, 1), 0),
        ((True,), (1,), 0),
    ],
)
def test_a_tensor_lies_within_its_storage(size, stride, offset):
    with pytest.raises(pickle.UnpicklingError):
        KNOWN["torch._utils._rebuild_tensor_v2"](Storage(torch.zeros(4)), offset, size, stride, False, None)


def test_nesting_without_end_ends():
    inside: dict[str, Any] = {"t": torch.zeros(2)}
    inside["again"] = inside
    assert list(tensors_in(inside)) == ["t"]
    deep: Any = torch.zeros(1)
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(pickle.UnpicklingError, match="nested more than 64 deep"):
        tensors_in(deep)


def test_numbers_that_are_none_are_found():
    tensors = {
        "good": torch.ones(3),
        "whole": torch.tensor([1, 2]),
        "none": torch.empty(0),
        "half": torch.tensor([1.0, float("inf")]).half(),
        "bad": torch.tensor([[1.0, float("nan")]]),
    }
    assert not_finite(tensors) == ["half", "bad"]


def test_the_plainest_attack(capfd):
    with pytest.raises(LimnerError, match=r"asks for 'os\.system'"):
        load(io.BytesIO(b"cos\nsystem\n(S'echo ran'\ntR."), nowhere)
    with pytest.raises(BROKEN):
        load(io.BytesIO(b"(S'a'\nS'b'\n."), nowhere)
    assert load(io.BytesIO(b"ctorch\nfloat16\n."), nowhere) == Name("torch.float16")
    assert capfd.readouterr().out == ""
