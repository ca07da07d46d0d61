"""Parameter counts of the published models, on the meta device: exact, tower by tower."""

import pytest
import torch
from torch import nn

from limner.clip.model import (
    Clip,
    ClipConfig,
    TextConfig,
    VisionConfig,
    rn50,
    rn50x4,
    rn50x16,
    rn50x64,
    rn101,
    vit_b_16,
    vit_b_32,
    vit_bigg_14,
    vit_h_16,
    vit_l_14,
)
from limner.recipes import clip as recipes

TINY = ClipConfig(
    vision=VisionConfig(resolution=32, patch=8, width=64, layers=2, heads=1),
    text=TextConfig(context=16, vocabulary=100, width=64, layers=2, heads=1),
    embedding=32,
    activation="quick_gelu",
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("config", "whole", "vision"),
    [
        (vit_b_32(), 151_277_313, 87_849_216),
        (vit_b_16(), 149_620_737, 86_192_640),
        (vit_l_14(224), 427_616_513, 303_966_208),
        (vit_l_14(336), 427_944_193, 304_293_888),
        (vit_bigg_14(), 2_539_567_105, 1_844_907_264),
        (vit_h_16(), 986_339_841, 632_307_200),
        (rn50(), 102_007_137, 38_316_896),
        (rn101(), 119_688_033, 56_259_936),
        (rn50x4(), 178_300_601, 87_137_080),
        (rn50x16(), 290_979_217, 167_328_912),
        (rn50x64(), 623_258_305, 420_380_352),
        (TINY, 225_281, 115_712),
    ],
    ids=[
        *("B/32", "B/16", "L/14", "L/14@336", "bigG/14", "H/16"),
        *("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"),
        "tiny",
    ],
)
def test_published_counts(config, whole, vision):
    with torch.device("meta"):
        clip = Clip(config)
    assert count(clip) == whole
    assert count(clip.vision) == vision
    assert count(clip.text) == whole - vision - 1  # and the temperature


def test_positions_for_every_patch_and_the_class():
    with torch.device("meta"):
        lengths = [len(Clip(c).vision.positions) for c in (vit_b_32(), vit_b_16(), vit_l_14(336), vit_h_16())]
    assert lengths == [50, 197, 577, 257]


def test_residual_towers_are_multiples_of_one():
    configs = [preset().vision for preset in (rn50, rn101, rn50x4, rn50x16, rn50x64)]
    assert {config.stride for config in configs} == {32}
    assert [config.features for config in configs] == [2048, 2048, 2560, 3072, 4096]
    assert {config.features // config.heads for config in configs} == {64}


def test_the_paper_recipe_is_the_published_model():
    assert recipes.paper().model == vit_h_16()
