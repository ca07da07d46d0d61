import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.draws import Draws
from limner.evaluation.augment import (
    GRAIN,
    LIGHT,
    SCALE,
    SHIFT,
    augmented,
    grounds,
    moved,
    reduced,
    relit,
    softened,
)

SIDE = 48


def square(left: int, right: int) -> torch.Tensor:
    """A red, opaque block from column `left` to `right`, in the middle third of the rows."""
    drawing = torch.zeros(1, SIDE, SIDE, 4, dtype=torch.uint8)
    drawing[:, 16:32, left:right] = torch.tensor([220, 40, 30, 255], dtype=torch.uint8)
    return drawing


def draws(rows: int, step: int = 0) -> Draws:
    return Draws.for_step(0, step, range(rows))


def test_a_row_does_not_depend_on_its_company():
    drawings = torch.cat([square(10, 30), square(5, 20), square(20, 40)])
    together = augmented(drawings, draws(3))
    assert together.shape == (3, 3, SIDE, SIDE)
    assert -1 <= together.min() < together.max() <= 1
    alone = augmented(drawings[1:2], Draws.for_step(0, 0, range(1, 2)))
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    assert torch.equal(augmented(drawings, draws(3)), together)
    assert not torch.allclose(augmented(drawings, draws(3, step=1)), together, atol=0.1)


def test_an_empty_drawing_is_all_ground():
    empty = torch.zeros(64, SIDE, SIDE, 4, dtype=torch.uint8)
    # The colour of invisible pixels must not shine through.
    empty[..., 0] = 255
    pictures = augmented(empty, draws(64))
    assert pictures.std(dim=(2, 3)).max() < 1.5 * GRAIN
    white = (pictures.mean(dim=(1, 2, 3)) > 0.95).float().mean()
    assert 0.4 < white < 0.75


@given(seed=st.integers(0, 2**31), red=st.floats(0, 1), green=st.floats(0, 1), blue=st.floats(0, 1))
def test_light_keeps_greys_grey_and_brightness_near(seed: int, red: float, green: float, blue: float):
    grey = torch.full((1, 3, 2, 2), red)
    lit = relit(grey, Draws([seed]))
    assert (lit.max(dim=1).values - lit.min(dim=1).values).max() < 1e-5
    assert (lit - grey).abs().max() <= LIGHT + 1e-6
    colour = torch.tensor([red, green, blue]).view(1, 3, 1, 1).expand(1, 3, 2, 2) * 0.5 + 0.25
    # Turning hues about the grey axis keeps the sum of the three, up to the change of light.
    assert abs(relit(colour, Draws([seed])).mean() - colour.mean()) <= LIGHT + 1e-5


def test_hues_turn_a_little_and_both_ways():
    red = torch.tensor([0.8, 0.3, 0.3]).view(1, 3, 1, 1).expand(200, 3, 1, 1)
    lit = relit(red, draws(200))[:, :, 0, 0]
    x, y = lit[:, 0] - (lit[:, 1] + lit[:, 2]) / 2, (lit[:, 1] - lit[:, 2]) * math.sqrt(3) / 2
    degrees = torch.rad2deg(torch.atan2(y, x))
    assert degrees.abs().max() <= 18.01
    assert degrees.min() < -12 < 12 < degrees.max()


def centre(rgba: torch.Tensor) -> torch.Tensor:
    """Where the visible part lies, (B, 2) as x and y in [0, 1]."""
    alpha = rgba[:, 3]
    places = (torch.arange(SIDE) + 0.5) / SIDE
    total = alpha.sum(dim=(1, 2))
    return torch.stack([alpha.sum(dim=1) @ places / total, alpha.sum(dim=2) @ places / total], dim=1)


def test_things_move_a_little_and_are_never_mirrored():
    left = torch.zeros(300, 4, SIDE, SIDE)
    left[:, :, 18:30, 6:18] = 1
    found = centre(moved(left, draws(300)))
    assert (found[:, 0] < 0.5).all()
    middle = torch.zeros(300, 4, SIDE, SIDE)
    middle[:, :, 20:28, 20:28] = 1
    away = centre(moved(middle, draws(300))) - 0.5
    assert away.abs().max() < SHIFT * SCALE[1] + 0.01
    assert away.max() > 0.7 * SHIFT
    assert away.min() < -0.7 * SHIFT


def test_outside_is_transparent():
    full = torch.ones(100, 4, SIDE, SIDE)
    corners = moved(full, draws(100))[:, 3, 0, 0]
    assert (corners == 0).any()
    assert (corners > 0.9).any()


def test_grounds_are_white_half_the_time_and_named_colours_else():
    found = grounds(draws(400))[:, :, 0, 0]
    white = (found == 1).all(dim=1).float().mean()
    assert 0.45 < white < 0.62
    assert len(found.unique(dim=0)) > 8


def test_softening_takes_detail_and_no_brightness():
    board = ((torch.arange(96)[:, None] + torch.arange(96)[None]) % 2).float().expand(60, 3, 96, 96)
    soft = softened(board, draws(60))
    contrast = soft.std(dim=(1, 2, 3))
    assert (contrast < 0.1).float().mean() == pytest.approx(0.6, abs=0.2)
    assert (contrast > 0.49).any()
    assert torch.allclose(soft.mean(dim=(1, 2, 3)), torch.full((60,), 0.5), atol=0.02)
    assert torch.allclose(reduced(board, 96), board, atol=1e-5)
