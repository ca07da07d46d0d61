"""Randomness as an argument: one stream of numbers for each row of a batch.

A row's numbers depend on its own seed alone: not on its neighbours, the batch size, the device or how
many processes share the batch. So a picture painted alone equals the same picture painted among eight,
two processes with half a batch each see the noise that one process with the whole batch sees, and a
resumed run equals an unbroken one.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def mix(*parts: int | str) -> int:
    """Hash any few integers and names into one 63-bit seed."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Draws:
    """Random numbers for a batch, row by row. Numbers are drawn on the CPU, then moved to `device`."""

    def __init__(self, seeds: Sequence[int], *, device: torch.device | str = "cpu") -> None:
        if not seeds:
            raise ValueError("seeds is empty: give one seed for each row")
        self.device = torch.device(device)
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def for_step(cls, seed: int, step: int, rows: range, *, device: torch.device | str = "cpu") -> "Draws":
        """The streams of rows `rows` of the whole (all-process) batch at training step `step`."""
        return cls([mix(seed, step, row) for row in rows], device=device)

    def __len__(self) -> int:
        return len(self._streams)

    def _rows(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(stream) for stream in self._streams]).to(self.device)

    def normal(self, *shape: int) -> Float[Tensor, "b *shape"]:
        """Standard normal numbers, (B, *shape), float32."""
        return self._rows(lambda stream: torch.randn(shape, generator=stream))

    def uniform(self, *shape: int) -> Float[Tensor, "b *shape"]:
        """Uniform numbers in [0, 1), (B, *shape), float32."""
        return self._rows(lambda stream: torch.rand(shape, generator=stream))

    def gumbel(self, *shape: int) -> Float[Tensor, "b *shape"]:
        """Standard Gumbel numbers -ln(-ln u), (B, *shape), float32.

        The largest of logits with these added is a draw from their softmax (Gumbel 1954).
        """
        tiny = torch.finfo(torch.float32).tiny
        return -torch.log(-torch.log(self.uniform(*shape).clamp(min=tiny)))

    def integers(self, high: int, *shape: int) -> Int[Tensor, "b *shape"]:
        """Uniform integers in [0, high), (B, *shape), int64."""
        return self._rows(lambda stream: torch.randint(high, shape, generator=stream))

    def bernoulli(self, p: float) -> Bool[Tensor, "b"]:
        """True with probability `p`, (B,)."""
        return self.uniform() < p
