"""The contract between rooms and loop, and what either knows of other processes when there are none."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from limner.distributed import averaged, gathered, rank, world
from limner.objective import Loss, unwrapped


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_unwrapped():
    linear = nn.Linear(2, 2)
    assert unwrapped(linear, nn.Linear) is linear
    assert unwrapped(Wrapper(linear), nn.Linear) is linear
    with pytest.raises(TypeError, match="model: expected Conv2d, got Linear"):
        unwrapped(Wrapper(linear), nn.Conv2d)


def test_a_loss_is_a_fact():
    loss = Loss(total=torch.tensor(1.0), baseline=math.log(2))
    assert loss.report == {}
    assert loss.warning is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.total = torch.tensor(2.0)


def test_alone_everything_is_the_identity():
    x = torch.randn(3, 2, requires_grad=True)
    assert (rank(), world()) == (0, 1)
    assert gathered(x) is x
    assert averaged(x) is x
