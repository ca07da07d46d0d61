"""Published checkpoints by the names and shapes of their tensors: each has one place, and none is left over.

`keys/` lists them as the authors' own classes make them; no weights, so what is read is on the meta device.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.clip.model import rn50, vit_b_32, vit_l_14
from limner.dalle_mini import mega, mini
from limner.dvae import DVaeConfig
from limner.dvae.model import paper
from limner.formats import FORMATS, dalle_mini, glide, huggingface_clip, openai_clip, openai_dvae
from limner.formats.contents import Contents
from limner.formats.format import Assumptions
from limner.glide.model import filtered, filtered_upsampler

KEYS = Path(__file__).parent / "keys"


def published(*names: str) -> Contents:
    """The files of one checkpoint, without their numbers."""
    files = []
    for name in names:
        shapes = json.loads((KEYS / f"{name}.json").read_text())
        tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        files.append(Contents(path=Path(name), kind="", tensors=tensors, settings={}, said={}, size=0))
    if len(files) == 1:
        return files[0]
    return Contents(path=Path(), kind="", tensors={}, settings={}, said={}, size=0, files=tuple(files))


@pytest.mark.parametrize(
    ("names", "room", "config", "count"),
    [
        (("openai_clip_RN50",), openai_clip, rn50(), 489),
        (("openai_clip_ViT-B-32",), openai_clip, vit_b_32(), 302),
        (("openai_clip_ViT-L-14",), openai_clip, vit_l_14(224), 446),
        (("hf_clip_ViT-B-32",), huggingface_clip, vit_b_32(), 398),
        (("openai_dvae_encoder", "openai_dvae_decoder"), openai_dvae, paper(), 150),
        (("openai_dvae_decoder", "openai_dvae_encoder"), openai_dvae, paper(), 150),
        (("min_dalle_mini_encoder", "min_dalle_mini_decoder"), dalle_mini, mini(), 469),
        (("min_dalle_mega_decoder", "min_dalle_mega_encoder"), dalle_mini, mega(), 925),
    ],
)
def test_every_tensor_has_one_place(names, room, config, count):
    contents = published(*names)
    assert room.FORMAT.fits(contents)
    found = room.FORMAT.read(contents, Assumptions())
    (part,) = found.parts
    assert part.config == config
    assert (part.taken.missing, part.taken.wrong, part.taken.unused) == ((), (), ())
    uses = Counter(name for place in room.places(config) for name in place.theirs)
    assert set(uses.values()) == {1}
    assert len(uses) == sum(len(one.tensors) for one in contents.each()) == count


def test_every_name_of_flax_has_one_place():
    """As a training of DALL-E mini prints them: 42 arrays, most of them stacks of twelve layers."""
    contents = published("flax_dalle_mini")
    assert len(contents.tensors) == 42
    found = dalle_mini.FORMAT.read(contents, Assumptions())
    (part,) = found.parts
    assert part.config == mini()
    assert (part.taken.missing, part.taken.wrong, part.taken.unused) == ((), (), ())
    # Three in each of the encoder's layers, four in each of the decoder's, and both of the last.
    assert "scales of 1 in 86 norms before projections, which were trained without" in found.assumed


@pytest.mark.parametrize("inpaint", [False, True])
@pytest.mark.parametrize(
    ("name", "config", "count"),
    [("glide_base", filtered(), 783), ("glide_upsample", filtered_upsampler(), 797)],
)
def test_every_tensor_of_glide_has_one_place(name, config, count, inpaint):
    """Those that mend have the same names, and four channels more to see."""
    contents = published(name)
    if inpaint:
        stem = contents.tensors["input_blocks.0.0.weight"]
        wider = torch.empty(len(stem), stem.shape[1] + 4, 3, 3, device="meta")
        contents = replace(contents, tensors={**contents.tensors, "input_blocks.0.0.weight": wider})
        backbone = replace(config.backbone, in_channels=config.backbone.in_channels + 4)
        config = replace(config, inpaint=True, backbone=backbone)
    (part,) = glide.FORMAT.read(contents, Assumptions()).parts
    # Dropout is for training, and in no weights.
    assert part.config == replace(config, backbone=replace(config.backbone, dropout=0.0))
    assert (part.taken.missing, part.taken.wrong, part.taken.unused) == ((), (), ())
    uses = Counter(name for place in glide.places(part.config) for name in place.theirs)
    assert set(uses.values()) == {1}
    assert len(uses) == len(contents.tensors) == count


@pytest.mark.parametrize(
    ("name", "count"), [("openai_clip_RN50", 102_007_137), ("openai_clip_ViT-B-32", 151_277_313)]
)
def test_parameters_are_those_that_are_published(name, count):
    (part,) = openai_clip.FORMAT.read(published(name), Assumptions()).parts
    assert part.parameters == count


def test_half_a_dvae_is_known_by_what_it_has():
    for name in ("openai_dvae_encoder", "openai_dvae_decoder"):
        found = openai_dvae.FORMAT.read(published(name), Assumptions()).parts[0]
        assert isinstance(found.config, DVaeConfig)
        assert (found.config.widths, found.config.vocabulary) == (paper().widths, 8192)
        assert found.taken.missing
        assert not found.taken.wrong


def test_no_format_takes_another_for_its_own():
    every = {
        "openai_clip_RN50": openai_clip,
        "openai_clip_ViT-B-32": openai_clip,
        "hf_clip_ViT-B-32": huggingface_clip,
        "openai_dvae_encoder": openai_dvae,
        "glide_base": glide,
        "glide_upsample": glide,
        "min_dalle_mini_encoder": dalle_mini,
        "min_dalle_mini_decoder": dalle_mini,
        "flax_dalle_mini": dalle_mini,
    }
    for name, room in every.items():
        fitting = [one for one in FORMATS if one.fits(published(name))]
        assert fitting == [room.FORMAT]
