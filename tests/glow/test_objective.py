"""Bits per dimension: the constant, and that learning finds what there is to find."""

import math

import pytest
import torch
from torch import Tensor

from limner.draws import Draws
from limner.glow import Glow, GlowConfig, Pictures, bits_per_dimension, glow_objective

TINY = GlowConfig(
    resolution=4, levels=1, steps=4, width=24, coupling="affine", bits=3, lu=True, condition=None
)


def test_evenly_spread_values_take_all_their_bits():
    """The density 1 on [-1/2, 1/2) is what knowing nothing means."""
    assert bits_per_dimension(torch.zeros(2), dimensions=12, bits=5).tolist() == [5.0, 5.0]
    # A Gaussian of standard deviation s: ln(s √(2πe)) nats a number.
    s = 0.05
    entropy = math.log(s * math.sqrt(2 * math.pi * math.e))
    found = bits_per_dimension(torch.tensor([-12 * entropy]), dimensions=12, bits=8)
    assert found.item() == pytest.approx(math.log2(s * math.sqrt(2 * math.pi * math.e)) + 8, abs=1e-5)


def of_two_colours(rows: range) -> Tensor:
    """Every picture is all of one of two levels: one bit for its 48 numbers."""
    level = torch.tensor([1.0 if Draws([row]).bernoulli(0.5) else 6.0 for row in rows])
    return (level / 7 * 2 - 1).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def test_learning_approaches_the_entropy_and_samples_are_of_the_data():
    torch.manual_seed(0)
    model, objective = Glow(TINY), glow_objective()
    model.initialise(of_two_colours(range(64)), Draws(range(64)))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = None
    for step in range(250):
        rows = range(32 * step, 32 * step + 32)
        loss = objective(model, Pictures(of_two_colours(rows)), Draws.for_step(0, step, range(32)))
        assert loss.baseline == 3.0
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        first = loss.total.item() if first is None else first
    with torch.no_grad():
        bits = objective(model, Pictures(of_two_colours(range(90_000, 90_200))), Draws(range(200))).total
    # 1/48 bit is what there is to say; spread values have an edge that smooth densities round off.
    assert 1 / 48 < bits.item() < 0.7 < first
    levels = (model.sample(Draws(range(100)), temperature=0.7) + 1) * 3.5
    near = torch.minimum((levels - 1).abs(), (levels - 6).abs()) < 0.6
    # Two levels of eight, where any would be right one time in four.
    assert near.float().mean() > 0.45
