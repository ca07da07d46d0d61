"""What does one evaluation of GLIDE's U-Net cost, and what did we gain?

    python benchmarks/unet.py                       # the released base's shape, guided, fp32 and bf16
    python benchmarks/unet.py --compile             # and compiled by PyTorch
    python benchmarks/unet.py --channels 64 --repeats 1    # a smaller one, for a quick look

One picture under classifier-free guidance, that is two rows, weights at random (speed does not care). Each
contender runs in a process of its own, so that its memory is its own:

- limner: channels_last, the caption's keys and values kept from step to step, fused attention.
- as released: the same network run as the published code runs it: channels first, the text transformer and
  every key and value anew at each evaluation, attention's table written out.
- diffusers: its `UNet2DConditionModel` of the blocks it has for Karlo, which is this network but for the text
  encoder, whose output it is given; it projects keys and values anew.

Run it on an idle machine, with limner and diffusers installed (`make test` installs both).
"""

import gc
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from limner.glide import Glide, GlideConfig, filtered, read_ids
from limner.layers.unet import UNetConfig
from limner.text import PADDING

Contender = Literal["limner", "as released", "diffusers"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Steps of whole pictures: limner's default, and that of diffusers' pipeline for Karlo.
OURS, THEIRS = 20, 25


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Measure an evaluation."""

    channels: int = 192
    """Of the first level; 192 as released."""
    side: int = 64
    """Pixels a side."""
    repeats: int = 5
    """Evaluations to take the median of, after one to warm up."""
    dtypes: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
    """Of weights and arithmetic."""
    compile: bool = False
    """Whether limner's network is compiled."""
    only: Contender | None = None
    """One contender, in this process, as JSON; that is how the others are run."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds an evaluation, seconds to read the caption, and the process's largest memory in GB."""

    seconds: float
    reading: float
    memory: float


def config_of(channels: int) -> GlideConfig:
    """The released base, at another width."""
    config = filtered()
    assert isinstance(config.backbone, UNetConfig)
    return replace(
        config,
        text=replace(config.text, condition_width=4 * channels),
        backbone=replace(config.backbone, channels=channels, dropout=0.0),
    )


def of_diffusers(config: GlideConfig) -> Any:
    """The nearest network of diffusers: Karlo's blocks on these sizes."""
    from diffusers import UNet2DConditionModel

    unet = config.backbone
    assert isinstance(unet, UNetConfig)
    widths = tuple(unet.channels * multiplier for multiplier in unet.multipliers)
    crossed = len(widths) - 1
    # diffusers has no types for its constructors.
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=config.resolution,
        in_channels=unet.in_channels,
        out_channels=unet.out_channels,
        down_block_types=("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * crossed),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=(*["SimpleCrossAttnUpBlock2D"] * crossed, "ResnetUpsampleBlock2D"),
        block_out_channels=widths,
        layers_per_block=unet.depth,
        attention_head_dim=unet.head_width,
        cross_attention_dim=config.text.width,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
        act_fn="silu",
    )


def timed(work: Callable[[], object], repeats: int) -> float:
    """The median of several times, after one that does not count."""
    work()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


@torch.inference_mode()
def measure(asked: Benchmark, contender: Contender) -> Measured:
    """One contender in one dtype."""
    dtype = DTYPES[asked.dtypes[0]]
    config = config_of(asked.channels)
    torch.manual_seed(0)
    x, t = torch.randn(2, 3, asked.side, asked.side, dtype=dtype), torch.full((2,), 500.0, dtype=dtype)
    ids = torch.full((2, config.text.context), PADDING)
    ids[0, :12] = torch.arange(12)
    if contender == "diffusers":
        model = of_diffusers(config).to(dtype).eval()
        rows = torch.randn(2, config.text.context, config.text.width, dtype=dtype)
        pooled = torch.randn(2, 4 * asked.channels, dtype=dtype)
        forget_peak()
        seconds = timed(
            lambda: model(x, t, encoder_hidden_states=rows, class_labels=pooled, return_dict=False),
            asked.repeats,
        )
        return Measured(seconds=seconds, reading=0.0, memory=gigabytes())
    glide = Glide(config).to(dtype).eval()
    if contender == "as released":
        forget_peak()
        with sdpa_kernel(SDPBackend.MATH):
            seconds = timed(lambda: glide(x, t, ids=read_ids(ids)[0], mask=read_ids(ids)[1]), asked.repeats)
        return Measured(seconds=seconds, reading=0.0, memory=gigabytes())
    # torch's own types know nothing of memory_format here.
    glide.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = x.contiguous(memory_format=torch.channels_last)
    if asked.compile:
        glide.backbone.compile()
    reading = timed(lambda: glide.read(*read_ids(ids)), 1)
    caption = glide.read(*read_ids(ids))
    del glide.text  # as diffusers is without one
    gc.collect()
    forget_peak()
    seconds = timed(lambda: glide.predict(x, t, caption=caption), asked.repeats)
    return Measured(seconds=seconds, reading=reading, memory=gigabytes())


def operations(asked: Benchmark) -> float:
    """Floating-point operations of limner's evaluation, the caption read already."""
    config = config_of(asked.channels)
    with torch.device("meta"):
        glide = Glide(config).eval()
        ids = torch.full((2, config.text.context), PADDING)
        x, t = torch.zeros(2, 3, asked.side, asked.side), torch.zeros(2)
        caption = glide.read(*read_ids(ids))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        glide.predict(x, t, caption=caption)
    return float(counter.get_total_flops())


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations a second of a large product, the best of several: what nothing here can exceed."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(times)


def forget_peak() -> None:
    """Let the largest memory be counted anew, where the system can: what building took is no cost."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def gigabytes() -> float:
    """This process's largest memory since `forget_peak`, or since its beginning where that cannot be."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def apart(asked: Benchmark, contender: Contender, dtype: str) -> Measured:
    """One contender in a process of its own."""
    command = [sys.executable, __file__, "--only", contender, "--dtypes", dtype]
    command += ["--channels", str(asked.channels), "--side", str(asked.side), "--repeats", str(asked.repeats)]
    if asked.compile and contender == "limner":
        command.append("--compile")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def main(asked: Benchmark) -> None:
    """Run all contenders and print."""
    if asked.only is not None:
        print(json.dumps(vars(measure(asked, asked.only))))
        return
    with torch.device("meta"):
        config = config_of(asked.channels)
        ours, theirs = (
            sum(p.numel() for p in net.parameters()) for net in (Glide(config).backbone, of_diffusers(config))
        )
    table = Table(
        title=f"two rows of {asked.side}×{asked.side}, {torch.get_num_threads()} threads; U-Net of "
        f"{ours / 1e6:.0f} M parameters, diffusers' of {theirs / 1e6:.0f} M"
    )
    work = operations(asked)
    for heading in ("", "seconds an evaluation", "against diffusers", "of the matrix rate", "GB"):
        table.add_column(heading, justify="right" if heading else "left")
    found: dict[tuple[str, str], Measured] = {}
    contenders: tuple[Contender, ...] = ("limner", "as released", "diffusers")
    for dtype in asked.dtypes:
        for contender in contenders:
            found[contender, dtype] = apart(asked, contender, dtype)
        peer, rate = found["diffusers", dtype].seconds, matrix_rate(DTYPES[dtype])
        for contender in contenders:
            one = found[contender, dtype]
            table.add_row(
                f"{contender}, {dtype}",
                f"{one.seconds:.3f}",
                f"{peer / one.seconds:.2f}×",
                f"{work / one.seconds / rate:.0%}",
                f"{one.memory:.2f}",
            )
    console = Console()
    console.print(table)
    fastest = min(asked.dtypes, key=lambda dtype: found["limner", dtype].seconds)
    one = found["limner", fastest]
    whole, other = one.reading + OURS * one.seconds, THEIRS * found["diffusers", asked.dtypes[0]].seconds
    console.print(
        f"A guided picture of {OURS} steps in {fastest}, the caption read once: {whole:.1f} s; diffusers, "
        f"{THEIRS} steps in {asked.dtypes[0]}: {other:.1f} s, {other / whole:.1f} times as long."
    )


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
