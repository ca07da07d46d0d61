"""A draw from logits through which gradients flow: Gumbel-softmax, soft or straight-through.

Jang, Gu & Poole 2017; Maddison, Mnih & Teh 2017. DALL-E 1's dVAE takes it soft, wav2vec 2.0 straight-through.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.draws import Draws
from limner.quantize.result import Quantized, everywhere, usage_of


def gumbel_softmax(
    logits: Float[Tensor, "*b k"], noise: Float[Tensor, "*b k"], *, temperature: float, hard: bool
) -> Float[Tensor, "*b k"]:
    """softmax((logits + g) / τ): points of the simplex that near one-hot draws from softmax(logits) as τ → 0.

    `hard`: the value is the one-hot vector of the largest, the gradient that of the soft one.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature}; give a positive number")
    soft = ((logits + noise) / temperature).softmax(dim=-1)
    if not hard:
        return soft
    return _one_hot(soft) + (soft - soft.detach())


def _one_hot(scores: Float[Tensor, "*b k"]) -> Float[Tensor, "*b k"]:
    """One at the largest score, zero elsewhere."""
    return F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores.dtype)


def kl_from_uniform(logits: Float[Tensor, "*b k"]) -> Float[Tensor, "*b"]:
    """KL(softmax(logits) ‖ uniform) = Σ q (ln q + ln K) in nats, between 0 and ln K; for each position."""
    log_q = logits.log_softmax(dim=-1)
    return (log_q.exp() * log_q).sum(dim=-1) + math.log(logits.shape[-1])


def exponentially_annealed(step: int, *, start: float, end: float, factor: float) -> float:
    """start · factor^step, not below `end`; wav2vec 2.0: 2 to 0.5 by 0.999995 an UPDATE, not an epoch."""
    return max(end, start * factor**step)


def cosine_annealed(step: int, *, start: float, end: float, steps: int) -> float:
    """From `start` to `end` along half a cosine in `steps` updates; DALL-E 1: τ from 1 to 1/16 in 150 000."""
    share = min(1.0, step / steps)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class GumbelCodebook(nn.Module):
    """K vectors of width D, mixed by Gumbel-softmax of the logits in training, chosen by argmax otherwise.

    The loss is the mean over positions of KL(q ‖ uniform) in nats, the bound's own term; sum it over
    positions (multiply by their number) before weighing it against a reconstruction error summed over pixels.
    """

    def __init__(self, *, codes: int, width: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(codes, width) / math.sqrt(width))

    def forward(
        self,
        logits: Float[Tensor, "b *n k"],
        *,
        temperature: float | None = None,
        draws: Draws | None = None,
        hard: bool = False,
    ) -> Quantized:
        """Logits to vectors. Training needs `temperature` and `draws`; `hard` is straight-through.

        The ids, and the usage, are those of argmax without noise, which is how pictures become tokens.
        """
        if logits.shape[-1] != len(self.codes):
            raise ValueError(f"logits: for {logits.shape[-1]} codes, but there are {len(self.codes)}")
        exact = logits.float()
        ids = exact.argmax(dim=-1)
        usage = usage_of(ids, len(self.codes))
        if self.training:
            if temperature is None or draws is None:
                raise ValueError("temperature, draws: training needs both")
            noise = draws.gumbel(*logits.shape[1:]).to(logits.device)
            mixed = gumbel_softmax(exact, noise, temperature=temperature, hard=hard).to(logits.dtype)
            vectors, usage = mixed @ self.codes.to(mixed.dtype), everywhere(usage)
        else:
            vectors = F.embedding(ids, self.codes)
        return Quantized(vectors=vectors, ids=ids, loss=kl_from_uniform(exact).mean(), usage=usage)
