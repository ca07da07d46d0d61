"""The logit-Laplace: a density, with the paper's numbers; pictures drawn in come out again."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.dvae import EPSILON, drawn_in, drawn_out, logit_laplace_nll
from limner.dvae.likelihood import constant_nll, floored


def nll(value: float, location: float, log_scale: float) -> float:
    numbers = (torch.tensor(x, dtype=torch.float64) for x in (value, location, log_scale))
    return float(logit_laplace_nll(*numbers))


@pytest.mark.parametrize(
    ("value", "location", "log_scale", "expected"),
    [
        (0.5, 0.0, 0.0, -0.6931471806),
        (0.1, 0.0, 0.0, 0.4824261492),
        (0.9, 0.0, 0.0, 0.4824261492),
        (0.9, math.log(9), 0.0, -1.7147984281),
        (0.9, math.log(9), -2.0, -3.7147984281),
        (0.3, 1.0, 0.5, 0.7529422222),
    ],
)
def test_golden_values(value, location, log_scale, expected):
    assert nll(value, location, log_scale) == pytest.approx(expected, abs=1e-9)


@given(location=st.floats(-3, 3), log_scale=st.floats(-2, 0.5))
def test_the_density_integrates_to_one(location, log_scale):
    # Over the logit, where the tails are exponential: dx = x(1 − x) dt.
    t = torch.linspace(location - 40, location + 40, 400_001, dtype=torch.float64)
    t = t[t.abs() < 30]  # beyond, x rounds to 1; what is lost there is e^-16 at most
    x = torch.sigmoid(t)
    density = (-logit_laplace_nll(x, torch.full_like(x, location), torch.full_like(x, log_scale))).exp()
    mass = torch.trapezoid(density * x * (1 - x), t)
    assert float(mass) == pytest.approx(1, abs=1e-3)


def test_colour_values_are_drawn_in_as_published():
    # φ(0), φ(½), φ(1) of values in [0, 1], here in [-1, 1].
    assert drawn_in(torch.tensor([-1.0, 0.0, 1.0])).tolist() == pytest.approx([0.1, 0.5, 0.9])
    assert EPSILON == 0.1


@given(st.lists(st.floats(-1, 1, width=32), min_size=1))
def test_drawn_out_undoes_drawn_in(values):
    x = torch.tensor(values)
    torch.testing.assert_close(drawn_out(drawn_in(x)), x, atol=1e-6, rtol=0)


def test_what_no_picture_has_is_clamped():
    assert drawn_out(torch.tensor([0.0, 0.05, 0.1, 0.9, 1.0])).tolist() == pytest.approx([-1, -1, -1, 1, 1])


@given(st.floats(-20, 20), st.floats(-5, 1))
def test_a_floor_holds_and_can_be_left(log_scale, floor):
    x = torch.tensor(log_scale, dtype=torch.float64, requires_grad=True)
    found = floored(x, floor)
    found.backward()
    assert found.item() >= floor - 1e-9
    assert found.item() >= log_scale - 1e-9
    assert found.item() == pytest.approx(max(log_scale, floor), abs=math.log(2) + 1e-9)
    assert x.grad is not None
    assert 0 < x.grad.item() <= 1


def test_the_constant_guess_is_the_best_of_its_kind():
    pictures = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    best = float(constant_nll(pictures))
    values = drawn_in(pictures)
    median = torch.logit(values).median(dim=0).values
    scale = (torch.logit(values) - median).abs().mean().log()

    def score(shift: float, stretch: float) -> float:
        location = (median + shift).expand_as(values)
        return float(logit_laplace_nll(values, location, (scale + stretch).expand_as(values)).mean())

    assert best == pytest.approx(score(0, 0), abs=1e-5)
    assert best < min(score(0.3, 0), score(-0.3, 0), score(0, 0.2), score(0, -0.2))


def test_the_constant_guess_of_one_colour_is_finite():
    assert math.isfinite(constant_nll(torch.ones(3, 3, 2, 2)))
