"""Parameter counts of the published models, on the meta device."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from limner.vqvae.model import VqVae, cifar10
from limner.vqvae.two_levels import VqVae2, imagenet_256


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_vq_vae_of_cifar10():
    with torch.device("meta"):
        model = VqVae(cifar10())
    assert count(model.encoder) == 2_373_120
    assert count(model.decoder) == 2_372_867
    assert count(model) == 2_373_120 + 2_372_867 + 512 * 256


@pytest.mark.parametrize(
    ("hidden", "expected"), [(32, 1_388_867), (64, 1_716_803)], ids=["rosinality", "paper"]
)
def test_vq_vae_2(hidden, expected):
    """With codes that follow by averages, which are no parameters."""
    with torch.device("meta"):
        model = VqVae2(replace(imagenet_256(), hidden=hidden))
    assert count(model) == expected
    assert sum(b.numel() for b in model.buffers()) == 2 * (2 * 64 * 512 + 512)


def test_bits_of_a_picture():
    codes = VqVae2(replace(imagenet_256(), channels=4, hidden=2)).encode(torch.zeros(1, 3, 256, 256))
    assert [tuple(ids.shape) for ids in codes] == [(1, 32, 32), (1, 64, 64)]
    assert sum(ids.numel() for ids in codes) * 9 == 46_080  # log2(512) each: 34 times fewer than the pixels
