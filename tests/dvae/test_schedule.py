"""The ramps, with the published ends and lengths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.dvae import Ramp
from limner.dvae.schedule import KL_WEIGHT, LEARNING_RATE, TEMPERATURE


@pytest.mark.parametrize(
    ("ramp", "step", "expected"),
    [
        (KL_WEIGHT, 0, 0.0),
        (KL_WEIGHT, 1000, 0.6302439186),
        (KL_WEIGHT, 2500, 3.3),
        (KL_WEIGHT, 4000, 5.9697560814),
        (KL_WEIGHT, 5000, 6.6),
        (KL_WEIGHT, 3_000_000, 6.6),
        (TEMPERATURE, 0, 1.0),
        (TEMPERATURE, 15_000, 0.9770577420),
        (TEMPERATURE, 75_000, 0.53125),
        (TEMPERATURE, 120_000, 0.1520232839),
        (TEMPERATURE, 150_000, 0.0625),
        (LEARNING_RATE, 300_000, 8.553839732e-5),
        (LEARNING_RATE, 600_000, 5.0625e-5),
        (LEARNING_RATE, 1_200_000, 1.25e-6),
    ],
)
def test_golden_values(ramp, step, expected):
    assert ramp(step) == pytest.approx(expected, rel=1e-9)


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(1, 1000), st.integers(0, 2000))
def test_a_ramp_stays_between_its_ends(start, end, steps, step):
    ramp = Ramp(start=start, end=end, steps=steps)
    low, high = sorted((start, end))
    assert low - 1e-9 <= ramp(step) <= high + 1e-9
    assert ramp(0) == pytest.approx(start)
    if step >= steps:
        assert ramp(step) == pytest.approx(end)
