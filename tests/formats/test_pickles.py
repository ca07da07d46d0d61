"""The reader of pickles: what is on the list is read as torch reads it, whatever else is named is refused."""

import argparse
import collections
import contextlib
import io
import pickle
import pickletools
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.errors import LimnerError
from limner.formats.files import not_finite, read, run
from limner.formats.pickles import KNOWN, Reader, Storage, tensors_in


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


@given(st.binary(max_size=300))
def test_no_program_gets_further_than_an_error(program):
    """Any bytes at all: they make plain values or the one error that files are refused with."""
    with contextlib.suppress(LimnerError):
        run(Path("x"), io.BytesIO(program), nowhere)


@given(st.lists(st.sampled_from([op.code.encode("latin-1") for op in pickletools.opcodes]), max_size=60))
def test_no_order_of_opcodes_does_either(opcodes):
    with contextlib.suppress(LimnerError):
        run(Path("x"), io.BytesIO(b"".join(opcodes)), nowhere)


def test_what_is_known_touches_nothing_outside():
    """Every function on the list is a type of values, a name of one, or ours."""
    for name, function in KNOWN.items():
        ours = getattr(function, "__module__", "") == "limner.formats.pickles"
        assert (
            ours
            or isinstance(function, torch.dtype)
            or function in (*(collections.OrderedDict, tuple, set, object, complex),)
        ), name


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
    assert len(tensors_in(deep)) == 1


def test_numbers_that_are_none_are_found():
    tensors = {
        "good": torch.ones(3),
        "whole": torch.tensor([1, 2]),
        "none": torch.empty(0),
        "half": torch.tensor([1.0, float("inf")]).half(),
        "bad": torch.tensor([[1.0, float("nan")]]),
    }
    assert not_finite(tensors) == ["half", "bad"]


def test_readers_run_nothing_at_all():
    """The plainest attack, straight at the reader."""
    program = b"cos\nsystem\n(S'echo ran'\ntR."
    with pytest.raises(LimnerError, match=r"asks for 'os\.system'"):
        Reader(io.BytesIO(program), nowhere).load()
    assert isinstance(Storage(torch.zeros(1)).numbers, Tensor)
