"""Ways from noise to data, for any denoiser.

Each sampler is a generator: it walks `levels` from the noisiest to the cleanest and yields a `Step` after
each step, so a caller may draw a progress bar, show x̂_0 or stop early; `last` just runs it. The start is
N(0, I). With `to_clean` the walk ends on clean data, one step for each level; without, it ends at the
cleanest level, one step fewer. A step is one evaluation of the denoiser, but two of `heun`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from limner.diffusion.process import Denoised, Denoiser, Steer, log_variance, posterior_mean, to_eps
from limner.diffusion.schedule import Schedule
from limner.draws import Draws


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a sampler stands: step `index` of `total` is done, `x` is the state, `x0` the guess behind it."""

    index: int
    total: int
    x: Float[Tensor, "b *d"]
    x0: Float[Tensor, "b *d"]


def last(steps: Iterable[Step]) -> Float[Tensor, "b *d"]:
    """Run a sampler to its end."""
    x = None
    for step in steps:
        x = step.x
    if x is None:
        raise ValueError("steps is empty: without to_clean a sampler needs at least two levels")
    return x


def ancestral(
    denoise: Denoiser,
    x_T: Float[Tensor, "b *d"],
    levels: Schedule,
    draws: Draws,
    *,
    variance: Literal["small", "large"] | Float[Tensor, "steps"] = "small",
    steer: Steer | None = None,
) -> Iterator[Step]:
    """Draw each x_{t−1} from p(x_{t−1} | x_t); DDPM algorithm 2.

    The variance is the denoiser's own where it has learned one, else β̃ ("small"), β ("large"), or one for
    each of `levels`, as `analytic_variance` finds it. `steer` shifts the mean by Σ ∇ ln p(y | x_t), scale and
    all (Dhariwal & Nichol 2021, algorithm 1).
    """
    if isinstance(variance, Tensor):
        fixed = variance.log()
    elif variance in ("small", "large"):
        fixed = levels.posterior_log_variance if variance == "small" else levels.betas.log()
    else:
        raise ValueError(f"variance is {variance!r}: choose 'small' or 'large', or give one for each level")
    total = len(levels)
    x = x_T
    for index, level in enumerate(reversed(range(total))):
        denoised = _ask(denoise, x, levels, level)
        rows = torch.full((len(x),), level)
        mean = posterior_mean(levels, rows, denoised.x0, x)
        if level > 0:
            if denoised.variance is None:
                deviation: Tensor | float = math.exp(0.5 * fixed[level].item())
            else:
                deviation = torch.exp(0.5 * log_variance(denoised.variance, levels, rows))
            if steer is not None:
                mean = mean + deviation**2 * steer(x, _times(levels, level, x))
            x = mean + deviation * _noise(draws, x)
        else:
            x = mean
        yield Step(index=index, total=total, x=x, x0=denoised.x0)


def ddim(
    denoise: Denoiser,
    x_T: Float[Tensor, "b *d"],
    levels: Schedule,
    draws: Draws | None = None,
    *,
    eta: float = 0.0,
    to_clean: bool = True,
) -> Iterator[Step]:
    """Keep the predicted noise, or swap a part of it for fresh noise; DDIM eq. 12 and 16.

    η = 0 is deterministic (Euler's method on the probability-flow ODE), η = 1 is ancestral with β̃.
    """
    if eta < 0:
        raise ValueError(f"eta is {eta}: give 0 (deterministic) up to 1 (as noisy as ancestral)")
    if eta > 0 and draws is None:
        raise ValueError("draws is missing: eta > 0 needs fresh noise")
    walk = _walk(levels, to_clean=to_clean)
    x = x_T
    for index, (level, alpha_bar, alpha_bar_next) in enumerate(walk):
        denoised = _ask(denoise, x, levels, level)
        eps = to_eps(x, denoised.x0, levels.alpha_bar[level].expand(len(x)))
        fresh = eta * math.sqrt((1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_next))
        # At η = 1 the two squares meet; rounding may leave −1e-17.
        kept = math.sqrt(max(1 - alpha_bar_next - fresh**2, 0.0))
        x = math.sqrt(alpha_bar_next) * denoised.x0 + kept * eps
        if fresh > 0 and draws is not None:
            x = x + fresh * _noise(draws, x)
        yield Step(index=index, total=len(walk), x=x, x0=denoised.x0)


def ddim_invert(
    denoise: Denoiser, x0: Float[Tensor, "b *d"], levels: Schedule, *, refinements: int = 0
) -> Iterator[Step]:
    """DDIM run backwards, from data to the noise that paints it; DDIM eq. 13.

    x_0 stands for the state at the cleanest level, and the walk ends at the noisiest. The noise is taken
    from the cleaner end of each step, so painting the result again is off by O(1/steps). Each of the
    `refinements` takes it once more from where the step has led, at another evaluation: a fixed point is the
    state from which `ddim` comes back exactly (Pan et al. 2023, "Effective Real Image Editing with
    Accelerated Iterative Diffusion Inversion"). It is reached where guesses depend little on their input.
    """
    total = len(levels) - 1
    alpha_bars = levels.alpha_bar.tolist()
    x = x0
    for level in range(total):
        here, there = alpha_bars[level], alpha_bars[level + 1]
        guess = _ask(denoise, x, levels, level).x0
        noisier = _noisier(x, guess, here, there)
        for _ in range(refinements):
            guess = _ask(denoise, noisier, levels, level + 1).x0
            noisier = _noisier(x, guess, here, there)
        x = noisier
        yield Step(index=level, total=total, x=x, x0=guess)


def _noisier(
    x: Float[Tensor, "b *d"], x0: Float[Tensor, "b *d"], here: float, there: float
) -> Float[Tensor, "b *d"]:
    """The state at ᾱ = `there` with the noise that `x` has at ᾱ = `here`, if this x̂_0 lies below it."""
    noise = (x - math.sqrt(here) * x0) / math.sqrt(1 - here)
    return math.sqrt(there) * x0 + math.sqrt(1 - there) * noise


def dpm_solver_pp_2m(
    denoise: Denoiser, x_T: Float[Tensor, "b *d"], levels: Schedule, *, to_clean: bool = True
) -> Iterator[Step]:
    """Second order with one evaluation a step, from the last two guesses; DPM-Solver++ algorithm 2.

    Integrates in λ = ln(α/σ), so levels evenly spaced in log-SNR suit it best. The first step has no past
    and is of order 1; so is the step to clean data, where λ is infinite and x is x̂_0.
    """
    walk = _walk(levels, to_clean=to_clean)
    half_log_snr = (0.5 * levels.log_snr).tolist()
    x = x_T
    before: Tensor | None = None
    h_before = 0.0
    for index, (level, alpha_bar, alpha_bar_next) in enumerate(walk):
        x0 = _ask(denoise, x, levels, level).x0
        if alpha_bar_next == 1.0:
            x = x0
        else:
            h = half_log_snr[level - 1] - half_log_snr[level]
            guess = x0 if before is None else x0 + (x0 - before) * (h / (2 * h_before))
            shrink = math.sqrt((1 - alpha_bar_next) / (1 - alpha_bar))
            x = shrink * x - math.sqrt(alpha_bar_next) * math.expm1(-h) * guess
            before, h_before = x0, h
        yield Step(index=index, total=len(walk), x=x, x0=x0)


def dpm_solver_pp_3m(
    denoise: Denoiser, x_T: Float[Tensor, "b *d"], levels: Schedule, *, to_clean: bool = True
) -> Iterator[Step]:
    """Third order with one evaluation a step, from the last three guesses; Lu et al. 2022, appendix B.

    The parabola through three guesses in λ is integrated exactly. The first step has no past and the second
    one guess of it; both lie where there is most noise and the guess changes least.
    """
    walk = _walk(levels, to_clean=to_clean)
    half_log_snr = (0.5 * levels.log_snr).tolist()
    x = x_T
    past: list[tuple[float, Tensor]] = []  # λ and guess, the last one first
    for index, (level, alpha_bar, alpha_bar_next) in enumerate(walk):
        x0, here = _ask(denoise, x, levels, level).x0, half_log_snr[level]
        if alpha_bar_next == 1.0:
            x = x0
        else:
            h = half_log_snr[level - 1] - here
            rise, bend = _derivatives(here, x0, past)
            # ∫ e^u (x̂_0 + u·rise + u²/2·bend) du over the step, times e^{−h}.
            first = -math.expm1(-h)
            second = h - first
            third = 0.5 * h * h - second
            shrink = math.sqrt((1 - alpha_bar_next) / (1 - alpha_bar))
            x = shrink * x + math.sqrt(alpha_bar_next) * (first * x0 + second * rise + third * bend)
            past = [(here, x0), *past[:1]]
        yield Step(index=index, total=len(walk), x=x, x0=x0)


def _derivatives(
    here: float, x0: Float[Tensor, "b *d"], past: list[tuple[float, Tensor]]
) -> tuple[Tensor | float, Tensor | float]:
    """First and second derivative by λ at `here` of the polynomial through this guess and those before."""
    if not past:
        return 0.0, 0.0
    (one, guess), *older = past
    slope = (x0 - guess) / (here - one)
    if not older:
        return slope, 0.0
    two, first = older[0]
    curve = (slope - (guess - first) / (one - two)) / (here - two)
    return slope + curve * (here - one), 2 * curve


def heun(
    denoise: Denoiser, x_T: Float[Tensor, "b *d"], levels: Schedule, *, to_clean: bool = True
) -> Iterator[Step]:
    """Second order with two evaluations a step, on x/√ᾱ over σ = √((1−ᾱ)/ᾱ); EDM algorithm 1.

    Euler's step, then the mean of the slopes at both of its ends. The step to clean data is Euler's alone,
    since there is no noise to ask about. Levels of `Schedule.edm_spaced` are those of the paper.
    """
    walk = _walk(levels, to_clean=to_clean)
    x = x_T
    for index, (level, alpha_bar, alpha_bar_next) in enumerate(walk):
        x0 = _ask(denoise, x, levels, level).x0
        if alpha_bar_next == 1.0:
            x = x0
        else:
            sigma, sigma_next = (math.sqrt((1 - a) / a) for a in (alpha_bar, alpha_bar_next))
            scaled = x / math.sqrt(alpha_bar)
            slope = (scaled - x0) / sigma
            euler = scaled + (sigma_next - sigma) * slope
            there = _ask(denoise, math.sqrt(alpha_bar_next) * euler, levels, level - 1).x0
            slope_there = (euler - there) / sigma_next
            x = math.sqrt(alpha_bar_next) * (scaled + (sigma_next - sigma) * 0.5 * (slope + slope_there))
        yield Step(index=index, total=len(walk), x=x, x0=x0)


def _walk(levels: Schedule, *, to_clean: bool) -> list[tuple[int, float, float]]:
    """(level, ᾱ there, ᾱ at the end of the step), from the noisiest on."""
    ends = zip(levels.alpha_bar.tolist(), levels.alpha_bar_prev.tolist(), strict=True)
    steps = [(level, here, there) for level, (here, there) in enumerate(ends)]
    return steps[::-1] if to_clean else steps[:0:-1]


def _ask(denoise: Denoiser, x: Float[Tensor, "b *d"], levels: Schedule, level: int) -> Denoised:
    return denoise(x, _times(levels, level, x))


def _times(levels: Schedule, level: int, x: Float[Tensor, "b *d"]) -> Float[Tensor, "b"]:
    return torch.full((len(x),), levels.t[level].item(), dtype=x.dtype, device=x.device)


def _noise(draws: Draws, like: Float[Tensor, "b *d"]) -> Float[Tensor, "b *d"]:
    return draws.normal(*like.shape[1:]).to(like)
