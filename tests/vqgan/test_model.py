"""VQGAN beside others' weights: pixels, gradients, and what is refused. Its arithmetic is in tests/parity."""

from dataclasses import replace

import pytest
import torch

from limner import checkpoint
from limner.draws import Draws
from limner.vqgan import VqGan, VqGanConfig

TINY = VqGanConfig(
    resolution=16,
    stem=32,
    widths=(32, 64),
    depth=1,
    attention=(2,),
    latent=6,
    codes=16,
    width=4,
    choice="nearest",
    pixels="signed",
)
GUMBEL = replace(TINY, choice="gumbel")


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 12, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_unit_pixels_are_seen_and_painted_from_0_to_1():
    torch.manual_seed(0)
    signed = VqGan(TINY).eval()
    unit = VqGan(replace(TINY, pixels="unit")).eval()
    unit.load_state_dict(signed.state_dict())
    x = pictures()
    assert torch.equal(unit.encode(2 * x - 1), signed.encode(x))
    ids = signed.encode(x)
    with torch.no_grad():
        vectors = signed.decoder.codebook.vectors(ids)
        torch.testing.assert_close(unit.decoder(vectors), 2 * signed.decoder(vectors) - 1)


@pytest.mark.parametrize("config", [TINY, GUMBEL], ids=["nearest", "gumbel"])
def test_training_moves_every_weight(config):
    """Straight through the choice, from the painted pixels to the first convolution."""
    torch.manual_seed(0)
    model = VqGan(config)
    drawn = {"temperature": 1.0, "draws": Draws([1, 2])} if config.choice == "gumbel" else {}
    found = model(pictures(), **drawn)
    (found.pictures.square().mean() + found.codes.loss).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("config", [TINY, GUMBEL], ids=["nearest", "gumbel"])
def test_in_use_nothing_is_drawn(config):
    model = VqGan(config).eval()
    x = pictures()
    ids = model.encode(x)
    assert ids.shape == (2, 6, 8)
    assert torch.equal(model.encode(x), ids)
    found = model(x)
    assert torch.equal(found.codes.ids, ids)
    torch.testing.assert_close(found.pictures.clamp(-1, 1), model.reconstruct(x))


def test_doors():
    model = VqGan(TINY).eval()
    with pytest.raises(ValueError, match="pictures: 13×16 pixels, but both must be multiples of 2"):
        model.encode(torch.zeros(1, 3, 13, 16))
    with pytest.raises(ValueError, match="ids: numbers from 0 to 16, but the codes are 0 to 15"):
        model.decode(torch.tensor([[[0, 16]]]))
    with pytest.raises(ValueError, match="widths: 48 is not a multiple of GroupNorm's 32 groups"):
        VqGan(replace(TINY, widths=(32, 48)))


def test_its_folder_reads_back(tmp_path):
    for config in (TINY, GUMBEL):
        model = VqGan(config)
        checkpoint.save(tmp_path / config.choice, model.state_dict(), config)
        again, state = checkpoint.load(tmp_path / config.choice, VqGanConfig)
        assert again == config
        assert state.keys() == model.state_dict().keys()
