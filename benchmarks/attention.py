"""What do DALL-E 1's masks save? A row, column or convolution layer's attention against a dense one's.

    python benchmarks/attention.py                      # 256 + 1024 positions, as published
    python benchmarks/attention.py --device cuda --dtype bf16

Queries, keys and values at random, 8 heads of 64. The kinds take turns, so that what else the machine does
falls on all of them, and the median of the rounds counts. Dense is PyTorch's own fused causal attention. Run
it on an idle machine, with limner installed.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import tyro
from rich.console import Console
from rich.table import Table

from limner.dalle1.attention import SparseAttention
from limner.dalle1.masks import Kind

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Measure attention by kind."""

    text: int = 256
    """Positions of the caption."""
    grid: int = 32
    """Side of the picture in tokens."""
    kernel: int = 11
    """Side of the convolution's window."""
    batch: int = 1
    heads: int = 8
    width: int = 64
    """Of a head."""
    rounds: int = 11
    dtype: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"


def seconds(asked: Benchmark, attend: SparseAttention, *, backward: bool) -> float:
    """One pass, and back if that is asked for."""
    shape = (asked.batch, asked.heads, asked.text + asked.grid**2, asked.width)
    q, k, v = (
        torch.randn(shape, dtype=DTYPES[asked.dtype], device=asked.device, requires_grad=backward)
        for _ in range(3)
    )
    finish(asked.device)
    began = time.perf_counter()
    y = attend(q, k, v)
    if backward:
        y.sum().backward()
    finish(asked.device)
    return time.perf_counter() - began


def finish(device: str) -> None:
    """Wait for what a GPU was asked to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main(asked: Benchmark) -> None:
    """Measure all kinds in turn, and print a table."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    layers = {
        kind: SparseAttention(kind, text=asked.text, grid=asked.grid, kernel=asked.kernel).to(asked.device)
        for kind in kinds
    }
    table = Table("attention", *kinds, title=f"milliseconds, {asked.text} + {asked.grid}² positions")
    for title, backward in (("forward", False), ("forward and back", True)):
        taken: dict[Kind, list[float]] = {kind: [] for kind in kinds}
        for turn in range(asked.rounds + 1):
            for kind, layer in layers.items():
                took = seconds(asked, layer, backward=backward)
                if turn:  # the first allocates
                    taken[kind].append(took)
        table.add_row(title, *(f"{1000 * statistics.median(taken[kind]):.1f}" for kind in kinds))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
