"""The loss of every network that learns to take noise away: draw a level, noise, predict, compare."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limner.diffusion.process import q_sample, simple_loss, target, to_x0, variance_loss
from limner.diffusion.spec import DiffusionSpec
from limner.distributed import averaged
from limner.draws import Draws
from limner.objective import Loss


@dataclass(frozen=True)
class Noised:
    """A batch at random noise levels: state, time for the network, level index, ᾱ and the noise."""

    x_t: Tensor
    t: Tensor
    index: Tensor
    alpha_bar: Tensor
    noise: Tensor


def noised(spec: DiffusionSpec, x0: Float[Tensor, "b *d"], draws: Draws, *, lean: float = 0.0) -> Noised:
    """Draw a level and noise for each row; DDPM algorithm 1, lines 2 to 4.

    All levels alike, as in the paper; a share `lean` of the rows takes the noisier of two that are drawn so.
    What is learned is then another weighing of the levels, for nothing is divided out.
    """
    levels = spec.levels()
    index = draws.integers(spec.steps)
    if lean > 0:
        index = torch.where(draws.bernoulli(lean), index.maximum(draws.integers(spec.steps)), index)
    noise = draws.normal(*x0.shape[1:])
    alpha_bar = levels.alpha_bar.float().to(x0.device)[index]
    return Noised(q_sample(levels, x0, index, noise), index.float(), index, alpha_bar, noise)


def diffusion_loss(
    spec: DiffusionSpec,
    x0: Float[Tensor, "b *d"],
    n: Noised,
    output: Float[Tensor, "b *o"],
    *,
    max_weight: float | None,
) -> Loss:
    """Squared error of whatever the network predicts, plus the bound's share if it learns the variance.

    The baseline is the loss of the best constant guess: zero for the noise, the batch's mean for a picture.
    """
    fraction = None
    if spec.learned_variance:
        output, fraction = output.chunk(2, dim=1)
    wanted = target(spec.prediction, x0, n.noise, n.alpha_bar)
    error = simple_loss(output, wanted)
    weight = torch.ones_like(error)
    if max_weight is not None:
        if spec.prediction != "x0":
            raise ValueError(f"max_weight: weighs x0 predictions, not {spec.prediction!r}; use None")
        weight = (1 / (1 - n.alpha_bar)).clamp(max=max_weight)
    total = (weight * error).mean()
    if fraction is not None:
        x0_hat = to_x0(spec.prediction, output.float(), n.x_t, n.alpha_bar)
        bound = variance_loss(
            spec.levels(), n.index, x0=x0, x_t=n.x_t, x0_hat=x0_hat, fraction=fraction.float()
        )
        total = total + bound.mean()
    centred = wanted - averaged(wanted.mean(dim=0))
    constant = averaged((weight * simple_loss(centred, torch.zeros_like(centred))).mean())
    return Loss(total=total, report={"error": error.mean().detach()}, baseline=float(constant))
