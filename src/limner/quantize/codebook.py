"""The nearest code, with straight-through gradients: VQ-VAE's bottleneck.

van den Oord et al. 2017, "Neural Discrete Representation Learning", section 3 and appendix A.1.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.distributed import averaged, gathered, world
from limner.draws import Draws
from limner.quantize.result import Quantized, Usage, everywhere, usage_of

# Vectors compared with the codebook at a time: all at once, the distances of a large batch fill the memory.
CHUNK = 2**15


@dataclass(frozen=True, kw_only=True)
class MovingAverage:
    """Codes as running means of the vectors that chose them (appendix A.1; VQ-VAE-2 trains so).

    N_i ← γ N_i + (1 - γ) n_i,  m_i ← γ m_i + (1 - γ) Σ z,  e_i = m_i / Ñ_i with Laplace smoothing
    Ñ_i = (N_i + ε) / (Σ N + K ε) · Σ N. Published: `decay` γ = 0.99, `epsilon` ε = 1e-5.

    `restart_below`: an option that is NOT in the papers. Codes whose N_i falls below it are put where a
    vector of the batch, drawn at random, lies. A code begins and restarts with N_i = 1, so an idle one is
    left alone for ln(restart_below) / ln(decay) steps: 69 for 0.5 and 0.99. None: never, as published.
    """

    decay: float
    epsilon: float
    restart_below: float | None

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: {self.decay}; give a number from 0 and below 1, such as 0.99")
        if not self.epsilon > 0:
            raise ValueError(f"epsilon: {self.epsilon}; give a small positive number, such as 1e-5")
        if self.restart_below is not None and not 0 < self.restart_below < 1:
            raise ValueError(
                f"restart_below: {self.restart_below}; give a number between 0 and 1, or None for never"
            )


@dataclass(frozen=True, kw_only=True)
class CodebookConfig:
    """`codes`: K. `width`: D. `average`: how the codes follow the vectors; None: by the codebook loss.

    `beta`: weight of the commitment loss, 0.25 in the papers.
    """

    codes: int
    width: int
    beta: float
    average: MovingAverage | None


class Codebook(nn.Module):
    """K vectors of width D; each input is replaced by the nearest.

    In training the loss is, with sg for "no gradient" and MEANS over all vectors and their D elements,

        β · mean (z - sg[e])²  +  mean (sg[z] - e)²,

    the second term only without a moving average. The paper's ‖·‖² is D times such a mean, so a β of the
    paper's is the same number here as long as both terms are means; but next to a reconstruction error that
    is a mean over pixels as well, the pair weighs 1/D of what sums would. Sonnet and most others take means.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        # Uniform of variance 1/D: codes as long as vectors of that many weak features, so that not one code
        # near the origin is nearest to everything at first.
        limit = math.sqrt(3 / config.width)
        codes = torch.empty(config.codes, config.width).uniform_(-limit, limit)
        if config.average is None:
            self.codes = nn.Parameter(codes)
        else:
            # As if each code had been chosen once, by itself: what is never chosen stays where it is. Begun
            # at zero, m_i / Ñ_i would throw idle codes out to where nothing ever chooses them.
            self.register_buffer("codes", codes)
            self.register_buffer("counts", torch.ones(config.codes))
            self.register_buffer("sums", codes.clone())

    def forward(self, z: Float[Tensor, "b *n d"], draws: Draws | None = None) -> Quantized:
        """Replace each vector by its nearest code.

        The result's gradient passes unchanged to `z` (to no code), its value is the code to the bit. With a
        moving average, training moves the codes after they were used; evaluation leaves them as they are.
        `draws`: one stream for each of the B rows; asked for only by training with restarts.
        """
        if z.shape[-1] != self.config.width:
            raise ValueError(f"z: vectors of width {z.shape[-1]}, but the codes have {self.config.width}")
        average = self.config.average
        if self.training and average is not None and average.restart_below is not None and draws is None:
            raise ValueError(
                "draws: missing, but training restarts idle codes at random; give a stream a row"
            )
        with torch.autocast(z.device.type, enabled=False):
            exact = z.float()
            ids = self.nearest(exact)
            chosen = self.vectors(ids).float()
            loss = self.config.beta * F.mse_loss(exact, chosen.detach())
            if average is None:
                loss = loss + F.mse_loss(chosen, exact.detach())
            # Not z + sg[e - z], which rounds; this is e, with z's gradient.
            passed = chosen.detach() + (exact - exact.detach())
            usage = usage_of(ids, self.config.codes)
            if self.training:
                usage = everywhere(usage)
                if average is not None:
                    self._follow(exact.detach(), ids, usage, average, draws)
        return Quantized(vectors=passed.to(z.dtype), ids=ids, loss=loss, usage=usage)

    def vectors(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """The codes with these numbers."""
        return F.embedding(ids, self.codes)

    @torch.no_grad()
    def nearest(self, z: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """argmin_i ‖z - e_i‖, the first of those that tie."""
        codes = self.codes.float()
        # ‖z‖² is the same for all codes; left out, it does not drown the differences either.
        half = codes.square().sum(dim=1) / 2
        flat = rearrange(z.float(), "... d -> (...) d")
        with torch.autocast(z.device.type, enabled=False):
            ids = [torch.addmm(half, part, codes.T, alpha=-1).argmin(dim=1) for part in flat.split(CHUNK)]
        return torch.cat(ids).reshape(z.shape[:-1])

    @torch.no_grad()
    def _follow(
        self,
        z: Float[Tensor, "b *n d"],
        ids: Int[Tensor, "b *n"],
        usage: Usage,
        average: MovingAverage,
        draws: Draws | None,
    ) -> None:
        """Move the averages by one batch of all processes, then the codes onto them."""
        flat = rearrange(z, "b ... d -> (b ...) d")
        own = torch.zeros_like(self.sums).index_add_(0, rearrange(ids, "b ... -> (b ...)"), flat)
        self.counts.lerp_(usage.counts.to(self.counts), 1 - average.decay)
        self.sums.lerp_(averaged(own) * world(), 1 - average.decay)
        total = self.counts.sum()
        smoothed = (self.counts + average.epsilon) / (total + len(self.counts) * average.epsilon) * total
        self.codes.copy_(self.sums / rearrange(smoothed, "k -> k 1"))
        if average.restart_below is not None and draws is not None:
            self._restart(z, self.counts < average.restart_below, draws)

    def _restart(self, z: Float[Tensor, "b *n d"], idle: Tensor, draws: Draws) -> None:
        """Put idle codes where vectors of the batch lie, the same ones in every process."""
        needed = int(idle.sum())
        if not needed:
            return
        rows = rearrange(z, "b ... d -> b (...) d")
        each = -(-needed // (len(rows) * world()))
        picks = draws.integers(rows.shape[1], each).to(z.device)
        found = gathered(rows.take_along_dim(rearrange(picks, "b m -> b m 1"), dim=1))
        # One vector of every row before a second of any: a few idle codes do not all go to the first picture.
        fresh = rearrange(found, "b m d -> (m b) d")[:needed]
        self.codes[idle] = fresh
        self.sums[idle] = fresh
        self.counts[idle] = 1.0
