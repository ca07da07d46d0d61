"""Which part of a picture to erase, so that a network learns to fill it in."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from limner.draws import Draws

# How often all of a picture is erased: so a network that mends also still paints.
ALL = 0.25
# Erased boxes in a picture, and their sides as shares of the picture's.
BOXES = 3
LEAST, MOST = 0.15, 0.7


def erased(draws: Draws, side: int) -> Float[Tensor, "b 1 h w"]:
    """A mask for each row, 1 where the picture is known: up to three boxes are not, and sometimes nothing is.

    The first box is always there. Nichol et al. 2021, section 2.4, says no more than "random regions".
    """
    numbers = draws.uniform(BOXES, 4)
    height, width = LEAST + (MOST - LEAST) * numbers[..., 0], LEAST + (MOST - LEAST) * numbers[..., 1]
    top, left = numbers[..., 2] * (1 - height), numbers[..., 3] * (1 - width)
    there = draws.uniform(BOXES) < 0.5
    there[:, 0] = True
    middle = (torch.arange(side, device=numbers.device) + 0.5) / side

    def within(start: Tensor, length: Tensor) -> Tensor:
        return (middle >= start[..., None]) & (middle < (start + length)[..., None])

    rows, columns = within(top, height), within(left, width)
    boxes = rearrange(rows, "b n h -> b n h 1") & rearrange(columns, "b n w -> b n 1 w")
    gone = (boxes & rearrange(there, "b n -> b n 1 1")).any(dim=1, keepdim=True)
    gone = gone | rearrange(draws.bernoulli(ALL), "b -> b 1 1 1")
    return (~gone).float()
