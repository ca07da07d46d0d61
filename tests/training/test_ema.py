"""The average is the closed form, and lending it to the model leaves no trace."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from limner.training.ema import Ema


def model(value: float) -> nn.Linear:
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.fill_(value)
    return linear


@given(decay=st.floats(0.5, 0.9999), steps=st.integers(1, 40))
def test_from_nought_towards_one(decay, steps):
    """With weights 1 from the first step on, what is missing is the product of all decays."""
    ema, live, missing = Ema(model(0.0), decay=decay), model(1.0), 1.0
    for step in range(steps):
        ema.update(live, step=step)
        missing *= min(decay, (1 + step) / (10 + step))
    torch.testing.assert_close(ema.shadow["weight"], torch.full((2, 2), 1 - missing), atol=1e-5, rtol=0)


def test_a_long_run_forgets_at_the_asked_rate():
    ema, live = Ema(model(0.0), decay=0.9), model(1.0)
    for step in range(1000, 1010):
        ema.update(live, step=step)
    torch.testing.assert_close(ema.shadow["bias"], torch.full((2,), 1 - 0.9**10))


def test_a_short_run_does_not_ship_its_beginning():
    ema, live = Ema(model(0.0), decay=0.9999), model(1.0)
    ema.update(live, step=0)
    torch.testing.assert_close(ema.shadow["bias"], torch.full((2,), 0.9))


def test_lent_and_taken_back_to_the_bit():
    live = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    ema = Ema(live, decay=0.5)
    with torch.no_grad():
        for parameter in live.parameters():
            parameter.add_(torch.randn_like(parameter))
    before = {name: value.clone() for name, value in live.state_dict().items()}
    with ema.applied(live):
        for name, parameter in live.named_parameters():
            assert torch.equal(parameter, ema.shadow[name])
        assert not torch.equal(live[0].weight, before["0.weight"])
    with pytest.raises(KeyError), ema.applied(live):
        raise KeyError
    for name, value in live.state_dict().items():
        assert torch.equal(value, before[name])
    assert live[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_what_does_not_learn_is_not_averaged():
    live = model(1.0)
    live.bias.requires_grad_(False)
    ema = Ema(live, decay=0.5)
    assert set(ema.shadow) == {"weight"}
    live.bias.data.fill_(3.0)
    ema.update(live, step=5)
    with ema.applied(live):
        assert live.bias.tolist() == [3.0, 3.0]
