"""Membranes in closed form, and a guess that is off as a whole, which the rim puts right."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.diffusion.guidance import held
from limner.diffusion.process import Denoised
from limner.diffusion.seamless import membrane, seamless


def picture(side=32):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def hole(side=32):
    mask = torch.ones(2, 1, side, side, dtype=torch.float64)
    mask[0, :, 8:20, 5:25] = 0
    mask[1, :, :10, 12:] = 0
    return mask


@given(st.integers(0, 5), st.floats(-2, 2), st.integers(0, 10**6))
def test_through_a_constant_there_is_a_constant(halvings, value, seed):
    side = 2**halvings
    weights = (torch.rand(1, 2, side, side, generator=torch.Generator().manual_seed(seed)) < 0.2).double()
    weights[..., 0, 0] = 1
    surface = membrane(torch.full_like(weights, value), weights)
    torch.testing.assert_close(surface, torch.full_like(surface, value))


@given(st.integers(1, 33), st.integers(1, 33), st.integers(0, 10**6))
def test_no_surface_leaves_the_range_of_what_is_given(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = (torch.rand(1, 1, height, width, generator=generator) < 0.3).double()
    surface = membrane(torch.rand(1, 1, height, width, generator=generator).double(), weights)
    assert surface.min() >= 0
    assert surface.max() <= 1


def test_what_is_given_is_kept_and_the_rest_lies_between():
    weights = torch.zeros(1, 1, 16, 16)
    values = torch.zeros(1, 1, 16, 16)
    weights[..., 0], weights[..., -1] = 1, 1
    values[..., -1] = 3.0
    surface = membrane(values, weights)
    assert torch.equal(surface * weights, values)
    across = surface[0, 0].mean(dim=0)
    assert (across.diff() >= -1e-6).all()  # it rises from the one side to the other
    assert across[7:9].mean() == pytest.approx(1.5)


def test_nothing_given_is_nothing():
    assert torch.equal(membrane(picture(), torch.zeros_like(picture())), torch.zeros_like(picture()))


def test_a_guess_that_is_off_as_a_whole_is_put_right():
    truth, mask, wrong = picture(), hole(), torch.tensor([0.3, -0.2, 0.05], dtype=torch.float64)
    off = truth + wrong[:, None, None]
    known = torch.where(mask > 0, truth, 0)

    def denoise(_x, _t):
        return Denoised(x0=off)

    joined = held(seamless(denoise, known, mask), known, mask)(truth, torch.zeros(2))
    torch.testing.assert_close(joined.x0, truth)
    # Without it, the hole keeps all of the error.
    alone = held(denoise, known, mask)(truth, torch.zeros(2))
    assert ((alone.x0 - truth).abs() > 0.04).any(dim=1, keepdim=True).equal(mask == 0)


def test_a_right_guess_is_left_alone():
    truth, mask = picture(), hole()
    known = torch.where(mask > 0, truth, 0)
    joined = seamless(lambda _x, _t: Denoised(x0=truth), known, mask)(truth, torch.zeros(2))
    torch.testing.assert_close(joined.x0, truth)
