"""From noise to data with a network that was trained for it: read it, guide it, clip it, walk."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from limner.diffusion.guidance import classifier_free_batched, clipped, steered
from limner.diffusion.process import Denoiser, Network, Steer, denoiser
from limner.diffusion.samplers import Step, ancestral, ddim, dpm_solver_pp_2m, heun
from limner.diffusion.schedule import Schedule
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.pipelines.settings import Sampler, Spacing

# Levels → the variance of the step down from each of them.
Variance: TypeAlias = Callable[[Schedule], Float[Tensor, "steps"]]


def sides(guidance: float) -> tuple[bool, ...]:
    """What to ask a network for at this guidance: with its condition, without, or both in this order."""
    if guidance == 1:
        return (True,)
    return (False,) if guidance == 0 else (True, False)


def scales(guidance: float) -> tuple[float, ...]:
    """How far to go from each of these sides to the one before it: none where there is but one."""
    return () if guidance in (0, 1) else (guidance,)


def sample(
    network: Network,
    spec: DiffusionSpec,
    x_T: Float[Tensor, "b *d"],
    draws: Draws,
    *,
    sampler: Sampler,
    steps: Spacing,
    scales: Sequence[float],
    bounds: Callable[[Denoiser], Denoiser],
    advance: Callable[[], None],
    steer: Steer | None = None,
    levels: Schedule | None = None,
    variance: Variance | None = None,
    look: Callable[[Step], None] | None = None,
) -> Float[Tensor, "b *d"]:
    """`steps` steps of `network`, trained as `spec` says, from `x_T` to clean data.

    The network is asked for the rows of x_T once more than there are `scales`, one side after the other in
    one batch, the one that is told most first; see `classifier_free_batched`. `steer` is the gradient of what
    is wanted besides, scale and all. `bounds` keeps x̂_0 in them after all guidance, as `within_pixels` does.
    `x_T` is at the noisiest of `levels`, by default of those of
    training. `variance`: see `walk`. `advance` is called after each step, and `look` with it.
    """
    trained = spec.levels()
    levels = trained if levels is None else levels
    denoise = denoiser(network, trained, spec.prediction, learned_variance=spec.learned_variance)
    if scales:
        denoise = classifier_free_batched(denoise, scales)
    if steer is not None and sampler != "ancestral":
        denoise = steered(denoise, steer, trained, 1.0)
    x = x_T
    for step in walk(sampler, bounds(denoise), x_T, levels, steps, draws, steer=steer, variance=variance):
        x = step.x
        advance()
        if look is not None:
            look(step)
    return x


def within_pixels(denoise: Denoiser) -> Denoiser:
    """Hold x̂_0 within the range of pixels."""
    return clipped(denoise, 1.0)


def unbounded(denoise: Denoiser) -> Denoiser:
    """Leave x̂_0 as it is, as for embeddings."""
    return denoise


def walk(
    sampler: Sampler,
    denoise: Denoiser,
    x_T: Float[Tensor, "b *d"],
    levels: Schedule,
    steps: Spacing,
    draws: Draws,
    *,
    steer: Steer | None = None,
    variance: Variance | None = None,
) -> Iterator[Step]:
    """The sampler of that name, on those of the levels that it visits in so many `steps`.

    Only "ancestral" draws noise on the way, of the `variance` of every level where it is known, and `steer`s
    its mean; the others want a denoiser that is steered already.
    """
    chosen = visited(sampler, levels, steps)
    if sampler == "dpm++":
        return dpm_solver_pp_2m(denoise, x_T, chosen)
    if sampler == "heun":
        return heun(denoise, x_T, chosen)
    if sampler == "ddim":
        return ddim(denoise, x_T, chosen)
    if variance is None:
        return ancestral(denoise, x_T, chosen, draws, steer=steer)
    return ancestral(denoise, x_T, chosen, draws, variance=variance(chosen), steer=steer)


def visited(sampler: Sampler, levels: Schedule, steps: Spacing) -> Schedule:
    """A choice of levels that has a name, or so many of them.

    "dpm++" takes such at equal distances in log-SNR, "heun" those of EDM, the others such at equal distances
    in time.
    """
    if sampler == "dpm++" and isinstance(steps, int):
        return levels.log_snr_spaced(steps)
    if sampler == "heun" and isinstance(steps, int):
        return levels.edm_spaced(steps)
    return levels.respace(steps)
