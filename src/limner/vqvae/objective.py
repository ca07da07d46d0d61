"""What the autoencoders and their priors are trained to do."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from limner.distributed import averaged
from limner.draws import Draws
from limner.objective import Loss, Objective
from limner.quantize import said
from limner.quantize.result import usage_of
from limner.vqvae.model import Reconstruction


class Pictures(NamedTuple):
    """For an autoencoder: pictures in [-1, 1], (B, 3, H, W)."""

    pictures: Tensor


class CodesAndCondition(NamedTuple):
    """For a prior: `ids` (B, h, w); unit vectors `condition` (B, c); coarser codes `above` (B, h2, w2)."""

    ids: Tensor
    condition: Tensor | None
    above: Tensor | None


def reconstruction_objective() -> Objective[Pictures]:
    """Mean squared error of the pictures plus every codebook's own loss; for VQ-VAE and VQ-VAE-2 alike.

    All are MEANS over elements, as in Sonnet's and rosinality's code (van den Oord et al. 2017, equation 3,
    has sums). What β means next to them is said in `limner.quantize.Codebook`. A model that knows nothing
    paints the batch's mean picture; its loss is the batch's variance. Warns of a collapsed codebook.
    """

    def objective(model: nn.Module, batch: Pictures, draws: Draws) -> Loss:
        out: Reconstruction = model(batch.pictures, draws)
        error = F.mse_loss(out.pictures.float(), batch.pictures)
        total = error + torch.stack([level.loss for level in out.levels.values()]).sum()
        report = {"error": error.detach()}
        warnings = []
        for name, level in out.levels.items():
            report[f"{name} loss"] = level.loss.detach()
            report[f"{name} perplexity"] = level.usage.perplexity
            report[f"{name} used"] = level.usage.share
            warnings.append(said(level.usage, name if len(out.levels) == 1 else f"{name} codes"))
        mean = averaged(batch.pictures.mean(dim=0))
        variance = averaged((batch.pictures - mean).square().mean())
        warning = "; ".join(w for w in warnings if w is not None) or None
        return Loss(total=total, report=report, baseline=float(variance), warning=warning)

    return objective


def prior_objective(*, drop_condition: float) -> Objective[CodesAndCondition]:
    """Cross-entropy of the codes in nats, the mean over places; reports bits for each code.

    `drop_condition`: how often a row's condition is withheld, so that guidance has something to lead away
    from. The baseline is the entropy of the batch's codes: all that can be had without looking at any other.
    """

    def objective(model: nn.Module, batch: CodesAndCondition, draws: Draws) -> Loss:
        keep = None if batch.condition is None else ~draws.bernoulli(drop_condition)
        logits = model(batch.ids, condition=batch.condition, keep=keep, above=batch.above).float()
        codes = logits.shape[-1]
        loss = F.cross_entropy(
            rearrange(logits, "b h w k -> (b h w) k"), rearrange(batch.ids, "b h w -> (b h w)")
        )
        entropy = usage_of(batch.ids, codes).perplexity.log()
        return Loss(total=loss, report={"bits": loss.detach() / math.log(2)}, baseline=float(entropy))

    return objective
