"""Drawings made to look like paintings: what a painter may change about a thing that stays the same thing.

Moved, turned and scaled a little; in other light; on another ground; soft, as a 64×64 painting that was
enlarged is soft; and grainy. Nothing is mirrored: a hand that points left is not a hand that points right.
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from limner.data.colours import GROUNDS
from limner.draws import Draws

SCALE = (0.75, 1.15)
TURN = math.radians(12)
SHIFT = 0.08
HUE = math.radians(18)
SATURATION = (0.7, 1.3)
LIGHT = 0.1
# Half of the copies lie on white, as paintings do unless the prompt names a ground.
WHITE_SHARE = 0.5
SOFT_SHARE = 0.6
SMALLEST, LARGEST = 40.0, 96.0
GRAIN = 0.06


def augmented(drawings: UInt8[Tensor, "b s s 4"], draws: Draws) -> Float[Tensor, "b 3 s s"]:
    """RGBA drawings (not premultiplied, 0 to 255) → pictures in [-1, 1], each changed by its own draws."""
    rgba = rearrange(drawings.float() / 255, "b h w c -> b c h w")
    alpha = rgba[:, 3:]
    colour = relit(rgba[:, :3], draws)
    # Premultiplied, or the colour of invisible pixels bleeds into the edges.
    moved_ = moved(torch.cat([colour * alpha, alpha], dim=1), draws)
    picture = moved_[:, :3] + grounds(draws) * (1 - moved_[:, 3:])
    picture = softened(picture, draws)
    grain = GRAIN * rearrange(draws.uniform(), "b -> b 1 1 1") * draws.normal(*picture.shape[1:])
    return (2 * picture - 1 + grain).clamp(-1, 1)


def between(draws: Draws, low: float, high: float) -> Float[Tensor, "b"]:
    """Uniform numbers in [low, high), one for each row."""
    return low + (high - low) * draws.uniform()


def relit(rgb: Float[Tensor, "b 3 h w"], draws: Draws) -> Float[Tensor, "b 3 h w"]:
    """Turn the hues a little about the grey axis, change the saturation, lighten or darken; in [0, 1]."""
    angle, saturation = between(draws, -HUE, HUE), between(draws, *SATURATION)
    light = rearrange(between(draws, -LIGHT, LIGHT), "b -> b 1 1 1")
    # Rodrigues' rotation about (1, 1, 1)/√3; what lies across the axis is scaled by the saturation.
    grey = torch.full((3, 3), 1 / 3)
    across = torch.eye(3) - grey
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    cos, sin = (rearrange(saturation * f(angle), "b -> b 1 1") for f in (torch.cos, torch.sin))
    matrix = grey + cos * across + sin * cross
    turned: Tensor = einsum(matrix, rgb, "b d c, b c h w -> b d h w")
    return (turned + light).clamp(0, 1)


def moved(rgba: Float[Tensor, "b 4 h w"], draws: Draws) -> Float[Tensor, "b 4 h w"]:
    """Scale, turn and shift; outside the drawing all is transparent."""
    scale, angle = between(draws, *SCALE), between(draws, -TURN, TURN)
    x, y = between(draws, -SHIFT, SHIFT), between(draws, -SHIFT, SHIFT)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # grid_sample asks, for each place of the result, where it comes from: the inverse of the movement.
    entries = torch.stack([cos, -sin, -2 * x, sin, cos, -2 * y], dim=1)
    matrix = rearrange(entries, "b (two three) -> b two three", two=2)
    grid = F.affine_grid(matrix, list(rgba.shape), align_corners=False)
    return F.grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def grounds(draws: Draws) -> Float[Tensor, "b 3 1 1"]:
    """A ground for each row, in [0, 1]: white, or any colour that captions know."""
    table = torch.tensor(list(GROUNDS.values()), dtype=torch.float32) / 255
    chosen = table[draws.integers(len(table))]
    white = rearrange(draws.bernoulli(WHITE_SHARE), "b -> b 1")
    return rearrange(torch.where(white, torch.ones(3), chosen), "b c -> b c 1 1")


def softened(pictures: Float[Tensor, "b 3 s s"], draws: Draws) -> Float[Tensor, "b 3 s s"]:
    """Some of the rows reduced to `SMALLEST` to `LARGEST` pixels and enlarged again."""
    side = pictures.shape[-1]
    soft = draws.bernoulli(SOFT_SHARE).tolist()
    small = between(draws, SMALLEST, LARGEST).round().int().tolist()
    rows = [
        reduced(row, min(to, side)) if is_soft else row
        for row, is_soft, to in zip(pictures.split(1), soft, small, strict=True)
    ]
    return torch.cat(rows).clamp(0, 1)


def reduced(pictures: Float[Tensor, "b 3 s s"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Pictures at the size they have, with only the detail that `side` pixels hold."""
    small = F.interpolate(pictures, size=(side, side), mode="bicubic", antialias=True)
    return F.interpolate(small, size=pictures.shape[2:], mode="bicubic", antialias=True)
