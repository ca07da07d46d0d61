"""From logits to a token: sharpen, cut the tail, draw."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen; as it stands, from the model's own distribution (DALL-E 1, section 2.6).

    `temperature`: logits are divided by it; 0 takes the likeliest token. `top_k`: only the k likeliest;
    `top_p`: only the likeliest that together hold this much probability, after `top_k`. None: all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature: {self.temperature}; give a finite number, 0 or above")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k: {self.top_k}; give at least 1, or None for all tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(
                f"top_p: {self.top_p}; give a share above 0 and at most 1, or None for all tokens"
            )


def top_k(logits: Float[Tensor, "b v"], k: int) -> Float[Tensor, "b v"]:
    """Keep the k likeliest tokens of each row, and what ties with the last of them; the others get -inf."""
    if k >= logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def top_p(logits: Float[Tensor, "b v"], p: float) -> Float[Tensor, "b v"]:
    """Keep the fewest likeliest tokens whose probability reaches p; the others get -inf.

    The likeliest is always kept. Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration".
    """
    if p >= 1:
        return logits
    falling, order = logits.sort(dim=-1, descending=True, stable=True)
    shares = falling.softmax(dim=-1)
    before = shares.cumsum(dim=-1) - shares
    beyond = before >= p
    beyond[:, 0] = False
    return logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)


def choose(
    logits: Float[Tensor, "b v"], gumbel: Float[Tensor, "b v"], sampling: Sampling
) -> Int[Tensor, "b"]:
    """One token for each row: the largest of its logits, each with a Gumbel number of the row's own added.

    That is a draw from their softmax. A row's token depends on its own logits and numbers alone, and hardly
    on the last bits of its logits, which differ with the size of a batch: two candidates have to be as near
    to each other as those bits are. (A number's place among cumulative sums has a border at every token.)
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float()
    # From the largest down, or a temperature near 0 would make infinities of them all.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature
    if sampling.top_k is not None:
        logits = top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = top_p(logits, sampling.top_p)
    return (logits + gumbel).argmax(dim=-1)


def shares(logits: Float[Tensor, "*b v"], temperature: float) -> Float[Tensor, "*b v"]:
    """The probability of every token at a temperature, before any tail is cut; at 0, all on the likeliest."""
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
    logits = logits.float()
    return ((logits - logits.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)
