"""Convolutions alone: what is learned on crops holds for whole pictures, wherever in them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.dalle2.objective import reduced
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig, enlarged
from limner.diffusion.spec import DiffusionSpec
from limner.layers.corruptions import blurred
from limner.layers.unet import UNetConfig

UNET = UNetConfig(
    in_channels=6,
    out_channels=3,
    channels=32,
    depth=1,
    multipliers=(1, 1),
    attention=(),
    head_width=32,
    context_width=None,
    scale_shift=True,
    dropout=0.0,
    patch=2,
    canvas=0,
)
CONFIG = UpsamplerConfig(
    low=16,
    high=64,
    unet=UNET,
    diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
)
STRIDE = 4  # patch 2, and one halving


def upsampler() -> Upsampler:
    torch.manual_seed(0)
    model = Upsampler(CONFIG).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


@torch.no_grad()
def test_trained_on_crops_runs_on_whole_pictures():
    model = upsampler()
    for side in (16, 64):
        out = model(
            torch.randn(1, 3, side, side), torch.zeros(1), low=torch.randn(1, 3, side // 4, side // 4)
        )
        assert out.shape == (1, 3, side, side)


@pytest.mark.parametrize(("down", "right"), [(4, 0), (0, -8), (8, 12)])
@torch.no_grad()
def test_a_thing_elsewhere_is_painted_the_same(down, right):
    """A blob on plain ground, moved by a multiple of the stride; GroupNorm sees the same values."""
    model = upsampler()
    generator = torch.Generator().manual_seed(1)
    x, low = torch.full((1, 3, 176, 176), 0.3), torch.full((1, 3, 44, 44), -0.2)
    x[..., 84:92, 84:92] = torch.randn(1, 3, 8, 8, generator=generator)
    low[..., 21:23, 21:23] = torch.rand(1, 3, 2, 2, generator=generator)
    t = torch.tensor([400.0])
    here = model(x, t, low=low)
    moved = low.roll((down // 4, right // 4), (2, 3))
    there = model(x.roll((down, right), (2, 3)), t, low=moved)
    inside = slice(64, 112)  # out of reach of the edges
    expected = here.roll((down, right), (2, 3))
    torch.testing.assert_close(
        there[..., inside, inside], expected[..., inside, inside], rtol=1e-4, atol=1e-4
    )
    assert here[..., inside, inside].std() > 1e-2
    # By less than the stride it is not the same: the test can tell.
    off = model(x.roll(1, 2), t, low=low)
    assert not torch.allclose(off[..., inside, inside], here.roll(1, 2)[..., inside, inside], atol=1e-3)


@torch.no_grad()
def test_both_pictures_and_the_time_are_read():
    model = upsampler()
    x, t, low = torch.randn(1, 3, 16, 16), torch.tensor([5.0]), torch.rand(1, 3, 4, 4)
    before = model(x, t, low=low)
    for after in (model(x + 1, t, low=low), model(x, t + 500, low=low), model(x, t, low=-low)):
        assert (after - before).abs().max() > 1e-3


def test_attention_is_refused():
    with pytest.raises(ValueError, match=r"unet.attention: \(2,\), but an upsampler must have none"):
        Upsampler(replace(CONFIG, unet=replace(UNET, attention=(2,))))


@given(sigma=st.floats(0.2, 3.0))
def test_blur_is_a_gaussian_that_sums_to_one(sigma):
    point = torch.zeros(1, 3, 7, 7, dtype=torch.float64)
    point[:, :, 3, 3] = 1
    kernel = blurred(point, sigma)[0, 0, 2:5, 2:5]
    assert kernel.sum().item() == pytest.approx(1)
    squares = torch.tensor([[2.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(kernel / kernel[1, 1], torch.exp(-squares / (2 * sigma**2)))
    assert blurred(point, sigma).count_nonzero() == 3 * 9  # kernel 3, each channel for itself


def test_the_papers_blur():
    edge = torch.zeros(1, 3, 4, 4)
    edge[..., 2:] = 1
    # exp(-1/0.72) = 0.2494: a row of the kernel is (0.1664, 0.6672, 0.1664).
    row = blurred(edge, 0.6)[0, 0, 1]
    torch.testing.assert_close(row, torch.tensor([0.0, 0.1664, 0.8336, 1.0]), atol=1e-4, rtol=0)


@given(value=st.floats(-1, 1))
def test_plain_ground_stays_plain(value):
    plain = torch.full((1, 3, 8, 8), value)
    torch.testing.assert_close(blurred(plain, 0.6), plain)
    torch.testing.assert_close(reduced(plain, 4), plain[..., :2, :2])
    torch.testing.assert_close(enlarged(plain, torch.Size((32, 32))), plain[..., :1, :1].expand(1, 3, 32, 32))


def test_reduced_is_the_mean_of_an_area():
    picture = torch.rand(2, 3, 8, 8)
    expected: Tensor = torch.stack(
        [picture[..., i : i + 4, j : j + 4].mean(dim=(2, 3)) for i in (0, 4) for j in (0, 4)], dim=-1
    ).reshape(2, 3, 2, 2)
    torch.testing.assert_close(reduced(picture, 4), expected)


def test_enlarging_stays_within_the_range_of_pictures():
    low = torch.ones(1, 3, 4, 4)
    low[..., :2] = -1
    large = enlarged(low, torch.Size((16, 16)))
    assert large.amin() == -1
    assert large.amax() == 1


def alone(tile_norm: str = "pixel") -> Upsampler:
    """One that normalizes every place by itself, in double precision."""
    torch.manual_seed(0)
    model = Upsampler(replace(CONFIG, unet=replace(UNET, norm=tile_norm))).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("tile", [40, 64, 128])
@torch.no_grad()
def test_tiles_agree_with_the_whole_picture(tile):
    model = alone()
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 3, 200, 168, generator=generator, dtype=torch.float64)
    low = torch.rand(2, 3, 50, 42, generator=generator, dtype=torch.float64) * 2 - 1
    t = torch.tensor([400.0, 3.0], dtype=torch.float64)
    whole = model(x, t, low=low)
    torch.testing.assert_close(model(x, t, low=low, tile=tile), whole, rtol=0, atol=1e-12)


@torch.no_grad()
def test_reach_is_how_far_an_output_looks():
    """What is further away than that changes nothing; what lies within does, almost to the end."""
    model = alone()
    reach, side = model.unet.reach, 208
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    low, t = torch.zeros(1, 3, side // 4, side // 4, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    touched = x.clone()
    touched[..., 0, 0] += 1
    changed = (model(touched, t, low=low) != model(x, t, low=low)).any(dim=1)[0]
    furthest = int(changed.nonzero().max())
    assert furthest <= reach
    assert furthest > reach - 4 * model.unet.multiple


def test_tiles_are_refused_where_they_would_not_fit():
    x, t, low = torch.zeros(1, 3, 16, 16), torch.zeros(1), torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"tile is 8, but this network normalizes over whole pictures"):
        upsampler()(x, t, low=low, tile=8)
    with pytest.raises(ValueError, match=r"tile is 6: give a multiple of 4 pixels"):
        alone().float()(x, t, low=low, tile=6)
