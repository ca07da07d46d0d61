"""The dVAE's loss: what the mixed words fail to say of the picture, and how far they are from a fair die."""

import math
from typing import NamedTuple

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from limner.distributed import gathered
from limner.draws import Draws
from limner.dvae.likelihood import constant_nll, drawn_in, floored, logit_laplace_nll
from limner.dvae.model import DVae
from limner.dvae.schedule import Ramp
from limner.objective import Loss, Objective, unwrapped
from limner.quantize import kl_from_uniform, said
from limner.quantize.result import everywhere, usage_of


class PicturesAtStep(NamedTuple):
    """Pictures (B, 3, H, W) in [-1, 1], and the step they belong to, which the schedules ask for."""

    pictures: Tensor
    step: int


def idleness(logits: Float[Tensor, "b h w k"]) -> Float[Tensor, ""]:
    """KL(q̄ ‖ uniform) in nats, q̄ the mean of q over all places of all processes' batch; all must ask.

    It is the part of the mean KL(q ‖ uniform) that says nothing of the pictures; the rest, the mean of
    KL(q ‖ q̄), is how much a word tells about its place (Hoffman & Johnson 2016).
    """
    mean = gathered(reduce(logits.float().softmax(dim=-1), "b h w k -> 1 k", "mean")).mean(dim=0)
    return math.log(logits.shape[-1]) - torch.special.entr(mean).sum()


def dvae_objective(
    *, kl_weight: Ramp, temperature: Ramp, idle_weight: float, floor: float | None
) -> Objective[PicturesAtStep]:
    """(Σ −ln f(x|μ, b) + β Σ KL(q ‖ uniform)) / number of colour values: Ramesh et al. 2021, eq. 1 and A.2.

    Sums go over colour values and over places, so that β means what it means in the paper, whatever the size.
    q is taken without noise and temperature. Not in the paper, and left out by 0 and None: `idle_weight`
    times the idleness of the vocabulary at each place, as a further weight on that part of the KL alone;
    `floor`, which ln b does not fall below.

    Reports the two terms (nats a colour value, nats a place), and the perplexity of the batch's tokens and
    the share of words among them. A model that knows nothing says each pixel's median, with one b for all.
    """

    def objective(model: nn.Module, batch: PicturesAtStep, draws: Draws) -> Loss:
        config = unwrapped(model, DVae).config
        pictures = batch.pictures
        height, width = (side // config.factor for side in pictures.shape[-2:])
        noise = draws.gumbel(height, width, config.vocabulary)
        output = model(pictures, noise, temperature(batch.step))
        log_scale = output.log_scale if floor is None else floored(output.log_scale, floor)
        misfit = logit_laplace_nll(drawn_in(pictures), output.location, log_scale).mean()
        kl = kl_from_uniform(output.logits.float()).mean()
        pull = kl_weight(batch.step) * kl
        if idle_weight:
            pull = pull + idle_weight * idleness(output.logits)
        usage = everywhere(usage_of(output.logits.argmax(dim=-1), config.vocabulary))
        report = {"misfit": misfit, "kl": kl, "perplexity": usage.perplexity, "used": usage.share}
        return Loss(
            total=misfit + pull * (height * width / pictures[0].numel()),
            report={name: value.detach() for name, value in report.items()},
            baseline=float(constant_nll(pictures)),
            warning=said(usage, "words"),
        )

    return objective
