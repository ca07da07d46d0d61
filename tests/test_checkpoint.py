"""A checkpoint reads back equal, survives being killed anywhere, and says what is wrong in one line."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from limner import checkpoint
from limner.errors import LimnerError


@dataclass(frozen=True, kw_only=True)
class Vit:
    patch: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Resnet:
    blocks: tuple[int, ...]
    stem: int | None


@dataclass(frozen=True, kw_only=True)
class Config:
    image: Vit | Resnet
    kind: Literal["cosine", "linear"]
    rates: tuple[float, float]
    levels: tuple[Vit, ...]
    scale: float
    causal: bool
    name: str | None


@dataclass(frozen=True, kw_only=True)
class Loose:
    value: Any


WHOLE = st.integers(-(2**53), 2**53)
REAL = st.floats(allow_nan=False, allow_infinity=False)
VITS = st.builds(Vit, patch=WHOLE, width=WHOLE)
RESNETS = st.builds(Resnet, blocks=st.lists(WHOLE, max_size=4).map(tuple), stem=st.none() | WHOLE)
CONFIGS = st.builds(
    Config,
    image=VITS | RESNETS,
    kind=st.sampled_from(["cosine", "linear"]),
    rates=st.tuples(REAL, REAL),
    levels=st.lists(VITS, max_size=3).map(tuple),
    scale=REAL,
    causal=st.booleans(),
    name=st.none() | st.text(),
)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]
CONFIG = Vit(patch=4, width=8)


def drawn(shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))) * 3).abs().to(dtype)


TENSORS = st.builds(drawn, st.lists(st.integers(0, 4), max_size=4), st.sampled_from(DTYPES))


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(tmp_path / "run", {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}, CONFIG)
    return tmp_path / "run"


@given(config=CONFIGS, state=st.dictionaries(st.text(min_size=1, max_size=9), TENSORS, max_size=4))
def test_round_trip(tmp_path_factory, config, state):
    folder = tmp_path_factory.mktemp("round") / "trip"
    checkpoint.save(folder, state, config)
    again, tensors = checkpoint.load(folder, Config)
    assert again == config
    assert type(again.image) is type(config.image)
    assert type(again.rates) is tuple
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_dtype_converts_only_floating_point(tmp_path):
    state = {"weight": torch.randn(3), "steps": torch.tensor(2**40)}
    checkpoint.save(tmp_path, state, CONFIG, dtype=torch.bfloat16)
    _, tensors = checkpoint.load(tmp_path, Vit)
    assert torch.equal(tensors["weight"], state["weight"].bfloat16())
    assert torch.equal(tensors["steps"], state["steps"])


@given(
    rows=st.integers(1, 5), columns=st.integers(1, 40), seed=st.integers(0, 1000), size=st.floats(1e-6, 1e6)
)
def test_a_coarse_tensor_is_off_by_half_a_step_at_most(tmp_path_factory, rows, columns, seed, size):
    folder = tmp_path_factory.mktemp("coarse")
    generator = torch.Generator().manual_seed(seed)
    state = {"a": size * torch.randn(rows, columns, 2, generator=generator), "b": torch.randn(3, 3)}
    state["a"][0] = 0
    checkpoint.save(folder, state, CONFIG, dtype=torch.bfloat16, coarse=["a"])
    _, loaded = checkpoint.load(folder, type(CONFIG))
    assert loaded["b"].dtype == torch.bfloat16
    assert loaded.keys() == state.keys()
    largest = state["a"].abs().amax(dim=(1, 2), keepdim=True)
    assert ((loaded["a"] - state["a"]).abs() <= largest / 253.9).all()
    # Rounding what is rounded already changes nothing.
    again = tmp_path_factory.mktemp("again")
    checkpoint.save(again, loaded, CONFIG, coarse=["a"])
    torch.testing.assert_close(checkpoint.load(again, type(CONFIG))[1]["a"], loaded["a"])


def test_coarse_tensors_take_a_quarter(tmp_path):
    state = {"a": torch.randn(256, 256)}
    checkpoint.save(tmp_path / "whole", state, CONFIG)
    checkpoint.save(tmp_path / "coarse", state, CONFIG, coarse=["a"])
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "coarse")]
    assert sizes[1] < 0.27 * sizes[0]


def test_large_weights_with_rows_are_those_that_may_be_coarse(tmp_path):
    state = {
        "a.weight": torch.randn(128, 128),
        "kernel.weight": torch.randn(64, 64, 3, 3),
        "small.weight": torch.randn(127, 129),
        "long.weight": torch.randn(2**15),
        "axes": torch.randn(256, 256),
    }
    assert checkpoint.matrices(state) == ["a.weight", "kernel.weight"]
    checkpoint.save(tmp_path, state, CONFIG, dtype=torch.bfloat16, coarse=checkpoint.matrices(state))
    _, loaded = checkpoint.load(tmp_path, type(CONFIG))
    off = (loaded["kernel.weight"] - state["kernel.weight"]).abs().amax(dim=(1, 2, 3))
    assert (off <= state["kernel.weight"].abs().amax(dim=(1, 2, 3)) / 254 + 1e-6).all()


def test_what_cannot_be_coarse_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"coarse: a is torch\.float32 of shape \(3,\)"):
        checkpoint.save(tmp_path, {"a": torch.ones(3)}, CONFIG, coarse=["a"])
    checkpoint.save(tmp_path, {"a": torch.ones(3, 3)}, CONFIG)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | {"coarse": ["a"]}))
    with pytest.raises(LimnerError, match='"coarse" tensors that model'):
        checkpoint.load(tmp_path, type(CONFIG))


def test_tied_weights_are_stored_once_and_views_apart(tmp_path):
    whole = torch.randn(100, 100)
    state = {"embedding": whole, "head": whole, "column": whole[:, 1], "upper": whole[:50], "turned": whole.T}
    checkpoint.save(tmp_path, state, CONFIG)
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * (10_000 + 100 + 5_000 + 10_000) + 2_000
    _, tensors = checkpoint.load(tmp_path, Vit)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())
    assert tensors["head"].data_ptr() == tensors["embedding"].data_ptr()


@pytest.mark.parametrize("aliases", [{"a": "none"}, {"a": 5}, {"a": ["b"]}, [1], "ab", 5, None])
def test_aliases_that_are_none_are_refused(folder, aliases):
    path = folder / checkpoint.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"aliases": aliases}))
    with pytest.raises(LimnerError, match=r"config\.json has \"aliases\" that are no names of tensors"):
        checkpoint.load(folder, type(CONFIG))


def test_views_of_one_memory_in_other_shapes_are_kept_apart(tmp_path):
    """Each of them all of it."""
    whole = torch.arange(12.0)
    state = {"flat": whole, "wide": whole.view(3, 4), "turned": whole.view(3, 4).T}
    checkpoint.save(tmp_path, state, CONFIG)
    _, found = checkpoint.load(tmp_path, type(CONFIG))
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_config_json_is_for_people(folder):
    described = json.loads((folder / "config.json").read_text())
    assert described["config"] == {"patch": 4, "width": 8}
    assert {"limner", "room", "sha256"} < described.keys()


def test_digest_follows_the_weights_not_the_config(tmp_path):
    state = {"a": torch.ones(2)}
    checkpoint.save(tmp_path / "1", state, CONFIG)
    checkpoint.save(tmp_path / "2", state, Vit(patch=1, width=1))
    checkpoint.save(tmp_path / "3", {"a": torch.zeros(2)}, CONFIG)
    one, two, three = (checkpoint.digest(tmp_path / name) for name in "123")
    assert one == two != three
    assert len(one) == 12


# ── being killed ────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs, not even the clearing up."""


@pytest.mark.parametrize("fresh", [True, False])
def test_killed_at_any_change_to_the_folder_one_of_the_two_loads(tmp_path, monkeypatch, fresh):
    """Each os call of a save is the last one, in turn; the folder then holds the old or the new, whole."""
    old, new = {"a": torch.zeros(5)}, {"a": torch.ones(5)}
    outcomes = []
    for last in range(20):
        folder = tmp_path / str(last)
        if not fresh:
            checkpoint.save(folder, old, Vit(patch=0, width=0))
        calls = 0
        with monkeypatch.context() as patch:

            def dying(name, real, last=last, patch=patch):
                def call(*args, **kwargs):
                    nonlocal calls
                    if calls == last:
                        raise Killed(name)
                    calls += 1
                    return real(*args, **kwargs)

                patch.setattr(os, name, call)

            for name in ("replace", "fsync"):
                dying(name, getattr(os, name))
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            try:
                checkpoint.save(folder, new, Vit(patch=1, width=1))
                finished = True
            except Killed:
                finished = False
        try:
            config, tensors = checkpoint.load(folder, Vit)
            assert torch.equal(tensors["a"], torch.full((5,), float(config.patch)))
            outcomes.append(config.patch)
        except LimnerError:
            assert fresh, "the old checkpoint was lost"
            outcomes.append(0)
        checkpoint.save(folder, new, Vit(patch=1, width=1))
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
        if finished:
            break
    assert finished
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {0, 1}


def test_a_failed_save_leaves_the_old_one_and_nothing_else(folder, monkeypatch):
    before = checkpoint.digest(folder)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LimnerError, match="No space left on device"):
        checkpoint.save(folder, {"a": torch.zeros(1)}, CONFIG)
    assert checkpoint.digest(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_other_files_in_the_folder_stay(folder):
    (folder / "notes.txt").write_text("mine")
    checkpoint.save(folder, {"a": torch.zeros(1)}, CONFIG)
    assert (folder / "notes.txt").read_text() == "mine"


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────────


@given(data=st.data())
def test_a_cut_or_changed_weights_file_is_never_loaded(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    checkpoint.save(folder, {"a": torch.arange(20.0)}, CONFIG)
    path = folder / "model.safetensors"
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        whole[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
    with pytest.raises(LimnerError, match=r"model.safetensors is damaged"):
        checkpoint.load(folder, Vit)


def test_without_a_hash_the_file_still_has_to_be_whole(folder):
    described = json.loads((folder / "config.json").read_text())
    del described["sha256"]
    (folder / "config.json").write_text(json.dumps(described))
    checkpoint.load(folder, Vit)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(LimnerError, match="not a whole safetensors file"):
        checkpoint.load(folder, Vit)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"config": {"patch": 4}}', "width"),
        ('{"config": {"patch": 4, "width": 8, "depth": 2}}', "depth"),
        ('{"config": {"patch": "four", "width": 8}}', "patch"),
        ('{"config": [4, 8]}', 'has no "config"'),
        ("[]", 'has no "config"'),
        ('{"config"', "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_a_wrong_config_says_so_in_one_line(folder, config, message):
    (folder / "config.json").write_text(config)
    with pytest.raises(LimnerError, match=message) as caught:
        checkpoint.load(folder, Vit)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_config_of_another_room(folder):
    with pytest.raises(LimnerError, match="does not hold a Resnet"):
        checkpoint.load(folder, Resnet)


def test_missing_things_are_named(folder, tmp_path):
    with pytest.raises(LimnerError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "nowhere", Vit)
    (folder / "model.safetensors").unlink()
    with pytest.raises(LimnerError, match=r"model.safetensors is missing"):
        checkpoint.digest(folder)
    (folder / "config.json").unlink()
    with pytest.raises(LimnerError, match=r"config.json is missing"):
        checkpoint.load(folder, Vit)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LimnerError, match="cannot write the checkpoint"):
        checkpoint.save(tmp_path / "file" / "run", {}, CONFIG)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, (1, 2), torch.float32])
def test_a_config_that_would_not_read_back_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"^config "):
        checkpoint.save(tmp_path / "run", {}, Loose(value=value))
    with pytest.raises(ValueError, match="give an instance of a dataclass"):
        checkpoint.save(tmp_path / "run", {}, Vit)
    assert not (tmp_path / "run").exists()


# ── into a module ───────────────────────────────────────────────────────────────────────────────────────


def test_load_into_copies_and_converts():
    module = nn.Linear(3, 2)
    state = {"weight": torch.randn(2, 3).bfloat16(), "bias": torch.randn(2).bfloat16()}
    checkpoint.load_into(module, state)
    assert module.weight.dtype == torch.float32
    assert torch.equal(module.weight, state["weight"].float())


def test_load_into_names_every_disagreement():
    before = (module := nn.Linear(3, 2)).weight.clone()
    with pytest.raises(LimnerError) as caught:
        checkpoint.load_into(module, {"weight": torch.ones(3, 2), "scale": torch.ones(1)})
    assert str(caught.value) == (
        "the weights do not fit this Linear: "
        "missing: bias; unexpected: scale; shapes: weight is (3, 2), not (2, 3)"
    )
    assert torch.equal(module.weight, before)
