"""From noise to data with a network that was trained for it: read it, guide it, clip it, walk."""

from collections.abc import Callable, Iterator

from jaxtyping import Float
from torch import Tensor

from limner.diffusion.guidance import classifier_free_batched, clipped
from limner.diffusion.process import Denoiser, Network, denoiser
from limner.diffusion.samplers import Step, ancestral, ddim, dpm_solver_pp_2m
from limner.diffusion.schedule import Schedule
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.pipelines.settings import Sampler


def sides(guidance: float) -> tuple[bool, ...]:
    """What to ask a network for at this guidance: with its condition, without, or both in this order."""
    if guidance == 1:
        return (True,)
    return (False,) if guidance == 0 else (True, False)


def sample(
    network: Network,
    spec: DiffusionSpec,
    x_T: Float[Tensor, "b *d"],
    draws: Draws,
    *,
    sampler: Sampler,
    steps: int,
    guidance: float,
    limit: float | None,
    advance: Callable[[], None],
) -> Float[Tensor, "b *d"]:
    """`steps` evaluations of `network`, trained as `spec` says, from the noise `x_T` to clean data.

    The network is asked for the rows of x_T once for each of `sides(guidance)`, one side after the other in
    one batch. `limit` bounds every |x̂_0| after guidance. `advance` is called after each step.
    """
    trained = spec.levels()
    denoise = denoiser(network, trained, spec.prediction, learned_variance=spec.learned_variance)
    if len(sides(guidance)) == 2:
        denoise = classifier_free_batched(denoise, guidance)
    if limit is not None:
        denoise = clipped(denoise, limit)
    x = x_T
    for step in walk(sampler, denoise, x_T, trained, steps, draws):
        x = step.x
        advance()
    return x


def walk(
    sampler: Sampler,
    denoise: Denoiser,
    x_T: Float[Tensor, "b *d"],
    trained: Schedule,
    steps: int,
    draws: Draws,
) -> Iterator[Step]:
    """The sampler of that name, on `steps` of the `trained` noise levels.

    "dpm++" takes levels at equal distances in log-SNR, the others at equal distances in time. Only
    "ancestral" draws noise on the way.
    """
    if sampler == "dpm++":
        return dpm_solver_pp_2m(denoise, x_T, trained.log_snr_spaced(steps))
    levels = trained.respace(steps)
    return ddim(denoise, x_T, levels) if sampler == "ddim" else ancestral(denoise, x_T, levels, draws)
