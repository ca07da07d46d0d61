"""What every quantizer gives back, and how it says that its codebook has collapsed."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from limner.distributed import averaged, world

# Of the codes that as many uniform choices would have touched: fewer than these shares are complained of.
COLLAPSED = 0.1
IDLE = 0.5
# A batch that one code alone could nearly describe: below this perplexity, whatever else is chosen at times.
NEARLY_ONE = 2.0


@dataclass(frozen=True)
class Usage:
    """How often each code was chosen: `counts` is (K,) for one codebook, (G, V) for G side by side.

    It covers what the quantizer has just seen: in training the batch of all processes, in evaluation this
    process's rows. Add the counts of several to judge a whole data set.
    """

    counts: Int[Tensor, "*g k"]

    @property
    def perplexity(self) -> Float[Tensor, "*g"]:
        """exp(-Σ p ln p) of the shares p: K where all codes are chosen alike, 1 where only one is."""
        shares = self.counts.float() / self.counts.sum(dim=-1, keepdim=True).clamp(min=1)
        return torch.special.entr(shares).sum(dim=-1).exp()

    @property
    def used(self) -> Int[Tensor, "*g"]:
        """How many codes were chosen at least once."""
        return (self.counts > 0).sum(dim=-1)

    @property
    def dead(self) -> Int[Tensor, "*g"]:
        """How many codes were never chosen."""
        return (self.counts == 0).sum(dim=-1)

    @property
    def share(self) -> Float[Tensor, ""]:
        """The part of all codes that was chosen at least once, of 1."""
        return (self.counts > 0).float().mean()


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Vectors after the bottleneck, `vectors` (B, ..., d), and which codes they are.

    `ids`: (B, ...) for one codebook, (B, ..., G) for G side by side. `loss`: what this quantizer wants
    minimised, a scalar whose terms, weights and reduction its own docstring states.
    """

    vectors: Float[Tensor, "*b d"]
    ids: Int[Tensor, "*n"]
    loss: Float[Tensor, ""]
    usage: Usage


def usage_of(ids: Int[Tensor, "*n"], codes: int) -> Usage:
    """Count the choices of one codebook of `codes` codes, in this process."""
    return Usage(torch.bincount(rearrange(ids, "... -> (...)"), minlength=codes))


def everywhere(usage: Usage) -> Usage:
    """The choices of all processes together; every process must ask."""
    return Usage((averaged(usage.counts.float()) * world()).round().long())


def said(usage: Usage, codes: str = "codes") -> str | None:
    """A sentence on a codebook that has collapsed or half of which lies idle; None where it is in good use.

    `codes`: what its codes are called, such as "top codes". A few choices cannot touch many codes, so the
    measure is what as many uniform choices would have touched: K (1 - (1 - 1/K)^n).
    """
    size = usage.counts.shape[-1]
    books = rearrange(usage.counts, "... k -> (...) k")
    for number, book in enumerate(books):
        choices = int(book.sum())
        if choices < 2:
            continue
        one = Usage(book)
        used, perplexity = int(one.used), float(one.perplexity)
        expected = size * (1 - (1 - 1 / size) ** choices)
        where = codes if len(books) == 1 else f"{codes} of group {number}"
        found = f"{used} of {size} {where} served {choices:,} choices (perplexity {perplexity:.1f})"
        if used < COLLAPSED * expected or perplexity < NEARLY_ONE <= expected / 2:
            return f"COLLAPSED: {found}: try a lower learning rate, or codes that restart (MovingAverage)"
        if used < IDLE * expected:
            return f"IDLE CODES: {found}: train on, or let codes restart (MovingAverage)"
    return None
