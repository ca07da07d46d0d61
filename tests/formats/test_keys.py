"""Published checkpoints by the names and shapes of their tensors: each has one place, and none is left over.

`keys/` lists them as the authors' own classes make them; no weights, so what is read is on the meta device.
"""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.clip import ClipConfig, TextConfig, TextWithProjectionConfig, VisionConfig
from limner.clip.model import rn50, vit_b_32, vit_l_14
from limner.dalle2 import decoder as dalle2_decoder
from limner.dalle2 import prior_diffusion
from limner.dalle2 import upsampler as dalle2_upsampler
from limner.dalle_mini import mega, mini
from limner.dvae import DVaeConfig
from limner.dvae.model import paper
from limner.errors import LimnerError
from limner.formats import (
    dalle_mini,
    diffusers_unclip,
    glide,
    glide_clip,
    huggingface_clip,
    karlo,
    openai_clip,
    openai_dvae,
)
from limner.formats.contents import Contents
from limner.formats.format import Assumptions
from limner.formats.opening import FORMATS
from limner.glide.model import filtered, filtered_upsampler

KEYS = Path(__file__).parent / "keys"
NOISED = ClipConfig(
    vision=VisionConfig(resolution=64, patch=4, width=768, layers=12, heads=12, times=1000),
    text=TextConfig(context=77, vocabulary=65_536, width=512, layers=12, heads=8),
    embedding=512,
    activation="gelu",
)


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
        (("glide_clip_image_enc", "glide_clip_text_enc"), glide_clip, NOISED, 373),
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
    uses = Counter(name for place in room.places(config) for name in place.named)
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
    uses = Counter(name for place in glide.places(part.config) for name in place.named)
    assert set(uses.values()) == {1}
    assert len(uses) == len(contents.tensors) == count


def counted(*places):
    uses = Counter(name for some in places for place in some for name in place.theirs)
    assert set(uses.values()) == {1}
    return len(uses)


def whole(part, *, missing=()):
    return (part.taken.missing, part.taken.wrong, part.taken.unused) == (missing, (), ())


def test_the_text_tower_alone():
    contents = published("hf_clip_text_with_projection_ViT-L-14")
    assert huggingface_clip.TEXT.fits(contents)
    (part,) = huggingface_clip.TEXT.read(contents, Assumptions()).parts
    config = vit_l_14(224)
    assert part.config == TextWithProjectionConfig(
        text=config.text, embedding=config.embedding, activation="quick_gelu"
    )
    assert whole(part)
    assert counted(huggingface_clip.text_places(config.text)) == len(contents.tensors) == 197


def test_every_tensor_of_karlo_has_one_place():
    """Its three files, beside CLIP's; the statistics are a file of their own."""
    names = ("karlo_decoder", "karlo_improved_sr", "karlo_prior", "openai_clip_ViT-L-14")
    contents = published(*names)
    assert karlo.FORMAT.fits(contents)
    clip, prior, decoder, upsampler = karlo.FORMAT.read(contents, Assumptions()).parts
    assert clip.config == vit_l_14(224)
    assert prior.config == prior_diffusion.karlo()
    assert decoder.config == dalle2_decoder.karlo()
    assert upsampler.config == dalle2_upsampler.karlo_256()
    assert whole(prior, missing=(karlo.MEAN, karlo.DEVIATION))
    assert whole(decoder)
    assert whole(upsampler)
    assert counted(karlo.prior_places(prior.config)) == 256 + 2
    assert counted(karlo.decoder_places(decoder.config)) == 595
    assert counted(karlo.upsampler_places(upsampler.config)) == 816
    sizes = [len(one.tensors) for one in contents.files[:3]]
    assert sizes == [595, 816, 256]


def test_every_tensor_of_karlo_in_diffusers_has_one_place():
    files = {
        "prior": published("diffusers_karlo_prior"),
        "decoder": published("diffusers_karlo_decoder"),
        "text_proj": published("diffusers_karlo_text_proj"),
        "text_encoder": published("hf_clip_text_with_projection_ViT-L-14"),
        "super_res_first": published("diffusers_karlo_super_res_first"),
        "super_res_last": published("diffusers_karlo_super_res_first"),
    }
    contents = Contents(path=Path(), kind="", tensors={}, settings={}, said={}, size=0, folders=files)
    assert diffusers_unclip.FORMAT.fits(contents)
    assert not diffusers_unclip.PRIOR.fits(contents)
    text, prior, decoder, upsampler = diffusers_unclip.FORMAT.read(contents, Assumptions()).parts
    assert prior.config == prior_diffusion.karlo()
    assert decoder.config == dalle2_decoder.karlo()
    assert upsampler.config == dalle2_upsampler.karlo_256()
    assert all(whole(part) for part in (text, prior, decoder, upsampler))
    counts = [
        counted(diffusers_unclip.prior_places(prior.config)),
        counted(diffusers_unclip.decoder_places(decoder.config)),
        counted(diffusers_unclip.upsampler_places(upsampler.config)),
    ]
    assert counts == [338, len(files["decoder"].tensors) + 11, 2 * 408]


def test_a_prior_alone_is_one():
    """As Kandinsky's are, in a pipeline's folder or by themselves."""
    alone = published("diffusers_karlo_prior")
    assert diffusers_unclip.PRIOR.fits(alone)
    (prior,) = diffusers_unclip.PRIOR.read(alone, Assumptions()).parts
    assert whole(prior)
    folders = {"prior": alone, "text_encoder": published("hf_clip_text_with_projection_ViT-L-14")}
    contents = Contents(path=Path(), kind="", tensors={}, settings={}, said={}, size=0, folders=folders)
    assert diffusers_unclip.PRIOR.fits(contents)
    assert all(whole(part) for part in diffusers_unclip.PRIOR.read(contents, Assumptions()).parts)


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


def test_half_a_noised_clip_says_what_the_other_half_is_for():
    for name, says in (
        ("glide_clip_image_enc", "text encoder .clip_text_enc.pt. is not here, and without it no caption"),
        ("glide_clip_text_enc", "image encoder .clip_image_enc.pt. is not here, and without it no picture"),
    ):
        found = glide_clip.FORMAT.read(published(name), Assumptions())
        assert found.parts[0].config == NOISED
        assert re.search(says, found.complaints[0])
        assert not found.parts[0].taken.wrong


def test_a_folder_of_glide_is_every_network_in_it():
    every = ("glide_upsample", "glide_clip_text_enc", "glide_base", "glide_clip_image_enc")
    contents = published(*every)
    assert [one.name for one in FORMATS if one.fits(contents)] == ["GLIDE"]
    found = glide.FORMAT.read(contents, Assumptions())
    assert found.format == "GLIDE base, upsampler, clip"
    assert [part.name for part in found.parts] == ["base", "upsampler", "clip"]
    assert found.complaints == []
    alone = glide.FORMAT.read(published(*every[1:3]), Assumptions())
    assert len(alone.complaints) == 2  # the file, and its tensors
    with pytest.raises(LimnerError, match="holds two of base: leave one"):
        glide.FORMAT.read(published("glide_base", "glide_base"), Assumptions())
    # Beside something else it is several checkpoints, and not one.
    assert not [one for one in FORMATS if one.fits(published("glide_base", "openai_clip_RN50"))]


@pytest.mark.parametrize("name", sorted(path.stem for path in KEYS.glob("*.json")))
def test_one_format_knows_it(name):
    # Folders of a pipeline that are nothing without the others.
    parts = ("diffusers_karlo_decoder", "diffusers_karlo_text_proj", "diffusers_karlo_super_res_first")
    fitting = [one for one in FORMATS if one.fits(published(name))]
    assert len(fitting) == (0 if name in parts else 1)


def test_no_format_takes_another_for_its_own():
    every = {
        "openai_clip_RN50": openai_clip.FORMAT,
        "openai_clip_ViT-B-32": openai_clip.FORMAT,
        "hf_clip_ViT-B-32": huggingface_clip.FORMAT,
        "hf_clip_text_with_projection_ViT-L-14": huggingface_clip.TEXT,
        "openai_dvae_encoder": openai_dvae.FORMAT,
        "glide_base": glide.FORMAT,
        "glide_upsample": glide.FORMAT,
        "glide_clip_image_enc": glide_clip.FORMAT,
        "glide_clip_text_enc": glide_clip.FORMAT,
        "karlo_prior": karlo.FORMAT,
        "karlo_decoder": karlo.FORMAT,
        "karlo_improved_sr": karlo.FORMAT,
        "diffusers_karlo_prior": diffusers_unclip.PRIOR,
        "min_dalle_mini_encoder": dalle_mini.FORMAT,
        "min_dalle_mini_decoder": dalle_mini.FORMAT,
        "flax_dalle_mini": dalle_mini.FORMAT,
    }
    for name, of in every.items():
        assert [one for one in FORMATS if one.fits(published(name))] == [of]
