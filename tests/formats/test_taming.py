"""Taming's VQGANs and min-dalle's detoker by names and shapes; what is asked of a VQGAN at its doors."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.errors import LimnerError
from limner.formats import FORMATS, taming
from limner.formats.contents import Contents
from limner.formats.format import Assumptions
from limner.vqgan import VqGanConfig
from limner.vqgan.model import f16, gumbel_f8

KEYS = Path(__file__).parent / "keys"
HALVES = "openai_dvae_encoder", "openai_dvae_decoder"


def published(name: str) -> Contents:
    shapes = json.loads((KEYS / f"{name}.json").read_text())
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    return Contents(path=Path(name), kind="", tensors=tensors, settings={}, said={}, size=0)


@pytest.mark.parametrize(
    ("name", "config", "tensors", "parameters"),
    [
        ("taming_vqgan_f16_1024", f16(1024), 343, 72_141_699),
        ("taming_vqgan_f16_16384", f16(16_384), 343, 76_073_859),
        ("taming_vqgan_gumbel_f8_8192", gumbel_f8(), 301, 68_995_971),
        ("flax_vqgan_f16_16384", replace(f16(16_384), pixels="unit"), 343, 76_073_859),
        ("min_dalle_detoker", replace(f16(16_384), pixels="unit"), 197, 46_709_891),
    ],
)
def test_every_tensor_has_one_place(name: str, config: VqGanConfig, tensors: int, parameters: int) -> None:
    """Flax's names are those of taming's by the rules of its published converter."""
    contents = published(name)
    (one,) = [one for one in FORMATS if one.fits(contents)]
    (part,) = one.read(contents, Assumptions()).parts
    assert part.config == config
    assert (part.taken.missing, part.taken.wrong, part.taken.unused) == ((), (), ())
    places = taming.detoker_places if name == "min_dalle_detoker" else taming.places
    uses = Counter(theirs for place in places(config) for theirs in place.theirs)
    assert set(uses.values()) == {1}
    assert len(uses) == len(contents.tensors) == tensors
    assert part.parameters == parameters


def test_what_a_training_leaves_beside_is_passed_over_and_nothing_else_is() -> None:
    contents = published("taming_vqgan_f16_1024")
    more = {"loss.logvar": torch.empty(()), "quantize.used": torch.empty(3)}
    (part,) = taming.read(replace(contents, tensors={**contents.tensors, **more}), Assumptions()).parts
    assert part.taken.unused == ("quantize.used",)


def test_maps_of_segments_are_no_pictures() -> None:
    contents = published("taming_vqgan_f16_1024")
    stem = {"encoder.conv_in.weight": torch.empty(128, 182, 3, 3, device="meta")}
    with pytest.raises(LimnerError, match="sees 182 channels"):
        taming.read(replace(contents, tensors={**contents.tensors, **stem}), Assumptions())
