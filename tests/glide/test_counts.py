"""Networks of ADM and GLIDE, by their published parameter counts."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from limner.glide import TextEncoder, TextEncoderConfig
from limner.layers.unet import AttentionBlock, UNet, UNetConfig

ADM_64 = UNetConfig(
    in_channels=3,
    out_channels=6,
    channels=192,
    depth=3,
    multipliers=(1, 2, 3, 4),
    attention=(2, 4, 8),
    head_width=64,
    context_width=None,
    scale_shift=True,
    dropout=0.1,
    patch=1,
    canvas=0,
)
# 256×256: attention at 32×32, 16×16 and 8×8.
ADM_256 = replace(ADM_64, channels=256, depth=2, multipliers=(1, 1, 2, 2, 4, 4), attention=(8, 16, 32))
ADM_128 = replace(ADM_256, multipliers=(1, 1, 2, 3, 4), attention=(4, 8, 16))
ADM_UP = replace(ADM_256, channels=192, in_channels=6)
# ADM's conditional networks also have an embedding of ImageNet's thousand classes, as wide as the time's.
CLASSES = 1000


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def text(width: int, layers: int, channels: int) -> TextEncoderConfig:
    return TextEncoderConfig(
        context=128,
        vocabulary=50_257,
        width=width,
        layers=layers,
        heads=width // 64,
        condition_width=4 * channels,
    )


@pytest.mark.parametrize(
    ("config", "classes", "published"),
    [
        (ADM_64, CLASSES, 295_904_454),
        (ADM_128, CLASSES, 421_529_606),
        (ADM_256, CLASSES, 553_838_086),
        (ADM_256, 0, 552_814_086),
        (ADM_UP, CLASSES, 311_795_910),
    ],
    ids=["ImageNet 64", "ImageNet 128", "ImageNet 256", "ImageNet 256 and LSUN, no classes", "64 to 256"],
)
def test_adm(config, classes, published):
    with torch.device("meta"):
        assert count(UNet(config)) + classes * config.embedding_width == published


@pytest.mark.parametrize(
    ("unet", "width", "layers", "published"),
    [
        (ADM_64, 512, 16, 385_030_726),
        (replace(ADM_64, in_channels=7), 512, 16, 385_037_638),
        (ADM_UP, 512, 16, 398_361_286),
        (replace(ADM_UP, in_channels=10), 512, 16, 398_368_198),
        (replace(ADM_64, channels=512), 2048, 24, 3_554_414_086),
        (replace(ADM_UP, channels=384), 1024, 16, 1_540_932_998),
        (replace(ADM_UP, channels=384), 1024, 24, 1_641_702_790),
    ],
    ids=["base", "inpainting", "upsampler", "its inpainting", "paper", "paper 256, 16", "paper 256, 24"],
)
def test_glide(unet, width, layers, published):
    with torch.device("meta"):
        net = UNet(replace(unet, context_width=width))
        encoder = TextEncoder(text(width, layers, unet.channels))
    assert count(net) + count(encoder) == published


def test_glides_text_side():
    with torch.device("meta"):
        assert count(TextEncoder(text(512, 16, 192))) == 76_695_808
        net = UNet(replace(ADM_UP, context_width=512))
    assert sum(isinstance(module, AttentionBlock) for module in net.modules()) == 16


@pytest.mark.parametrize(("scale_shift", "published"), [(True, 282_059_139), (False, 267_146_691)])
def test_unclips_second_upsampler(scale_shift, published):
    config = replace(ADM_UP, out_channels=3, attention=(), scale_shift=scale_shift)
    with torch.device("meta"):
        assert count(UNet(config)) == published
