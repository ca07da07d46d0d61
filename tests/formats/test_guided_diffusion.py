"""ADM's published networks by their sizes: counts, a place for each tensor, and what is assumed of which."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from limner.adm import Adm, NoisedClassifier, classifier
from limner.adm.model import AdmConfig, enlarging, imagenet, unconditional
from limner.errors import LimnerError
from limner.formats import FORMATS, Assumptions, guided_diffusion
from limner.formats.contents import Contents
from limner.formats.places import Place, give


def published(network: nn.Module, places: list[Place]) -> Contents:
    tensors = give(places, network.state_dict())
    return Contents(path=Path("x.pt"), kind="", tensors=tensors, settings={}, said={}, size=0)


def painter(config: AdmConfig, *, by_head: bool) -> Contents:
    with torch.device("meta"):
        return published(Adm(config), list(guided_diffusion.places(config, by_head=by_head)))


@pytest.mark.parametrize(
    ("config", "parameters", "assumed"),
    [
        (imagenet(64), 295_904_454, "heads of 64 numbers in every block, kept by kind: as the published"),
        (imagenet(128), 421_529_606, "4 heads in every block, kept by head: as the published"),
        (imagenet(256), 553_838_086, "heads of 64 numbers in every block, kept by head: as the published"),
        (imagenet(512), 558_997_638, "heads of 64 numbers in every block, kept by head: as the published"),
        (unconditional(256), 552_814_086, "heads of 64 numbers in every block, kept by head: as the publ"),
        (enlarging(256), 311_795_910, "4 heads in every block, kept by head: as the published"),
        (enlarging(512), 308_835_270, "heads of 64 numbers in every block, kept by head: as the published"),
    ],
)
def test_every_tensor_of_a_painter_has_one_place(config, parameters, assumed):
    by_head = config.resolution != 64
    contents = painter(config, by_head=by_head)
    assert [one for one in FORMATS if one.fits(contents)] == [guided_diffusion.FORMAT]
    found = guided_diffusion.read(contents, Assumptions())
    (part,) = found.parts
    assert part.config == config
    assert (part.taken.missing, part.taken.wrong, part.taken.unused) == ((), (), ())
    uses = Counter(n for place in guided_diffusion.places(config, by_head=by_head) for n in place.theirs)
    assert set(uses.values()) == {1}
    assert uses.keys() == contents.tensors.keys()
    assert part.parameters == parameters
    assert found.assumed[0].startswith(assumed)


@pytest.mark.parametrize(
    ("side", "parameters"), [(64, 65_438_568), (128, 42_568_040), (256, 54_096_360), (512, 54_448_360)]
)
def test_every_tensor_of_a_classifier_has_one_place(side, parameters):
    config = classifier.imagenet(side)
    with torch.device("meta"):
        contents = published(NoisedClassifier(config), list(guided_diffusion.classifier_places(config)))
    assert contents.shape("out.2.positional_embedding") == (512, 65)
    assert [one for one in FORMATS if one.fits(contents)] == [guided_diffusion.FORMAT]
    (part,) = guided_diffusion.read(contents, Assumptions()).parts
    assert part.config == config
    assert (part.taken.missing, part.taken.wrong, part.taken.unused) == ((), (), ())
    assert part.parameters == parameters


def test_what_is_told_is_believed():
    contents = painter(imagenet(128), by_head=True)
    told = Assumptions(head_width=32, by_head=False, schedule="cosine")
    found = guided_diffusion.read(contents, told)
    config = found.parts[0].config
    assert (config.unet.heads, config.unet.head_width, config.diffusion.schedule) == (None, 32, "cosine")
    assert found.assumed[0].startswith("heads of 32 numbers in every block, kept by kind: as told")
    with pytest.raises(LimnerError, match="heads: 5 does not divide"):
        guided_diffusion.read(contents, Assumptions(heads=5))


def test_sizes_that_nobody_published_are_said_to_be():
    config = replace(
        unconditional(256),
        unet=replace(unconditional(256).unet, channels=64, attention=(4,), multipliers=(1, 2, 4)),
        resolution=128,
    )
    found = guided_diffusion.read(painter(config, by_head=True), Assumptions())
    assert found.parts[0].config == config
    assert found.assumed == (
        "heads of 64 numbers in every block, kept by head: no published network has these sizes",
        "128 pixels, a linear schedule of 1000 steps, noise predicted",
    )


def test_other_u_nets_are_refused():
    contents = painter(unconditional(256), by_head=True)
    op = {"input_blocks.3.0.op.weight": torch.empty(256, 256, 3, 3, device="meta")}
    with pytest.raises(LimnerError, match="halves its maps by convolutions"):
        guided_diffusion.read(replace(contents, tensors={**contents.tensors, **op}), Assumptions())
    stem = {"input_blocks.0.0.weight": torch.empty(256, 4, 3, 3, device="meta")}
    with pytest.raises(LimnerError, match="sees 4 channels and paints 6"):
        guided_diffusion.read(replace(contents, tensors={**contents.tensors, **stem}), Assumptions())
