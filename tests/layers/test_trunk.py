"""A trunk begins as nothing but a norm; whitening is an affine map with an inverse, and survives bfloat16."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.layers.trunk import Trunk, TrunkConfig, Whitening


def vectors(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator) * torch.logspace(0, -1, width)
    return torch.randn(rows, width, generator=generator) @ mixed.T + 0.25


@torch.no_grad()
def test_a_new_trunk_is_its_norm():
    trunk, x = Trunk(TrunkConfig(width=12, layers=3)), vectors(5, 12)
    torch.testing.assert_close(trunk(x), torch.nn.functional.layer_norm(x, (12,)))


def test_a_whitening_as_it_is_made_changes_nothing():
    x = vectors(5, 7)
    assert torch.equal(Whitening(7)(x), x)
    assert torch.equal(Whitening(7).inverse(x), x)


@given(width=st.integers(2, 24), seed=st.integers(0, 100))
def test_back_again(width, seed):
    whitening, x = Whitening(width), vectors(400, width, seed)
    whitening.fit(x, floor=1e-3)
    torch.testing.assert_close(whitening.inverse(whitening(x)), x, atol=2e-3, rtol=1e-3)


def test_all_directions_vary_by_one_but_those_under_the_floor():
    whitening, x = Whitening(6), vectors(5000, 6)
    whitening.fit(x, floor=1e-7)
    white = whitening(x)
    torch.testing.assert_close(white.mean(dim=0), torch.zeros(6), atol=0.2, rtol=0)
    torch.testing.assert_close(white.T @ white / 5000, torch.eye(6), atol=0.1, rtol=0)
    whitening.fit(x, floor=1.0)
    # Of variance v, with the mean variance m beside it: v / (v + m), below one half where v < m.
    values = torch.linalg.eigvalsh(torch.cov(x.double().T))
    wanted = values / (values + values.mean())
    torch.testing.assert_close(whitening(x).var(dim=0).double(), wanted, atol=0.02, rtol=0)


def test_what_is_stored_in_half_precision_is_the_same_map():
    whitening, x = Whitening(6), vectors(100, 6)
    whitening.fit(x, floor=1e-3)
    again = Whitening(6)
    again.load_state_dict({name: value.bfloat16() for name, value in whitening.state_dict().items()})
    assert torch.equal(again(x), whitening(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(whitening(x), again(x))


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="6 of 6 dimensions"):
        Whitening(6).fit(vectors(6, 6), floor=0.1)
    with pytest.raises(ValueError, match=r"floor: 0\.0"):
        Whitening(6).fit(vectors(60, 6), floor=0.0)
