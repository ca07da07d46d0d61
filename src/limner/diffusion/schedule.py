"""A schedule is a list of noise levels; every coefficient of diffusion is derived from it.

Level i says how much signal is left, x_t = √ᾱ_i x_0 + √(1−ᾱ_i) ε, and which time the network is told.
A shorter schedule (respacing) is a sub-list: its β follow from its own ᾱ, and the network still hears
the times it was trained with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """Noise levels from the cleanest to the noisiest, in float64 on the CPU.

    `t` is the time given to the network, ascending; `alpha_bar` is the signal's share of the variance,
    strictly descending inside (0, 1).
    """

    t: Float[Tensor, "steps"]
    alpha_bar: Float[Tensor, "steps"]

    def __post_init__(self) -> None:
        """Refuse anything that is not a descending list of signal."""
        if self.t.ndim != 1 or self.t.shape != self.alpha_bar.shape or len(self.t) == 0:
            raise ValueError(
                f"t and alpha_bar have shapes {tuple(self.t.shape)} and {tuple(self.alpha_bar.shape)}: "
                "they must be equal, one-dimensional and not empty"
            )
        if self.t.dtype != torch.float64 or self.alpha_bar.dtype != torch.float64:
            raise ValueError(f"t and alpha_bar are {self.t.dtype} and {self.alpha_bar.dtype}: use float64")
        if not (self.alpha_bar.gt(0).all() and self.alpha_bar.lt(1).all()):
            raise ValueError("alpha_bar leaves (0, 1): every level must hold some signal and some noise")
        if not (self.t.diff().gt(0).all() and self.alpha_bar.diff().lt(0).all()):
            raise ValueError("levels are out of order: t must ascend strictly and alpha_bar descend strictly")

    def __len__(self) -> int:
        """How many levels."""
        return len(self.t)

    @cached_property
    def log_snr(self) -> Float[Tensor, "steps"]:
        """ln(ᾱ/(1−ᾱ)), which is 2λ of DPM-Solver."""
        return self.alpha_bar.log() - torch.log1p(-self.alpha_bar)

    @cached_property
    def alpha_bar_prev(self) -> Float[Tensor, "steps"]:
        """ᾱ of the next cleaner level; clean data, ᾱ = 1, below level 0."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])

    @cached_property
    def betas(self) -> Float[Tensor, "steps"]:
        """Variance added by the step from level i−1 to level i: β_i = 1 − ᾱ_i/ᾱ_{i−1}."""
        return 1 - self.alpha_bar / self.alpha_bar_prev

    @cached_property
    def posterior_variance(self) -> Float[Tensor, "steps"]:
        """β̃, the variance of q(x_{i−1} | x_i, x_0); DDPM eq. 7. Zero at level 0."""
        return self.betas * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    @cached_property
    def posterior_log_variance(self) -> Float[Tensor, "steps"]:
        """ln β̃, with level 1's value at level 0, where β̃ is zero (β itself in a schedule of one level)."""
        first = self.posterior_variance[1:2] if len(self) > 1 else self.betas
        return torch.cat([first, self.posterior_variance[1:]]).log()

    @cached_property
    def posterior_x0(self) -> Float[Tensor, "steps"]:
        """Weight of x_0 in the mean of q(x_{i−1} | x_i, x_0); DDPM eq. 7."""
        return self.betas * self.alpha_bar_prev.sqrt() / (1 - self.alpha_bar)

    @cached_property
    def posterior_xt(self) -> Float[Tensor, "steps"]:
        """Weight of x_i in the mean of q(x_{i−1} | x_i, x_0); DDPM eq. 7."""
        return (1 - self.betas).sqrt() * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    def alpha_bar_at(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """ᾱ at any time, fractional ones too: log-SNR is linear between levels and constant beyond them."""
        return _interpolate(t.detach().to("cpu", torch.float64), self.t, self.log_snr).sigmoid()

    def t_at(self, log_snr: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time at any log-SNR, the inverse of `alpha_bar_at`'s; float64, on the CPU."""
        return _interpolate(-log_snr.detach().to("cpu", torch.float64), -self.log_snr, self.t)

    def take(self, indices: Sequence[int]) -> "Schedule":
        """The sub-list of levels at `indices` (strictly ascending); iDDPM section 4."""
        chosen = torch.tensor(indices, dtype=torch.long)
        return Schedule(t=self.t[chosen], alpha_bar=self.alpha_bar[chosen])

    def respace(self, spec: str | int) -> "Schedule":
        """The sub-list that `spec` names; see `spaced`."""
        return self.take(spaced(len(self), spec))

    def log_snr_spaced(self, steps: int, *, lowest: float = -10.2) -> "Schedule":
        """`steps` levels at equal distances in log-SNR, at fractional times.

        The noisiest is this schedule's own but not below `lowest`: past λ = −5.1 (half the log-SNR) a
        cosine schedule changes nothing but its numbers; DPM-Solver stops there as well.
        """
        if steps < 1:
            raise ValueError(f"steps is {steps}: give at least 1")
        noisiest = max(self.log_snr[-1].item(), lowest)
        levels = torch.linspace(noisiest, self.log_snr[0].item(), steps, dtype=torch.float64).flip(0)
        return Schedule(t=self.t_at(levels), alpha_bar=levels.sigmoid())

    def edm_spaced(self, steps: int, *, rho: float = 7.0, largest: float = 80.0) -> "Schedule":
        """`steps` levels even in σ^(1/ρ), σ = √((1−ᾱ)/ᾱ), at fractional times; EDM eq. 5.

        From this schedule's largest σ, but none above `largest`, to its smallest.
        """
        if steps < 1:
            raise ValueError(f"steps is {steps}: give at least 1")
        ends = torch.exp(-0.5 * self.log_snr[[-1, 0]]).clamp(max=largest) ** (1 / rho)
        sigmas = torch.linspace(ends[0].item(), ends[1].item(), steps, dtype=torch.float64).flip(0) ** rho
        log_snr = -2 * sigmas.log()
        return Schedule(t=self.t_at(log_snr), alpha_bar=log_snr.sigmoid())


def linear(steps: int) -> Schedule:
    """β in equal steps from 1e-4 to 0.02 at 1000 steps, scaled by 1000/steps otherwise; DDPM section 4."""
    if steps <= 20:
        raise ValueError(f"steps is {steps}: linear needs more than 20, else its last β reaches 1")
    scale = 1000 / steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64)
    return _of_betas(betas)


def cosine(steps: int) -> Schedule:
    """ᾱ follows cos², so that information leaves evenly; each β at most 0.999; iDDPM eq. 17."""
    if steps < 1:
        raise ValueError(f"steps is {steps}: give at least 1")
    edges = torch.arange(steps + 1, dtype=torch.float64) / steps
    signal = torch.cos((edges + 0.008) / 1.008 * (math.pi / 2)).square()
    return _of_betas((1 - signal[1:] / signal[:-1]).clamp(max=0.999))


def vp_sde(times: Float[Tensor, "steps"], *, beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """The continuous variance-preserving SDE read at `times` in (0, 1], ascending; score SDE eq. 33."""
    times = times.to(torch.float64)
    integral = 0.5 * (beta_max - beta_min) * times.square() + beta_min * times
    return Schedule(t=times, alpha_bar=torch.exp(-integral))


def spaced(total: int, spec: str | int) -> list[int]:
    """Which of `total` levels to visit, ascending.

    - `27` or "27": as even as whole numbers allow, both ends included;
    - "10,10,3,2,2": the levels cut into that many equal sections, with so many visits in each;
    - "ddim25": a constant whole stride from 0, as in DDIM (the last level is not reached);
    - "fast27": GLIDE's set for upsampling, "10,10,3,2,2" with the last visit two levels earlier.
    """
    text = str(spec)
    if text == "fast27":
        return [*spaced(total, "10,10,3,2,2")[:-1], total - 3]
    if text.startswith("ddim"):
        return _strided(total, text)
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"spec is {spec!r}: give a count (27), counts by section ('10,10,3,2,2'), 'ddim25' or 'fast27'"
        ) from None
    if counts == [1]:
        return [total - 1]  # A lone step must begin where the noise is.
    size, extra = divmod(total, len(counts))
    levels: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        width = size + (section < extra)
        if not 1 <= count <= width:
            raise ValueError(f"spec is {spec!r}: a section of {width} levels cannot give {count} steps")
        stride = (width - 1) / (count - 1) if count > 1 else 1.0
        # The published sets add the stride up instead of multiplying; that decides which way 499.5 rounds.
        offset = 0.0
        for _ in range(count):
            levels.append(start + round(offset))
            offset += stride
        start += width
    return levels


def _strided(total: int, spec: str) -> list[int]:
    count = int(spec[4:]) if spec[4:].isdecimal() else 0
    for stride in range(1, total + 1):
        if len(range(0, total, stride)) == count:
            return list(range(0, total, stride))
    raise ValueError(f"spec is {spec!r}: no whole stride over {total} levels visits that many")


def _of_betas(betas: Float[Tensor, "steps"]) -> Schedule:
    return Schedule(t=torch.arange(len(betas), dtype=torch.float64), alpha_bar=(1 - betas).cumprod(0))


def _interpolate(
    x: Float[Tensor, "*b"], knots: Float[Tensor, "n"], values: Float[Tensor, "n"]
) -> Float[Tensor, "*b"]:
    """Piecewise linear through (knots, values), knots ascending; constant outside, exact at the knots."""
    if len(knots) == 1:
        return values.expand(x.shape).clone()
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    left = right - 1
    weight = ((x - knots[left]) / (knots[right] - knots[left])).clamp(0, 1)
    return torch.lerp(values[left], values[right], weight)
