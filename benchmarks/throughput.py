"""How much of this machine's arithmetic does training use, and what takes the rest?

    python benchmarks/throughput.py                       # the small recipes
    python benchmarks/throughput.py --parts decoder --size toy
    python benchmarks/throughput.py --compile             # as `limner train --compile` computes

First the machine: the rate of a large matrix multiplication, in float32 and in bfloat16. Then each part:
whole training steps (forward, backward, clipping, optimizer, average) on batches of the shipped sample, with
the recipe's batch size and the faster precision unless one is given. Multiplications and additions are
counted by PyTorch's flop counter, not estimated; normalisation, activations and copies count as nothing, so
the fraction is honest about them. Last, the profiler says where the time of a step goes. Run it on an idle
machine, with limner installed.
"""

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from limner.clip import Clip, contrastive_objective
from limner.dalle2.decoder import Decoder
from limner.dalle2.objective import clip_reader, decoder_objective, prior_objective, upsampler_objective
from limner.dalle2.prior_diffusion import Prior
from limner.dalle2.upsampler import Upsampler
from limner.data.loader import COLOURED_GROUNDS, Gallery, open_gallery
from limner.data.sample import sample_dir
from limner.draws import Draws
from limner.layers.corruptions import half_blurred
from limner.objective import Objective
from limner.recipes import clip as clips
from limner.recipes import decoder as decoders
from limner.recipes import prior as priors
from limner.recipes import upsampler as upsamplers
from limner.recipes.embeddings import Told
from limner.text import ClipTokenizer
from limner.training import TrainConfig
from limner.training.ema import Ema
from limner.training.loop import make_optimizers, quick_attention

Part = Literal["clip", "prior", "decoder", "upsampler"]
Precision = Literal["fp32", "bf16"]

# What the profiler calls an operator, and what people call its kind; the first match counts.
KINDS = {
    "matrix multiplication": ("mm", "linear", "bmm", "einsum"),
    "convolution": ("conv",),
    "attention": ("attention", "softmax"),
    "normalisation": ("norm",),
    "compiled: norms, activations, sums and copies": ("compiledfxgraph", "## call"),
    "optimizer and average": ("adam", "foreach", "lerp"),
    "casts, copies and layouts": (
        "copy",
        "_to",
        "to_",
        "cat",
        "clone",
        "contiguous",
        "pad",
        "index",
        "reorder",
    ),
    "activations and sums": ("silu", "gelu", "sigmoid", "mul", "add", "sum", "mean", "sub", "div", "pow"),
    "resampling": ("upsample", "pool", "interpolate"),
}
OTHER = "everything else"


@dataclass(frozen=True)
class Work:
    """One part, ready to train: its network, loss, one batch, how long that took to draw, and the recipe."""

    model: nn.Module
    objective: Objective[Any]
    batch: Any
    drawing: float
    config: TrainConfig


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a part's training costs: seconds are medians, `rate` in FLOP/s, shares in [0, 1]."""

    part: str
    precision: str
    batch: int
    parameters: int
    flops: int
    seconds: float
    drawing_seconds: float
    rate: float
    of_precision: float
    of_bf16: float
    shares: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Measure training throughput."""

    parts: tuple[Part, ...] = ("clip", "prior", "decoder", "upsampler")
    """Which parts to measure."""
    size: Literal["toy", "small"] = "small"
    """Whose recipes."""
    precision: Literal["fp32", "bf16", "faster"] = "faster"
    """The arithmetic; "faster" tries both."""
    batch: int | None = None
    """Rows of a batch, if not the recipe's."""
    compile: bool = False
    """Compile the networks, as `limner train --compile` does."""
    attention: Literal["quick", "torch"] = "quick"
    """The attention that training uses, or the one that PyTorch would choose."""
    steps: int = 7
    """Steps to take the median of."""
    side: int = 2048
    """Side of the matrices that measure the machine."""
    out: Path | None = None
    """Where the numbers go as JSON."""


def machine_rate(dtype: torch.dtype, side: int, repeats: int) -> float:
    """FLOP/s of a square matrix multiplication: the median, after one that does not count."""
    a, b = torch.randn(2, side, side).to(dtype)
    took = timed(lambda: torch.mm(a, b), repeats)
    return 2 * side**3 / statistics.median(took)


def timed(action: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of `repeats` runs, after one to warm up."""
    action()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        took.append(time.perf_counter() - began)
    return took


def prepared(part: Part, size: str, batch: int | None) -> Work:
    """The part as its recipe trains it, on pictures of the shipped sample."""
    reader_recipe = {"toy": clips.toy, "small": clips.small}[size]()
    reader = Clip(reader_recipe.model).eval().requires_grad_(False)
    tokenizer, context = ClipTokenizer(reader.config.text.vocabulary), reader.config.text.context
    read, empty = clip_reader(reader), tokenizer([""], context)[0]

    def known(gallery: Gallery) -> np.ndarray[Any, np.dtype[np.float32]]:
        # Any unit vectors cost what real embeddings cost.
        z = np.random.default_rng(0).normal(
            size=(len(gallery), COLOURED_GROUNDS + 1, reader.config.embedding)
        )
        return (z / np.linalg.norm(z, axis=-1, keepdims=True)).astype(np.float32)

    batches: Callable[[int, range], Any]
    model: nn.Module
    objective: Objective[Any]
    if part == "clip":
        config = reader_recipe.train
        model = Clip(reader_recipe.model)
        objective = contrastive_objective(reader_recipe.chunk)
        gallery = open_gallery([sample_dir()], size=reader_recipe.model.vision.resolution)
        batches = clips.captioned_batches(gallery, reader_recipe.model.text, seed=0)
    elif part == "prior":
        prior_recipe = {"toy": priors.toy, "small": priors.small}[size]()
        config = prior_recipe.train
        model = Prior(prior_recipe.model)
        objective = prior_objective(read, empty=empty, drop_caption=prior_recipe.drop_caption)
        gallery = open_gallery([sample_dir()], size=reader_recipe.model.vision.resolution)
        batches = priors.EmbeddingBatches(gallery, known(gallery), tokenizer, context, 0)
    elif part == "decoder":
        decoder_recipe = {"toy": decoders.toy, "small": decoders.small}[size]()
        config = decoder_recipe.train
        model = Decoder(decoder_recipe.model)
        objective = decoder_objective(
            read,
            empty=empty,
            drop_picture=decoder_recipe.drop_picture,
            drop_caption=decoder_recipe.drop_caption,
            blur_picture=decoder_recipe.blur_picture,
            max_weight=decoder_recipe.max_weight,
        )
        gallery = open_gallery([sample_dir()], size=decoder_recipe.model.resolution)
        batches = decoders.PictureBatches(gallery, Told(known(gallery)), tokenizer, context, 0)
    else:
        recipe = {"toy": upsamplers.toy, "small": upsamplers.small}[size]()
        config = recipe.train
        model = Upsampler(recipe.model)
        objective = upsampler_objective(
            partial(half_blurred, sigma=recipe.blur), max_weight=recipe.max_weight
        )
        gallery = open_gallery([sample_dir()], size=recipe.model.high)
        batches = upsamplers.CropBatches(gallery, round(recipe.crop * recipe.model.high), 0)
    rows = range(batch or config.batch)
    drawing = statistics.median(timed(lambda: batches(0, rows), 3))
    # torch's own types know nothing of memory_format here.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Work(model, objective, batches(0, rows), drawing, config)


def stepper(work: Work, precision: Precision, rows: int, attention: str) -> Callable[[], None]:
    """A whole training step, as the loop takes it."""
    chosen = quick_attention if attention == "quick" else nullcontext
    optimizers = make_optimizers(work.model, work.config)
    ema = Ema(work.model, decay=work.config.ema)
    draws = Draws.for_step(0, 0, range(rows))

    def step() -> None:
        with chosen(torch.device("cpu")):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = work.objective(work.model, work.batch, draws)
            loss.total.backward()
        nn.utils.clip_grad_norm_(work.model.parameters(), work.config.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        ema.update(work.model, step=0)

    return step


def flops_of(step: Callable[[], None]) -> int:
    """Multiplications and additions of one step, in matrix products, convolutions and attention."""
    # PyTorch's table knows the attention of GPUs; the CPU's counts the same. It appears in two returned
    # orders, of which only the shapes of queries, keys and values matter.
    aten = torch.ops.aten

    def forward(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: object, **__: object) -> int:
        return int(sdpa_flop_count(q, k, v))

    def backward(
        grad: Sequence[int], q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: object, **__: object
    ) -> int:
        return int(sdpa_backward_flop_count(grad, q, k, v))

    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: forward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
        },
    )
    with counter:
        step()
    return int(counter.get_total_flops())


def where_time_goes(step: Callable[[], None]) -> dict[str, float]:
    """The share of a step's time that each kind of operator takes itself, largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    spent: defaultdict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        name = event.key.removeprefix("aten::").lower()
        kind = next((k for k, parts in KINDS.items() if any(part in name for part in parts)), OTHER)
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: time_ / total for kind, time_ in sorted(spent.items(), key=lambda item: -item[1])}


def measured(part: Part, asked: Benchmark, machine: dict[str, float]) -> Measured:
    """Time, count and profile one part."""
    work = prepared(part, asked.size, asked.batch)
    rows = asked.batch or work.config.batch
    choices: list[Precision] = ["fp32", "bf16"] if asked.precision == "faster" else [asked.precision]
    # Counted before it is compiled: the compiler's own operators are unknown to the counter.
    flops = flops_of(stepper(work, choices[0], rows, asked.attention))
    if asked.compile:
        work.model.compile()
    steps = {choice: stepper(work, choice, rows, asked.attention) for choice in choices}
    took = {choice: statistics.median(timed(step, asked.steps)) for choice, step in steps.items()}
    precision = min(took, key=lambda choice: took[choice])
    step = steps[precision]
    rate = flops / took[precision]
    return Measured(
        part=part,
        precision=precision,
        batch=rows,
        parameters=sum(p.numel() for p in work.model.parameters()),
        flops=flops,
        seconds=took[precision],
        drawing_seconds=work.drawing,
        rate=rate,
        of_precision=rate / machine[precision],
        of_bf16=rate / machine["bf16"],
        shares=where_time_goes(step),
    )


def main(asked: Benchmark) -> None:
    """Measure and print."""
    console = Console()
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    machine = {name: machine_rate(dtype, asked.side, asked.steps) for name, dtype in dtypes.items()}
    rates = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in machine.items())
    console.print(
        f"matrix multiplication {asked.side}×{asked.side}, {torch.get_num_threads()} threads: {rates}"
    )
    found = []
    for part in asked.parts:
        with console.status(f"measuring {part}"):
            found.append(measured(part, asked, machine))
    table = Table(title=f"training, {asked.size} recipes")
    for title in ("part", "batch", "GFLOP a step", "s a step", "GFLOP/s", "of its rate", "of bf16's"):
        table.add_column(title)
    for one in found:
        table.add_row(
            f"{one.part} ({one.precision})",
            str(one.batch),
            f"{one.flops / 1e9:.1f}",
            f"{one.seconds:.3f}",
            f"{one.rate / 1e9:.0f}",
            f"{one.of_precision:.0%}",
            f"{one.of_bf16:.0%}",
        )
    console.print(table)
    for one in found:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in one.shares.items() if share >= 0.02)
        console.print(f"{one.part}: {shares}; drawing a batch, meanwhile: {one.drawing_seconds:.3f} s")
    if asked.out is not None:
        numbers = {
            "machine": machine,
            "threads": torch.get_num_threads(),
            "parts": [asdict(one) for one in found],
        }
        asked.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
