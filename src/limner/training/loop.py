"""The loop: draw a batch, ask the objective, step the optimizer, move the average, and keep notes."""

import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from limner import checkpoint
from limner.distributed import averaged
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.layers.transformer import Block
from limner.objective import Batch, Loss, Objective
from limner.training.ema import Ema
from limner.training.ending import told_to_end
from limner.training.memory import keep_freed_memory
from limner.training.report import History, in_words, progress_bar, verdict
from limner.training.state import load_state, save_state, whole_weights

TRIAL_STEPS = 3
PRECISION = "precision.txt"
# What an optimizer's group says of its own rate: so many times the loop's.
TIMES = "times"

# (step, rows of the whole batch that belong to this process) → batch, on the CPU.
Batches = Callable[[int, range], Batch]
# The model with averaged weights → a picture worth looking at.
Sampler = Callable[[nn.Module], Image.Image]
D = TypeVar("D")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. `batch` counts the rows of all processes together; `clip_norm` bounds the gradient.

    The learning rate rises linearly for `warmup` steps and falls along a cosine to zero at `steps`.
    `weight_decay` spares gains, biases and other vectors. `precision` is that of the arithmetic; the weights
    stay float32. "auto" is bfloat16 on a GPU; on a CPU it is whichever of the two the first steps of the run
    show to be faster, for that differs from one processor to the next. `compile` has PyTorch's compiler fuse
    the network's small operators: some minutes before the first step, and a C++ compiler on a CPU, for less
    time on every other. `rule` says what moves the matrices of transformer blocks: AdamW, as everything
    else, or Muon, which learns more from each step and wants those matrices whole, not sharded. `rates`:
    parts of the model, by name, that AdamW moves at so many times the learning rate, as one of two rivals.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_norm: float
    ema: float
    precision: Literal["fp32", "bf16", "auto"]
    seed: int
    save_every: int
    sample_every: int
    compile: bool = False
    rule: Literal["adamw", "muon"] = "adamw"
    rates: tuple[tuple[str, float], ...] = ()


def known_precision(config: TrainConfig, device: torch.device, processes: int, out: Path) -> str | None:
    """The precision of a run; None where it is to be found out. A resumed run keeps what it began with."""
    if config.precision != "auto":
        return config.precision
    if (out / PRECISION).exists():
        return (out / PRECISION).read_text().strip()
    if device.type == "cpu":
        # Several processes would have to agree; the slower choice for some is better than two choices.
        return None if processes == 1 else "fp32"
    return "bf16"


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    share = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW with decay on matrices only; by "muon", the matrices of transformer blocks are Muon's instead.

    Muon moves a matrix by its momentum with all singular values made equal (Jordan et al. 2024), here as far
    as AdamW would, root mean square (Liu et al. 2025, equation 4), so that one learning rate serves both.
    Raises ValueError for Muon in a network without such blocks.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    matrices = [p for block in blocks for p in block.parameters() if p.requires_grad and p.ndim == 2]
    if config.rule == "muon" and not matrices:
        raise ValueError(
            f"rule is 'muon', which moves transformer blocks, and this {type(model).__name__} has none: "
            "choose 'adamw'"
        )
    orthogonal = {id(p) for p in matrices} if config.rule == "muon" else set()
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in orthogonal]
    times = {id(p): factor for part, factor in config.rates for p in model.get_submodule(part).parameters()}
    groups: list[dict[str, Any]] = []
    for factor in dict.fromkeys([1.0, *times.values()]):
        alike = [p for p in others if times.get(id(p), 1.0) == factor]
        # States of before there were `rates` have no such key, and runs without them go on from those.
        own = {} if factor == 1.0 else {TIMES: factor}
        groups += [
            {"params": [p for p in alike if p.ndim >= 2], "weight_decay": config.weight_decay, **own},
            {"params": [p for p in alike if p.ndim < 2], "weight_decay": 0.0, **own},
        ]
    rate, decay = config.learning_rate, config.weight_decay
    adamw = torch.optim.AdamW(groups, lr=rate, betas=config.betas, eps=config.eps, fused=True)
    if not orthogonal:
        return [adamw]
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return [adamw, muon]


def train(
    model: nn.Module,
    objective: Objective[Batch],
    batches: Batches[Batch],
    *,
    name: str,
    model_config: Any,
    config: TrainConfig,
    out: Path,
    resume: bool,
    sampler: Sampler | None = None,
    device: str | None = None,
    console: Console | None = None,
) -> History:
    """Train `model` for `config.steps` steps and leave the averaged weights in `out/model`.

    `out` also gets `states/` (to resume from), `log.jsonl` (the curve), `samples/` and TensorBoard's files.
    The run is a function of (config, batches): stopped and resumed, it ends with the same bits on the CPU.
    Told to end (SIGTERM), a run of one process finishes its step and saves its state, so nothing is lost.
    Told so after its last step, it leaves its model and has the process told again (see `training.ending`).
    Raises LimnerError when `out` holds another run and `resume` is False, when the loss is not finite, and
    when the run was told to end.
    """
    console = console or Console(stderr=True)
    states = out / "states"
    if not resume and (out / "log.jsonl").exists():
        raise LimnerError(
            f"{out} already holds a run: add --resume to go on with it, or choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision="no",  # `precision` alone decides, whatever the launcher's own settings are
        log_with="tensorboard",
        project_dir=out,
    )
    accelerator.init_trackers("tensorboard")
    if config.rule == "muon" and accelerator.distributed_type == DistributedType.FSDP:
        raise ValueError("rule is 'muon', which needs whole matrices, and FSDP shards them: choose 'adamw'")
    processes, process = accelerator.num_processes, accelerator.process_index
    if config.batch % processes:
        raise ValueError(f"batch: {config.batch} rows cannot be shared evenly by {processes} processes")
    share = config.batch // processes
    rows = range(process * share, (process + 1) * share)

    if accelerator.device.type == "cpu":
        keep_freed_memory()
    set_seed(config.seed)
    model = model.to(device=accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = make_optimizers(model, config)
    if config.compile:
        model.compile()
    inner, (model, *prepared) = model, accelerator.prepare(model, *optimizers)
    optimizers = [one.optimizer for one in prepared]
    ema = Ema(inner, decay=config.ema)
    start = load_state(states, model=inner, ema=ema, optimizers=optimizers) if resume else 0
    lead = accelerator.is_main_process
    history = History(out / "log.jsonl")
    if resume and lead:
        if start == 0:
            console.print(f"nothing to resume in {out}: beginning at step 0", markup=False, soft_wrap=True)
        history.rewind(start, clip_norm=config.clip_norm)

    def loss_at(step: int, batch: Batch, precision: str) -> Loss:
        torch.manual_seed(mix(config.seed, step, process))  # dropout's stream
        draws = Draws.for_step(config.seed, step, rows, device=accelerator.device)
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return objective(model, moved(batch, accelerator.device), draws)

    if start < config.steps and lead:
        parameters = sum(p.numel() for p in inner.parameters())
        console.print(
            f"[bold]{name}[/bold]: {parameters:,} parameters, batch {config.batch}, {processes} process(es)"
        )
    precision = known_precision(config, accelerator.device, processes, out)
    if start < config.steps:
        batch = batches(start, rows)
        # Where there are two, there is one process: others wait for each other in every step of a trial.
        choices = [precision] if precision else ["fp32", "bf16"]
        # mypy cannot infer a lambda whose argument has a default.
        with quick_attention(accelerator.device):
            seconds = {
                choice: _trial(lambda c=choice: accelerator.backward(loss_at(start, batch, c).total), model)  # type: ignore[misc]
                for choice in choices
            }
        precision = min(seconds, key=lambda choice: seconds[choice])
        took = seconds[precision]
        left = took * (config.steps - start)
        if lead:
            console.print(
                f"{took:.2f} s a step in {precision}, {config.batch / took:.0f} pictures/s: "
                f"about {in_words(left)} for {config.steps - start:,} steps; "
                f"memory so far {_peak_gigabytes():.1f} GB" + (" a process" if processes > 1 else "")
            )
    precision = precision or "fp32"
    if lead:
        partial = out / (PRECISION + ".partial")
        partial.write_text(precision)
        os.replace(partial, out / PRECISION)

    show = lead and console.is_terminal
    with (
        quick_attention(accelerator.device),
        # Several would have to agree on the step that is their last.
        told_to_end(heed=processes == 1) as ending,
        _reader() as ahead,
        progress_bar(console, disable=not show) as bar,
    ):
        task = bar.add_task(name, total=config.steps, completed=start, speed="", loss="")
        coming: Future[Batch] | None = None
        for step in range(start, config.steps):
            began = time.perf_counter()
            batch = coming.result() if coming else batches(step, rows)
            coming = ahead.submit(batches, step + 1, rows) if step + 1 < config.steps else None
            for optimizer in prepared:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, step) * group.get(TIMES, 1.0)
            loss = loss_at(step, batch, precision)
            accelerator.backward(loss.total)
            norm = accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            values = {"loss": float(averaged(loss.total.detach())), "gradient": float(norm)}
            values |= {key: float(averaged(value)) for key, value in loss.report.items()}
            # Before the step, or what is no number would be in the weights and in the next state for good.
            for what in ("loss", "gradient"):
                if not math.isfinite(values[what]):
                    raise LimnerError(
                        f"the {what} became {values[what]} at step {step}: go on from the last state in "
                        f"{states} (--resume) with a lower --learning-rate"
                    )
            for optimizer in prepared:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            ema.update(inner, step=step)
            speed = config.batch / (time.perf_counter() - began)
            if lead:
                history.add(
                    step,
                    values | {"speed": speed},
                    baseline=loss.baseline,
                    clipped=values["gradient"] > config.clip_norm,
                )
                bar.update(task, advance=1, speed=f"{speed:.0f} pictures/s", loss=f"{history.recent():.4f}")
            if step % 10 == 0:
                accelerator.log(values | {"learning_rate": learning_rate(config, step)}, step=step)
            done = step + 1
            # Asked once: who is told to stop after this waits for the next step, which is then saved.
            told = ending.is_set()
            if done % config.save_every == 0 or done == config.steps or told:
                save_state(states, step=done, model=inner, ema=ema, optimizers=optimizers)
            if sampler is not None and lead and (done % config.sample_every == 0 or done == config.steps):
                _sample(sampler, inner, ema, out / "samples" / f"{done:08d}.png")
            if lead and done % max(1, config.steps // 5) == 0:
                said = verdict(history, loss.warning, rivals=loss.rivals)
                console.print(f"{name} at step {done:,}: {said}")
            if told and done < config.steps:
                raise LimnerError(f"stopped after step {done:,} of {name}, as told: go on with --resume")
        # Still here: who is told to end after the last step ends with a whole model, before another begins.
        with ema.applied(inner):
            weights = whole_weights(inner)
            if lead:
                checkpoint.save(out / "model", weights, model_config)
    # Not `end_training`, which would part the processes for good: the line's next model trains right after.
    for tracker in accelerator.trackers:
        tracker.finish()
    return history


@contextmanager
def quick_attention(device: torch.device) -> Iterator[None]:
    """The attention that trains fastest: on a CPU, and at our lengths, the one that keeps the whole table.

    It must hold while going backward too, for blocks that are computed again there.
    `benchmarks/throughput.py --attention` compares it with PyTorch's choice.
    """
    if device.type != "cpu":
        yield
        return
    settings = torch.backends.cuda  # where PyTorch keeps this one for all devices
    allowed = settings.fp16_bf16_reduction_math_sdp_allowed()
    settings.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        settings.allow_fp16_bf16_reduction_math_sdp(allowed)


@contextmanager
def _reader() -> Iterator[ThreadPoolExecutor]:
    """One thread that prepares the next batch while a step runs, and computes on itself alone.

    With a second team of threads on the same cores GNU OpenMP no longer lets the first wait awake between
    operators, and steps of many small ones took twice as long (toy decoder, two cores: 0.16 s, now 0.085 s).
    """

    def alone() -> None:
        torch.get_num_threads()  # first, or PyTorch sets the number once more at the thread's first operator
        torch.set_num_threads(1)

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as reader:
        reader.submit(alone).result()
        torch.set_num_threads(threads)  # what is not counted by thread, such as MKL's
        yield reader


def moved(batch: D, device: torch.device) -> D:
    """A batch (tensor, or dataclass or named tuple of such) on another device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)  # type: ignore[return-value]
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **{f.name: moved(getattr(batch, f.name), device) for f in fields(batch)})
    if isinstance(batch, tuple):
        return type(batch)(*[moved(part, device) for part in batch])
    return batch


def _trial(step: Callable[[], None], model: nn.Module) -> float:
    """Seconds of a step, the first (which allocates) not counted; it leaves no trace in model or streams."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    times = []
    place = next(model.parameters()).device
    # This GPU's stream alone: by default a process would reach for the GPUs of all the others.
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        for _ in range(TRIAL_STEPS):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
    model.zero_grad(set_to_none=True)
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
    return min(times[1:])


@torch.no_grad()
def _sample(sampler: Sampler, model: nn.Module, ema: Ema, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    was_training = model.training
    model.eval()
    # Pictures come in other shapes than batches: a compiled network would be compiled anew for a few of them.
    with ema.applied(model), torch.compiler.set_stance("force_eager"):
        sampler(model).save(path)
    model.train(was_training)


def _peak_gigabytes() -> float:
    """Largest memory of this process so far: of the GPU where there is one, else of the program."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
