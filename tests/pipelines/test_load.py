"""Loading a painter: what is missing, damaged or of another family is said in one line."""

import dataclasses
import json
import shutil

import pytest
import torch

import limner
from limner import checkpoint
from limner.errors import LimnerError
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.dalle2_parts import PARTS, digest
from limner.pipelines.devices import device_named
from limner.weights import shipped


@pytest.fixture
def copy(line, tmp_path):
    return shutil.copytree(line, tmp_path / "line")


def test_weights_come_as_float32_ready_to_paint(line, painter):
    again = limner.load("dalle2", weights=line)
    assert isinstance(again, Dalle2)
    assert again.digest == painter.digest
    for part in PARTS:
        network = getattr(again, part)
        assert not network.training
        for parameter in network.parameters():
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad
            assert torch.equal(parameter, parameter.bfloat16().float())


def test_the_digest_is_of_all_four_parts_and_their_order(line, copy):
    assert digest(copy) == digest(line)
    assert len(digest(line)) == 12
    config, state = checkpoint.load(copy / "prior", type(Dalle2.load(line).prior.config))
    state["query"] = state["query"] + 1
    checkpoint.save(copy / "prior", state, config)
    assert digest(copy) != digest(line)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(LimnerError, match=r"no weights at .*/none: give a folder that holds clip, prior"):
        limner.load("dalle2", weights=tmp_path / "none")


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(copy, part):
    shutil.rmtree(copy / part)
    with pytest.raises(LimnerError, match=f"line/{part}"):
        Dalle2.load(copy)


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_part_is_named(copy, part):
    weights = copy / part / checkpoint.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(LimnerError, match=f"line/{part}/.*damaged"):
        Dalle2.load(copy)


def test_the_wrong_part_in_a_place_is_named(copy):
    shutil.rmtree(copy / "prior")
    shutil.copytree(copy / "clip", copy / "prior")
    with pytest.raises(LimnerError, match="line/prior"):
        Dalle2.load(copy)


def test_parts_of_different_families_are_refused(copy, painter):
    config = dataclasses.replace(painter.prior.config, embedding=8)
    checkpoint.save(copy / "prior", type(painter.prior)(config).state_dict(), config)
    with pytest.raises(LimnerError, match="the prior's embedding is 8 where 16 is needed"):
        Dalle2.load(copy)


def test_a_config_of_nonsense_is_refused(copy):
    path = copy / "decoder" / checkpoint.CONFIG
    described = json.loads(path.read_text())
    del described["config"]["resolution"]
    path.write_text(json.dumps(described))
    with pytest.raises(LimnerError, match=r"line/decoder/config\.json"):
        Dalle2.load(copy)


def test_devices_by_name():
    assert device_named("cpu") == torch.device("cpu")
    assert device_named("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "meta", "cuda:99"):
        with pytest.raises(ValueError, match=f"^device is '{name}': this machine offers auto, cpu"):
            device_named(name)


def test_what_does_not_ship_is_said_with_the_remedy():
    with pytest.raises(LimnerError, match=r"^no weights for dalle9 in this copy of limner: .*--weights"):
        shipped("dalle9")


def test_what_ships_loads():
    try:
        folder = shipped("dalle2")
    except LimnerError:
        pytest.skip("this copy ships no weights")
    assert limner.load("dalle2").digest == digest(folder)


def prior_with_context(tiny, folder, context):
    """Another prior in the line's place, with so many places for a caption."""
    network, config = tiny.configs()["prior"]
    parts = {"prior": (network, dataclasses.replace(config, context=context))}
    shutil.rmtree(folder / "prior")
    tiny.save(folder, parts, seed=0)


def test_a_prior_with_room_for_longer_captions_than_clip_reads(tiny, copy):
    prior_with_context(tiny, copy, tiny.CONTEXT + 8)
    assert len(Dalle2.load(copy).paint("a red apple", size=64, seed=0)) == 1
    prior_with_context(tiny, copy, tiny.CONTEXT - 8)
    with pytest.raises(LimnerError, match=r"the prior's context is 24 where 32 is needed"):
        Dalle2.load(copy)


@pytest.mark.parametrize(
    ("part", "keys", "value"),
    [
        ("prior", ("heads",), 0),
        ("prior", ("heads",), -1),
        ("decoder", ("unet", "head_width"), -1),
        ("decoder", ("unet", "channels"), -1),
        ("decoder", ("unet", "head_width"), 0),
        ("clip", ("text", "vocabulary"), -1),
    ],
)
def test_sizes_that_make_no_network_are_named(copy, part, keys, value):
    path = copy / part / checkpoint.CONFIG
    said = json.loads(path.read_text())
    inside = said["config"]
    for key in keys[:-1]:
        inside = inside[key]
    assert keys[-1] in inside
    inside[keys[-1]] = value
    path.write_text(json.dumps(said))
    with pytest.raises(LimnerError, match=f"line/{part}/config.json "):
        Dalle2.load(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_named(copy, line, value):
    config, state = checkpoint.load(copy / "decoder", type(Dalle2.load(line).decoder.config))
    name = "unet.head.weight"
    state[name].view(-1)[1] = value
    checkpoint.save(copy / "decoder", state, config)
    with pytest.raises(LimnerError, match=rf"decoder/model\.safetensors holds not a finite .* in {name}:"):
        Dalle2.load(copy)


def test_a_config_without_a_bottom_is_none(copy):
    (copy / "decoder" / checkpoint.CONFIG).write_text("[" * 100_000)
    assert not checkpoint.is_ours(copy / "decoder")
    with pytest.raises(LimnerError, match=r"decoder/config\.json is not JSON"):
        Dalle2.load(copy)
