"""How fast does DALL-E 1 write its tokens, and how much is left to gain?

    python benchmarks/decoding.py                      # batches of 1 and 8, float32
    python benchmarks/decoding.py --dtype bf16 --batches 1

One run, one machine, the same width, depth, vocabulary and dtype, weights at random (speed does not care):

- limner: `limner.dalle1.stream`, the attention of the paper (rows, columns, convolution) and, for the
  comparison with a dense model, dense attention in every layer.
- no cache: the whole sequence anew for each token. Timed at a few lengths and summed over all.
- GPT-2: `generate` of transformers, with its cache, sampling at temperature 1 like ours.
- bound: the weights that a token needs, read once from memory at the rate that a large matrix-vector product
  reaches here. Keys and values come on top, so nothing with a cache quite gets there.

Run it on an idle machine, with limner and transformers installed (`make test` installs both).
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

from limner.autoregression import Sampling
from limner.dalle1 import NOTHING, Dalle1, Dalle1Config, published_order, stream
from limner.dalle1.masks import Kind
from limner.draws import Draws

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Measure decoding. The sizes are those of a model of some 30 million parameters."""

    batches: tuple[int, ...] = (1, 8)
    """How many pictures at a time."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Of weights and arithmetic."""
    width: int = 512
    layers: int = 8
    heads: int = 8
    vocabulary: int = 8192
    """Words of an image token."""
    text: int = 64
    """Positions of the caption."""
    grid: int = 32
    """Side of the image in tokens."""
    repeats: int = 3
    """Runs to take the median of."""
    lengths: int = 5
    """Lengths at which decoding without a cache is timed."""
    peer: bool = True
    """Whether to run GPT-2."""
    out: Path | None = None
    """Where the numbers go as JSON."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Tokens a second, all pictures of the batch together."""

    batch: int
    sparse: float
    dense: float
    uncached: float
    peer: float | None
    bound: float


def config_of(asked: Benchmark) -> Dalle1Config:
    """The paper's attention, on this benchmark's sizes."""
    return Dalle1Config(
        text_context=asked.text,
        text_vocabulary=2,
        image_vocabulary=asked.vocabulary,
        grid=asked.grid,
        width=asked.width,
        heads=asked.heads,
        pattern=published_order(asked.layers),
        kernel=11,
        activation="gelu",
    )


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` runs, after one that does not count."""
    action()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def written(model: Dalle1, batch: int, repeats: int) -> float:
    """Tokens a second of `stream`, prefill included."""
    text = torch.full((batch, model.config.caption), NOTHING)

    def action() -> None:
        draws = Draws.for_step(0, 0, range(batch))
        for _ in stream(model, text, draws=draws, sampling=Sampling(), guidance=1.0):
            pass

    return batch * model.config.image / seconds(action, repeats)


@torch.inference_mode()
def recomputed(model: Dalle1, batch: int, lengths: int) -> float:
    """Tokens a second without a cache: a token is timed at `lengths` places, and the rest lies between."""
    text = torch.full((batch, model.config.caption), NOTHING)
    total = model.config.image
    places = [round(i * (total - 1) / (lengths - 1)) for i in range(lengths)]
    took = []
    for place in places:
        image = torch.zeros(batch, place, dtype=torch.int64)

        def action(image: torch.Tensor = image) -> None:
            x = torch.cat([model.text_rows(text), model.image_rows(image)], dim=1)
            # Dense attention takes any length, and costs what the sparse kinds cost at most.
            for block in model.transformer.blocks:
                x = block(x, attend=causal)
            model.image_logits(model.norm(x[:, -1:]))

        took.append(seconds(action, 1))
    spans = zip(places, places[1:], took, took[1:], strict=False)
    return batch * (total - 1) / sum((b - a) * (s + t) / 2 for a, b, s, t in spans)


def causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Every row sees those before it."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def generated(asked: Benchmark, batch: int) -> float:
    """Tokens a second of GPT-2 in transformers, with its cache."""
    from transformers import GPT2Config, GPT2LMHeadModel

    peer = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=asked.vocabulary,
            n_positions=asked.text + asked.grid**2,
            n_embd=asked.width,
            n_layer=asked.layers,
            n_head=asked.heads,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=0,
        )
    )
    nn.Module.to(peer.eval(), DTYPES[asked.dtype])
    prompt = torch.zeros(batch, asked.text, dtype=torch.int64)
    new = asked.grid**2

    def action() -> None:
        peer.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            use_cache=True,
        )

    return batch * new / seconds(action, asked.repeats)


def bandwidth(dtype: torch.dtype) -> float:
    """Bytes a second that a matrix-vector product reads, of a matrix no cache can hold."""
    matrix = torch.zeros(16384, 16384 if dtype == torch.float32 else 32768, dtype=dtype)
    vector = torch.zeros(matrix.shape[1], dtype=dtype)
    # Any kernel may be the slow one; the faster of two ways to read says what the memory can do.
    ways = (lambda: matrix @ vector, lambda: torch.nn.functional.linear(vector[None], matrix))
    return matrix.nbytes / min(seconds(way, 5) for way in ways)


def needed_bytes(model: Dalle1) -> int:
    """Of the weights that one image token is made with: the blocks and the image half of the head."""
    of_blocks = sum(p.nbytes for p in model.transformer.parameters())
    half = model.config.image_vocabulary / model.head.weight.shape[0]
    return round(of_blocks + half * model.head.weight.nbytes)


def main(asked: Benchmark) -> None:
    """Measure and print."""
    console = Console()
    config, dtype = config_of(asked), DTYPES[asked.dtype]
    torch.manual_seed(0)
    sparse = Dalle1(config).to(dtype).eval().requires_grad_(False)
    everywhere: list[Kind] = ["dense"] * asked.layers
    dense = Dalle1(replace(config, pattern=tuple(everywhere))).to(dtype).eval().requires_grad_(False)
    rate = bandwidth(dtype)
    count = sum(p.numel() for p in dense.parameters())
    console.print(
        f"{count / 1e6:.1f} M parameters in {asked.dtype}, {config.image} tokens after {asked.text}, "
        f"{torch.get_num_threads()} threads; memory reads {rate / 1e9:.1f} GB/s, "
        f"a token needs {needed_bytes(dense) / 1e6:.0f} MB of weights"
    )
    found = []
    for batch in asked.batches:
        with console.status(f"measuring batches of {batch}"):
            found.append(
                Measured(
                    batch=batch,
                    sparse=written(sparse, batch, asked.repeats),
                    dense=written(dense, batch, asked.repeats),
                    uncached=recomputed(dense, batch, asked.lengths),
                    peer=generated(asked, batch) if asked.peer else None,
                    bound=batch * rate / needed_bytes(dense),
                )
            )
    table = Table(title="tokens a second")
    for title in ("batch", "limner", "limner, dense", "no cache", "GPT-2 generate", "bound", "of the bound"):
        table.add_column(title)
    for one in found:
        table.add_row(
            str(one.batch),
            f"{one.sparse:.0f}",
            f"{one.dense:.0f}",
            f"{one.uncached:.1f} ({one.dense / one.uncached:.0f}×)",
            "" if one.peer is None else f"{one.peer:.0f} ({one.dense / one.peer:.1f}×)",
            f"{one.bound:.0f}",
            f"{one.sparse / one.bound:.0%}",
        )
    console.print(table)
    if asked.out is not None:
        numbers = {"asked": {**asdict(asked), "out": None}, "found": [asdict(one) for one in found]}
        asked.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
