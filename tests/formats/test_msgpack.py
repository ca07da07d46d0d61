"""The reader of what Flax writes: everything comes back, and what is none is one line."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.errors import LimnerError
from limner.formats import msgpack
from limner.formats.files import read

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]


@given(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(DTYPES), st.integers(0, 300))
def test_arrays_of_any_shape_and_type_come_back(flax, tmp_path_factory, shape, dtype, length):
    tensor = (torch.randn(shape) * 5).to(dtype)
    name = "n" * (length + 1)
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(flax.packed({"a": {name: tensor}, "c": [1, 2]}))
    found = read(path)
    assert found.kind == "Flax msgpack"
    assert list(found.tensors) == [f"a.{name}"]
    assert found.tensors[f"a.{name}"].dtype == dtype
    assert torch.equal(found.tensors[f"a.{name}"], tensor)
    assert found.said == {"c": [1, 2]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
        lambda inside: st.lists(inside, max_size=20) | st.dictionaries(st.text(), inside, max_size=20),
        max_leaves=30,
    )
)
def test_plain_values_come_back(flax, value):
    """But for a map that says it is an array in pieces."""

    def none(_data: memoryview, _dtype: torch.dtype, _count: int) -> torch.Tensor:
        raise AssertionError("no array is expected")

    assert msgpack.load(memoryview(flax.packed(value)), none) == value


def test_many_names_and_long_ones(flax, tmp_path):
    tensors = {f"{'deep.' * (n % 5)}{n}": torch.full((2,), float(n)) for n in range(70)}
    (tmp_path / "x").write_bytes(flax.packed(flax.nested(tensors)))
    found = read(tmp_path / "x").tensors
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_an_array_in_pieces_is_one(flax, tmp_path):
    tensor = torch.randn(5, 7)
    (tmp_path / "x").write_bytes(flax.packed({"a": flax.chunked(tensor, 16)}))
    assert torch.equal(read(tmp_path / "x").tensors["a"], tensor)
    wrong = flax.chunked(tensor, 16) | {"shape": {"0": 5, "1": 8}}
    (tmp_path / "x").write_bytes(flax.packed({"a": wrong}))
    with pytest.raises(LimnerError, match=r"shape \(5, 8\) in pieces that are another"):
        read(tmp_path / "x")


def test_single_numbers_and_complex_ones(flax, tmp_path):
    scalar = flax.extension(3, flax.array(torch.tensor(2.5)))
    (tmp_path / "x").write_bytes(b"\x82" + flax.packed("a") + scalar + flax.packed("b") + flax.packed(1 + 2j))
    found = read(tmp_path / "x")
    assert found.tensors["a"].shape == ()
    assert float(found.tensors["a"]) == 2.5
    assert found.said == {"b": [1.0, 2.0]}


def test_what_is_written_into_an_array_stays_in_memory(flax, tmp_path):
    (tmp_path / "x").write_bytes(flax.packed({"a": torch.arange(64.0)}))
    before = (tmp_path / "x").read_bytes()
    read(tmp_path / "x").tensors["a"].fill_(9)
    assert (tmp_path / "x").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda _: b"\x81\xa1a", "cut short|index out of"),
        (lambda _: b"\x81\xa1a\xc1", "0xc1 that begins nothing"),
        (lambda _: b"\x82\xa1a\x01\xa1a\x02", "has 'a' for a name, or twice"),
        (lambda _: b"\x81\x05\x01", "has '5' for a name"),
        (lambda _: b"\xdf\xff\xff\xff\xff", "index out of|cut short"),
        (lambda _: b"\x81\xa1a\xc6\xff\xff\xff\xff", "cut short at byte 8"),
        (lambda flax: flax.packed({"a": 1}) + b"\x00", "1 bytes follow its end"),
        (lambda flax: b"\x81\xa1a" + flax.extension(7, b"xyz"), "an extension of kind 7"),
        (lambda flax: b"\x81\xa1a" + flax.extension(1, flax.packed(3)), "an array that is none"),
        (
            lambda flax: b"\x81\xa1a" + flax.extension(1, flax.packed(((2,), "float32", b"1234567"))),
            "2 numbers take 8 bytes, not 7",
        ),
        (
            lambda flax: b"\x81\xa1a" + flax.extension(1, flax.packed(((-2,), "float32", b"12345678"))),
            "a shape with '-2' in it",
        ),
        (
            lambda flax: b"\x81\xa1a" + flax.extension(1, flax.packed(((2,), "object", b"12345678"))),
            "an array of 'object'",
        ),
        (lambda _: b"\x81\xa1a" * 100 + b"\x01", "nested more than 64 deep"),
        (lambda _: b"\x81\xa1a" + b"\x91" * 100 + b"\x01", "nested more than 64 deep"),
        (lambda _: b"\x81\xa2\xff\xfe\x01", "codec can't decode"),
    ],
)
def test_what_is_none_is_refused_in_one_line(flax, tmp_path, content, says):
    (tmp_path / "x").write_bytes(content(flax))
    with pytest.raises(LimnerError, match=says) as caught:
        read(tmp_path / "x")
    assert str(caught.value).startswith(str(tmp_path / "x"))


@given(st.binary(max_size=200), st.sampled_from([*range(0x81, 0x90), 0xDE, 0xDF]))
def test_any_bytes_at_all_are_read_or_refused(tmp_path_factory, content, first):
    path = tmp_path_factory.mktemp("bytes") / "x"
    path.write_bytes(bytes([first]) + content)
    try:
        read(path)
    except LimnerError as error:
        assert str(path) in str(error)  # noqa: PT017 (most are refused, some are not)
