"""What small pictures go through before an upsampler learns from them: what it will be given is not clean.

Ramesh et al. 2022, section 2.1: Gaussian blur before the first upsampler, and before the second the
degradations of BSRGAN (Zhang et al. 2021, "Designing a Practical Degradation Model for Deep Blind Image
Super-Resolution"): blur, resampling, noise and JPEG, in an order of chance.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from limner.draws import Draws

# The strengths of `degraded`, from the least to the most. σ of the blur in pixels, the share of its side that
# a picture is brought down to, σ of the noise (a picture has 2 from black to white), JPEG's quality.
BLUR = (0.2, 1.2)
SHRUNK = (0.6, 1.0)
NOISE = (0.0, 0.08)
QUALITY = (30.0, 95.0)

# Recommendation ITU-T T.81, annex K: how coarsely luminance and chrominance are rounded at quality 50.
LUMINANCE = """
16 11 10 16 24 40 51 61     12 12 14 19 26 58 60 55     14 13 16 24 40 57 69 56     14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77   24 35 55 64 81 104 113 92   49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
CHROMINANCE = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66" + " 99" * 38
# Red, green, blue → luminance, blue and red difference (ITU-R BT.601, as JFIF has it).
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def blurred(low: Float[Tensor, "b 3 h w"], sigma: float) -> Float[Tensor, "b 3 h w"]:
    """Gaussian blur, kernel 3: unCLIP's corruption of its first upsampler's condition (σ = 0.6 there).

    A network's small pictures are softer than reduced real ones; an upsampler that only ever saw real ones
    would take their softness for truth.
    """
    return low if sigma == 0 else _blurred(low, torch.full((len(low),), sigma), reach=1)


def half_blurred(low: Float[Tensor, "b 3 h w"], draws: Draws, *, sigma: float) -> Float[Tensor, "b 3 h w"]:
    """`blurred` in half of the rows: what will be given is soft in some pictures and sharp in others."""
    return torch.where(rearrange(draws.bernoulli(0.5), "b -> b 1 1 1"), blurred(low, sigma), low)


def degraded(low: Float[Tensor, "b 3 h w"], draws: Draws) -> Float[Tensor, "b 3 h w"]:
    """Blur, resampling, noise and JPEG, each row in an order and at strengths of its own; within [-1, 1]."""
    noise = draws.normal(*low.shape[1:])
    sigma, shrunk, loudness, quality = (
        least + (most - least) * draws.uniform() for least, most in (BLUR, SHRUNK, NOISE, QUALITY)
    )
    order = draws.uniform(4).argsort(dim=1)
    ways: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
        lambda x, rows: _blurred(x, sigma[rows], reach=3),
        lambda x, rows: _resampled(x, shrunk[rows].tolist()),
        lambda x, rows: x + rearrange(loudness[rows], "b -> b 1 1 1") * noise[rows],
        lambda x, rows: jpeg(x, quality[rows]),
    )
    x = low.float()
    # Half precision is for networks: a picture's levels would not survive it.
    with torch.autocast(low.device.type, enabled=False):
        for turn in range(len(ways)):
            for number, way in enumerate(ways):
                rows = (order[:, turn] == number).nonzero()[:, 0]
                if len(rows):
                    x = x.index_copy(0, rows, way(x[rows], rows))
    return x.clamp(-1, 1)


def jpeg(pictures: Float[Tensor, "b 3 h w"], quality: Float[Tensor, "b"]) -> Float[Tensor, "b 3 h w"]:
    """What a JPEG file of this quality (1 to 100) would give back, colours not subsampled; ITU-T T.81.

    Pictures in [-1, 1]. Every 8×8 block's cosine transform is rounded to multiples of the standard tables.
    """
    height, width = pictures.shape[-2:]
    levels = F.pad((pictures.clamp(-1, 1) + 1) * 127.5, (0, -width % 8, 0, -height % 8), mode="replicate")
    ycc = torch.tensor(TO_YCC, device=levels.device)
    transform = _cosines().to(levels.device)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    tables = ((_tables().to(levels.device) * rearrange(scale, "b -> b 1 1 1") + 50) / 100).floor()
    tables = rearrange(tables.clamp(1, 255), "b c i j -> b c 1 1 i j")

    planes = einsum(ycc, levels.round(), "d c, b c h w -> b d h w").round()
    planes = planes - torch.tensor((128.0, 0.0, 0.0), device=levels.device)[:, None, None]
    blocks = rearrange(planes, "b c (m i) (n j) -> b c m n i j", i=8, j=8)
    rounded = ((transform @ blocks @ transform.T) / tables).round() * tables
    planes = rearrange(transform.T @ rounded @ transform, "b c m n i j -> b c (m i) (n j)")
    planes = planes + torch.tensor((128.0, 0.0, 0.0), device=levels.device)[:, None, None]
    back = einsum(torch.linalg.inv(ycc), planes.round(), "c d, b d h w -> b c h w")
    return back[..., :height, :width].round().clamp(0, 255) / 127.5 - 1


@cache
def _cosines() -> Float[Tensor, "8 8"]:
    """The orthonormal cosine transform of eight values: row k holds the k-th wave."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    waves = 0.5 * torch.cos(torch.pi * k * (2 * n + 1) / 16)
    return torch.cat([waves[:1] / 2**0.5, waves[1:]])


@cache
def _tables() -> Float[Tensor, "3 8 8"]:
    """For luminance and the two colour differences."""
    rows = (LUMINANCE, CHROMINANCE, CHROMINANCE)
    return rearrange(
        torch.tensor([[float(word) for word in row.split()] for row in rows]), "c (i j) -> c i j", i=8
    )


def _blurred(
    x: Float[Tensor, "b 3 h w"], sigma: Float[Tensor, "b"], *, reach: int
) -> Float[Tensor, "b 3 h w"]:
    """Gaussian blur of each row with its σ, kernel 2 · reach + 1, borders continued."""
    offsets = torch.arange(-reach, reach + 1.0, device=x.device, dtype=x.dtype)
    kernels = torch.softmax(-(offsets**2) / (2 * sigma.to(x)[:, None] ** 2), dim=1)
    weight = einsum(kernels, kernels, "b i, b j -> b i j").repeat_interleave(3, dim=0)[:, None]
    flat = rearrange(F.pad(x, (reach,) * 4, mode="replicate"), "b c h w -> 1 (b c) h w")
    return rearrange(F.conv2d(flat, weight, groups=len(weight)), "1 (b c) h w -> b c h w", c=3)


def _resampled(x: Float[Tensor, "b 3 h w"], shares: list[float]) -> Float[Tensor, "b 3 h w"]:
    """Each row brought down to a share of its side, and back."""
    size = x.shape[-2:]
    there = [[max(1, round(share * side)) for side in size] for share in shares]
    rows = [
        F.interpolate(
            F.interpolate(row[None], size=small, mode="bilinear", antialias=True), size=size, mode="bicubic"
        )
        for row, small in zip(x, there, strict=True)
    ]
    return torch.cat(rows)
