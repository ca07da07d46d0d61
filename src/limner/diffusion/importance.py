"""Which noise levels to train on: those whose loss is large, more often, and weighed down for it.

The bound's terms differ by orders of magnitude, so that a few levels drown the gradient in noise. Drawn with
probability ∝ √E[L_t²] and weighed by its inverse, every level counts as before, and the estimate of the sum
scatters least. Nichol & Dhariwal 2021, section 3.3.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.distributed import gathered
from limner.draws import Draws


class Levels(NamedTuple):
    """A level of each row, and what its loss is to be multiplied by: 1 / (T p), of mean 1 over draws."""

    level: Int[Tensor, "b"]
    weight: Float[Tensor, "b"]


class LossAware(nn.Module):
    """Remembers the last `kept` losses of each of `steps` levels; draws evenly until it has them all.

    A module, so that what it remembers is saved and resumed with the network it belongs to. `uniform`: the
    share of draws that stays even, without which a level that was once lucky would never be drawn again.
    """

    losses: Tensor
    counts: Tensor

    def __init__(self, steps: int, *, kept: int = 10, uniform: float = 0.001) -> None:
        super().__init__()
        if not 0 < uniform <= 1:
            raise ValueError(f"uniform: {uniform}; give a share above 0 and at most 1")
        self.uniform = uniform
        self.register_buffer("losses", torch.zeros(steps, kept))
        self.register_buffer("counts", torch.zeros(steps, dtype=torch.int64))

    def probabilities(self) -> Float[Tensor, "steps"]:
        """How often each level is drawn."""
        steps, kept = self.losses.shape
        even = torch.full_like(self.losses[:, 0], 1 / steps)
        if bool((self.counts < kept).any()):
            return even
        size = self.losses.square().mean(dim=1).sqrt()
        return torch.lerp(size / size.sum(), even, self.uniform)

    def draw(self, draws: Draws) -> Levels:
        """A level for each row, by the row's own number."""
        p = self.probabilities()
        sums = p.cumsum(dim=0)
        place = draws.uniform().to(sums) * sums[-1]
        index = torch.searchsorted(sums, place, right=True).clamp(max=len(p) - 1)
        return Levels(index, (1 / (len(p) * p[index])).float())

    @torch.no_grad()
    def record(self, index: Int[Tensor, "b"], losses: Float[Tensor, "b"]) -> None:
        """Remember the unweighted losses of these rows, and of all other processes', in rank order."""
        kept = self.losses.shape[1]
        # As one table, since levels have to stay with their losses; float32 counts to sixteen millions.
        rows = gathered(torch.stack([index.float(), losses.detach().float()], dim=1)).cpu()
        for level, loss in zip(rows[:, 0].long().tolist(), rows[:, 1].tolist(), strict=True):
            if math.isfinite(loss):
                self.losses[level, int(self.counts[level]) % kept] = loss
                self.counts[level] += 1
