"""The loop: read what is given, then choose a token for every row, read it, and so on."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from limner.autoregression.sampling import Sampling, choose
from limner.draws import Draws


@runtime_checkable
class Reader(Protocol):
    """A token model in the middle of its sequences, one for each row of a batch.

    Whatever it is conditioned on, it was made with; it knows how far it has read.
    """

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """Read n more tokens, none at all if n is 0; the logits of the token after them."""
        ...


class ClassifierFree:
    """A reader of B rows from a reader of 2B: the first B know their condition, the others do not.

    Both halves read the same tokens, each with a memory of its own, so every token is guided:
    logits = unconditional + scale · (conditional - unconditional). Scale 1 is conditional, 0 unconditional.
    Ho & Salimans 2021; for token models, Gafni et al. 2022, "Make-A-Scene", section 3.4.
    """

    def __init__(self, reader: Reader, scale: float) -> None:
        self.reader = reader
        self.scale = scale

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """Read n more tokens; guided logits of the token after them."""
        conditional, unconditional = self.reader.read(repeat(ids, "b n -> (two b) n", two=2)).chunk(2)
        return torch.lerp(unconditional, conditional, self.scale)


def decode(
    reader: Reader,
    *,
    prefix: Int[Tensor, "b p"],
    length: int,
    draws: Draws,
    sampling: Sampling,
) -> Iterator[Int[Tensor, "b"]]:
    """Continue `prefix` (p may be 0) to `length` tokens, yielding each new column as soon as it is chosen.

    Prefix and condition are read in one pass. Column i takes the i-th numbers of each row's stream, one for
    every token there is, whatever the prefix is. So a row's tokens depend on its own seed, prefix and
    condition, and on its neighbours only where two tokens are as likely as each other to the last bits.
    """
    given = prefix.shape[1]
    if not given < length:
        raise ValueError(f"prefix: {given} of {length} tokens are given, which leaves none to choose")
    if len(draws) != len(prefix):
        raise ValueError(f"draws: {len(draws)} streams for {len(prefix)} rows")
    return _columns(reader, prefix, length, draws, sampling)


def _columns(
    reader: Reader, prefix: Int[Tensor, "b p"], length: int, draws: Draws, sampling: Sampling
) -> Iterator[Int[Tensor, "b"]]:
    given = prefix.shape[1]
    ids = prefix
    for column in range(given, length):
        # Entered anew for each column: between two of them the caller's own code runs.
        with torch.inference_mode():
            logits = reader.read(ids)
            if column == given:
                for _ in range(given):
                    draws.gumbel(logits.shape[-1])
            chosen = choose(logits, draws.gumbel(logits.shape[-1]).to(logits.device), sampling)
            ids = chosen[:, None]
        yield chosen
