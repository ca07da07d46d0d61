"""The prior over a grid of codes: a causal transformer that writes them in reading order.

The papers' priors are PixelCNN (van den Oord et al. 2017, section 3.3) and networks like PixelSNAIL (Razavi
et al. 2019, section 3.2); ours is a transformer in their place. All have one factorisation in common,
p(codes) = Π p(code i | codes before i, condition), trained by cross-entropy; VQ-VAE-2 has one prior for the
top codes and one for the bottom codes given the top.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.autoregression import CachedStack
from limner.layers.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Above:
    """The coarser codes that a prior is given: `codes` different ones, `side` × `side` to a picture.

    They are read by a transformer of `layers` layers in which all see all, as VQ-VAE-2's conditioning stack
    does, and each place of the finer grid is told what was made of the code that covers it.
    """

    codes: int
    side: int
    layers: int


@dataclass(frozen=True, kw_only=True)
class CodePriorConfig:
    """`codes` different ones, `side` × `side` to a picture.

    `condition`: width of a unit vector, such as a CLIP caption embedding, that says what to paint; None
    without. `above`: the coarser codes it is given; None for a prior that stands alone.
    """

    codes: int
    side: int
    width: int
    layers: int
    heads: int
    condition: int | None
    above: Above | None

    def __post_init__(self) -> None:
        if self.above is not None and self.side % self.above.side:
            raise ValueError(f"side: {self.side} is not a multiple of the {self.above.side} codes above")


class Places(nn.Module):
    """A learned vector for each place of a grid, the sum of its row's and its column's."""

    def __init__(self, *, side: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(0.02 * torch.randn(side, width))
        self.columns = nn.Parameter(0.02 * torch.randn(side, width))

    def forward(self) -> Float[Tensor, "n w"]:
        """In reading order."""
        grid = rearrange(self.rows, "h d -> h 1 d") + rearrange(self.columns, "w d -> 1 w d")
        return rearrange(grid, "h w d -> (h w) d")


class AboveReader(nn.Module):
    """Coarser codes → what each place of the finer grid is told."""

    def __init__(self, config: Above, *, side: int, width: int, heads: int) -> None:
        super().__init__()
        self.config = config
        self.factor = side // config.side
        self.codes = embedding(config.codes, width)
        self.places = Places(side=config.side, width=width)
        self.transformer = Transformer(width=width, layers=config.layers, heads=heads, activation="gelu")
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Int[Tensor, "b h w"]) -> Float[Tensor, "b n d"]:
        """One vector for each place of the finer grid, in its reading order."""
        side = self.config.side
        if ids.shape[1:] != (side, side):
            raise ValueError(f"above: a grid {tuple(ids.shape[1:])}, but this prior reads {side}×{side}")
        tokens = self.codes(rearrange(ids, "b h w -> b (h w)")) + self.places()
        read = self.norm(self.transformer(tokens))
        return repeat(read, "b (h w) d -> b (h p w q) d", h=side, p=self.factor, q=self.factor)


class CodePrior(nn.Module):
    """Codes before each place → logits of the code at that place."""

    def __init__(self, config: CodePriorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.codes = embedding(config.codes, width)
        self.places = Places(side=config.side, width=width)
        self.condition = None if config.condition is None else nn.Linear(config.condition, width)
        self.null = None if config.condition is None else nn.Parameter(0.02 * torch.randn(width))
        self.above = None
        if config.above is not None:
            self.above = AboveReader(config.above, side=config.side, width=width, heads=config.heads)
        self.transformer = Transformer(
            width=width, layers=config.layers, heads=config.heads, activation="gelu"
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.codes)

    def forward(
        self,
        ids: Int[Tensor, "b h w"],
        *,
        condition: Float[Tensor, "b c"] | None = None,
        keep: Bool[Tensor, "b"] | None = None,
        above: Int[Tensor, "b h2 w2"] | None = None,
    ) -> Float[Tensor, "b h w k"]:
        """Logits at every place, each from the codes before it in reading order, and from the condition.

        `condition`: unit vectors; rows that `keep` leaves out, and all rows where it is None, get the learned
        null instead, which is what guidance leads away from. `above`: the coarser codes.
        """
        side = self.config.side
        if ids.shape[1:] != (side, side):
            raise ValueError(f"ids: a grid {tuple(ids.shape[1:])}, but this prior writes {side}×{side}")
        told = self.told(len(ids), condition=condition, keep=keep, above=above)
        flat = rearrange(ids, "b h w -> b (h w)")
        x = torch.cat([self.started(len(ids)), self.codes(flat[:, :-1])], dim=1) + told
        logits = self.logits(self.transformer(x, causal=True))
        return rearrange(logits, "b (h w) k -> b h w k", h=side)

    def told(
        self,
        batch: int,
        *,
        condition: Float[Tensor, "b c"] | None,
        keep: Bool[Tensor, "b"] | None,
        above: Int[Tensor, "b h2 w2"] | None,
    ) -> Float[Tensor, "b n d"]:
        """What each place knows before any code is written: where it is, the condition, the codes above."""
        told = repeat(self.places(), "n d -> b n d", b=batch)
        if (self.above is None) != (above is None):
            raise ValueError("above: given to a prior that reads none, or missing from one that does")
        if self.above is not None and above is not None:
            told = told + self.above(above)
        if self.condition is None or self.null is None:
            if condition is not None:
                raise ValueError(
                    "condition: given to a prior that was made without (config.condition is None)"
                )
            return told
        vectors: Tensor = repeat(self.null, "d -> b d", b=batch)
        if condition is not None:
            # A unit vector of c numbers, as if of variance 1 each.
            known = self.condition(condition * math.sqrt(condition.shape[1]))
            kept = torch.ones_like(known[:, 0], dtype=torch.bool) if keep is None else keep
            vectors = torch.where(rearrange(kept, "b -> b 1"), known, vectors)
        return told + rearrange(vectors, "b d -> b 1 d")

    def started(self, batch: int) -> Float[Tensor, "b 1 d"]:
        """What stands before the first code."""
        return repeat(self.start, "d -> b 1 d", b=batch)

    def logits(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        """Of the code at each place, from what the transformer made of it."""
        return self.head(self.norm(x))


class PriorReader:
    """A prior in the middle of its grids, as `limner.autoregression.decode` reads it."""

    def __init__(self, prior: CodePrior, told: Float[Tensor, "b n d"]) -> None:
        """`told`: of `CodePrior.told`, one row for each grid to be written."""
        self.prior = prior
        self.told = told
        self.stack = CachedStack.dense(prior.transformer, batch=len(told), length=told.shape[1])
        self.done = 0

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b k"]:
        """Read n more codes; the logits of the code after them."""
        x = self.prior.codes(ids)
        if self.done == 0:
            x = torch.cat([self.prior.started(len(ids)), x], dim=1)
        start, self.done = self.done, self.done + x.shape[1]
        x = x + self.told[:, start : self.done]
        last = self.stack.step(x[:, 0]) if x.shape[1] == 1 else self.stack.read(x)[:, -1]
        return self.prior.logits(last)


def embedding(codes: int, width: int) -> nn.Embedding:
    """A small random vector for each code."""
    made = nn.Embedding(codes, width)
    nn.init.normal_(made.weight, std=0.02)
    return made
