"""The loop is the loop it says it is, whether or not it is stopped on the way."""

import io
import json
import math
import os
import shutil
import signal
import threading
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from limner import checkpoint
from limner.draws import Draws
from limner.errors import LimnerError
from limner.layers.transformer import Transformer
from limner.objective import Loss
from limner.training import TrainConfig, train
from limner.training.ending import stopped_between
from limner.training.loop import (
    _trial,
    known_precision,
    learning_rate,
    make_optimizers,
    moved,
    quick_attention,
)
from limner.training.report import History
from limner.training.state import states

CONFIG = TrainConfig(
    steps=12,
    batch=4,
    learning_rate=0.02,
    warmup=3,
    betas=(0.9, 0.99),
    eps=1e-8,
    weight_decay=0.1,
    clip_norm=0.5,
    ema=0.8,
    precision="fp32",
    seed=5,
    save_every=4,
    sample_every=6,
)


@dataclass(frozen=True)
class NetworkConfig:
    dropout: float


def network(dropout: float = 0.3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.GroupNorm(4, 32),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Conv2d(32, 3, 3, padding=1),
    )


def batches(step: int, rows: range) -> Tensor:
    pictures = [
        torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(1000 * step + row)) for row in rows
    ]
    return torch.stack(pictures)


def objective(model: nn.Module, batch: Tensor, draws: Draws) -> Loss:
    noise = draws.normal(3, 6, 6)
    error = (model(batch + noise).float() - batch).square().mean()
    return Loss(total=error, report={"noise": noise.mean()}, baseline=1.0)


def run(
    out: Path,
    *,
    config: TrainConfig = CONFIG,
    resume: bool = False,
    dropout: float = 0.3,
    batches=batches,
    objective=objective,
    **more,
) -> tuple[History, nn.Module, str]:
    said, model = io.StringIO(), network(dropout)
    history = train(
        model,
        objective,
        batches,
        name="tiny",
        model_config=NetworkConfig(dropout),
        config=config,
        out=out,
        resume=resume,
        device="cpu",
        console=Console(file=said, width=200),
        **more,
    )
    return history, model, said.getvalue()


def log(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "speed"} for row in rows]


def weights(out: Path) -> dict[str, Tensor]:
    return checkpoint.load(out / "model", NetworkConfig)[1]


class PowerCutError(Exception):
    pass


def until(last: int, source=batches):
    """Batches that end abruptly."""

    def cut(step: int, rows: range) -> Tensor:
        if step == last:
            raise PowerCutError
        return source(step, rows)

    return cut


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, as the compiler is loaded
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")
def test_compiled_training_is_the_same_training_and_resumes_to_the_bit(tmp_path):
    config = replace(CONFIG, compile=True)
    plain, _, _ = run(tmp_path / "plain", dropout=0.0)
    calls: list[bool] = []

    def sampler(model: nn.Module) -> Image.Image:
        # Another batch size, and still nothing is compiled for it.
        with torch._dynamo.config.patch(error_on_recompile=True):
            calls.append(bool(model(torch.zeros(7, 3, 6, 6)).isfinite().all()))
        return Image.new("RGB", (2, 2))

    fused, model, _ = run(tmp_path / "fused", dropout=0.0, config=config, sampler=sampler)
    assert calls == [True, True]
    assert model._compiled_call_impl is not None
    assert fused.losses == pytest.approx(plain.losses, rel=1e-5)
    run(tmp_path / "whole", config=config)
    with pytest.raises(PowerCutError):
        run(tmp_path / "broken", config=config, batches=until(5))
    run(tmp_path / "broken", config=config, resume=True)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "broken")[name]), name


def test_quick_attention_is_attention_and_leaves_no_setting_behind():
    q, k, v = torch.randn(3, 2, 4, 5, 8)
    settings = torch.backends.cuda
    before = settings.fp16_bf16_reduction_math_sdp_allowed(), settings.flash_sdp_enabled()
    with quick_attention(torch.device("cpu")):
        assert not settings.flash_sdp_enabled()
        quick = nn.functional.scaled_dot_product_attention(q, k, v)
    assert before == (settings.fp16_bf16_reduction_math_sdp_allowed(), settings.flash_sdp_enabled())
    torch.testing.assert_close(quick, nn.functional.scaled_dot_product_attention(q, k, v))
    with quick_attention(torch.device("meta")):
        assert settings.flash_sdp_enabled()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cuts", [[5], [1, 4, 8, 11]])
def test_stopped_and_resumed_is_unbroken_to_the_bit(tmp_path, cuts, precision):
    config = replace(CONFIG, precision=precision)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    history, model, _ = run(whole, config=config)
    for number, cut in enumerate(cuts):
        with pytest.raises(PowerCutError):
            run(broken, config=config, resume=number > 0, batches=until(cut))
    resumed, same_model, _ = run(broken, config=config, resume=True)
    assert (whole / "model" / "model.safetensors").read_bytes() == (
        broken / "model" / "model.safetensors"
    ).read_bytes()
    for one, other in zip(model.parameters(), same_model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert log(whole) == log(broken)  # every step once, and dropout's masks the same
    assert [row["step"] for row in log(whole)] == list(range(12))
    assert len(resumed.losses) == len(history.losses) == 12
    for one, other in zip(states(whole / "states"), states(broken / "states"), strict=True):
        same_tree(torch.load(one, weights_only=True), torch.load(other, weights_only=True))


def test_told_to_end_it_saves_its_step_first_and_goes_on_to_the_same_bits(tmp_path):
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    run(whole)
    before = signal.getsignal(signal.SIGTERM)

    def told(step: int, rows: range) -> Tensor:
        # Made ahead by another thread, while the step before is under way.
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return batches(step, rows)

    with pytest.raises(LimnerError, match=r"^stopped after step [56] of tiny, as told: go on with --resume$"):
        run(ended, batches=told)
    assert signal.getsignal(signal.SIGTERM) is before
    done = len(log(ended))
    assert states(ended / "states")[-1].name == f"step_{done:08d}.pt"
    assert done % CONFIG.save_every  # or it would have been saved all the same
    run(ended, resume=True)
    assert log(ended) == log(whole)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(ended)[name]), name


@pytest.mark.parametrize("last", [True, False], ids=["in the last step", "between two parts"])
def test_told_to_end_after_its_last_step_a_part_is_whole_and_no_other_begins(tmp_path, last):
    def sampler(_: nn.Module) -> Image.Image:
        if last and (tmp_path / "clip" / "states" / "step_00000012.pt").exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return Image.new("RGB", (2, 2))

    def two_parts() -> None:
        run(tmp_path / "clip", sampler=sampler)
        if not last:
            os.kill(os.getpid(), signal.SIGTERM)
        run(tmp_path / "prior")

    before = signal.getsignal(signal.SIGTERM)
    said = r"^stopped while no step was under way, as told: go on with --resume$"
    with pytest.raises(LimnerError, match=said), stopped_between(heed=True):
        two_parts()
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "prior").exists()
    run(tmp_path / "whole")
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "clip")[name]), name


def same_tree(one: object, other: object) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same_tree(one[key], other[key])
    elif isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif not isinstance(one, list):
        assert one == other


def test_the_run_is_the_one_described(tmp_path):
    """Warm-up and cosine, decay on matrices alone, clipping, AdamW and the average, written out once more."""
    history, model, _ = run(tmp_path, dropout=0.0)
    mine = network(0.0)
    matrices = [p for p in mine.parameters() if p.ndim > 1]
    vectors = [p for p in mine.parameters() if p.ndim == 1]
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in mine.parameters()}
    average = {p: p.detach().clone() for p in mine.parameters()}
    for step in range(12):
        loss = objective(mine, batches(step, range(4)), Draws.for_step(5, step, range(4))).total
        assert history.losses[step] == pytest.approx(loss.item(), rel=1e-5)
        gradients = torch.autograd.grad(loss, [*matrices, *vectors])
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
        assert history.clipped[step] == (norm > 0.5)
        rate = 0.02 * (step + 1) / 3 if step < 3 else 0.01 * (1 + math.cos(math.pi * (step - 3) / 9))
        with torch.no_grad():
            for p, g in zip([*matrices, *vectors], gradients, strict=True):
                g = g * min(1.0, 0.5 / (norm + 1e-6))
                first, second = moments[p]
                first.lerp_(g, 0.1)
                second.lerp_(g.square(), 0.01)
                if p.ndim > 1:
                    p.mul_(1 - rate * 0.1)
                scale = (second / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8
                p.sub_(rate * first / (1 - 0.9 ** (step + 1)) / scale)
                decay = min(0.8, (1 + step) / (10 + step))
                average[p].mul_(decay).add_(p, alpha=1 - decay)
    assert any(history.clipped)
    for p, other in zip(mine.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(other, p, rtol=1e-4, atol=1e-5)
    shipped = weights(tmp_path)
    assert len(shipped) == len(average)
    for name, p in mine.named_parameters():
        torch.testing.assert_close(shipped[name], average[p], rtol=1e-4, atol=1e-5)


@given(warmup=st.integers(0, 50), steps=st.integers(51, 500), rate=st.floats(1e-6, 1))
def test_learning_rate_rises_and_falls(warmup, steps, rate):
    config = replace(CONFIG, warmup=warmup, steps=steps, learning_rate=rate)
    rates = [learning_rate(config, step) for step in range(steps + 1)]
    assert max(rates) == pytest.approx(rate)
    assert rates[warmup] == pytest.approx(rate)
    assert rates[steps] == pytest.approx(0, abs=1e-12)
    assert all(a < b for a, b in pairwise(rates[:warmup]))
    assert all(a > b for a, b in pairwise(rates[warmup:]))
    if warmup:
        assert rates[0] == pytest.approx(rate / warmup)
    if (steps - warmup) % 2 == 0:
        assert rates[(steps + warmup) // 2] == pytest.approx(rate / 2)


def test_only_matrices_decay():
    model = network()
    model[4].weight.requires_grad_(False)
    (adamw,) = make_optimizers(model, CONFIG)
    decaying, spared = adamw.param_groups
    assert [p.shape for p in decaying["params"]] == [(32, 3, 3, 3)]
    assert decaying["weight_decay"] == 0.1
    assert all(p.ndim == 1 for p in spared["params"])
    assert len(spared["params"]) == 4
    assert spared["weight_decay"] == 0.0
    assert (decaying["betas"], decaying["eps"], decaying["lr"]) == ((0.9, 0.99), 1e-8, 0.02)


def test_parts_have_rates_of_their_own_and_the_rest_the_common_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    (adamw,) = make_optimizers(model, replace(CONFIG, rates=(("1", 4.0),)))
    times = {id(p): group.get("times", 1.0) for group in adamw.param_groups for p in group["params"]}
    assert [times[id(p)] for p in model.parameters()] == [1.0, 1.0, 4.0, 4.0]
    # States of before there were rates are gone on from: nothing in a group says anything new.
    (plain,) = make_optimizers(model, CONFIG)
    assert len(plain.param_groups) == 2
    assert all("times" not in group for group in plain.param_groups)


def test_a_part_moves_as_many_times_as_far_and_resumes_to_the_bit(tmp_path):
    """AdamW's first step is the rate itself, whatever the gradient, so the ratio is the one asked for."""
    config = replace(
        CONFIG, steps=6, save_every=3, warmup=0, weight_decay=0.0, eps=1e-30, rates=(("4", 4.0),)
    )

    def first_steps(rates) -> list[float]:
        started = [p.detach().clone() for p in network(0.0).parameters()]
        once = replace(config, steps=1, rates=rates)
        _, model, _ = run(tmp_path / f"one{len(rates)}", config=once, dropout=0.0)
        return [float((p.detach() - q).abs().max()) for p, q in zip(model.parameters(), started, strict=True)]

    alike, apart = first_steps(()), first_steps((("4", 4.0),))
    assert apart[:4] == pytest.approx(alike[:4], rel=1e-3)
    assert apart[4:] == pytest.approx([4 * step for step in alike[4:]], rel=1e-3)
    run(tmp_path / "whole", config=config)
    run(tmp_path / "cut", config=config)
    (tmp_path / "cut" / "states" / "step_00000006.pt").unlink()
    run(tmp_path / "cut", config=config, resume=True)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "cut")[name], value)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


def test_muon_takes_the_matrices_of_blocks_and_nothing_else():
    model = nn.Sequential(
        nn.Embedding(5, 16),
        Transformer(width=16, layers=2, heads=2, activation="gelu"),
        nn.Linear(16, 5),
    )
    adamw, muon = make_optimizers(model, replace(CONFIG, rule="muon"))
    names = {id(p): name for name, p in model.named_parameters()}
    taken = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    parts = ("attention.qkv", "attention.out", "widen", "narrow")
    assert taken == {f"1.blocks.{layer}.{part}.weight" for layer in range(2) for part in parts}
    left = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert left == set(names.values()) - taken


def test_a_step_of_muon_makes_singular_values_equal():
    torch.manual_seed(0)
    model = Transformer(width=16, layers=1, heads=2, activation="gelu")
    _, muon = make_optimizers(model, replace(CONFIG, rule="muon", weight_decay=0.0))
    weight = model.blocks[0].widen.weight
    # Singular values from 1 to a hundredth: a step along the gradient would all but ignore the last ones.
    u, s, v = torch.linalg.svd(torch.randn(64, 16), full_matrices=False)
    before, weight.grad = weight.detach().clone(), u @ torch.diag(torch.logspace(0, -2, len(s))) @ v
    muon.step()
    moved = torch.linalg.svdvals(before - weight.detach())
    # Newton and Schulz's iteration in bfloat16 leaves them within a third of one; AdamW's size is 0.2.
    size = CONFIG.learning_rate * 0.2 * math.sqrt(64)
    assert moved.min() > 0.6 * size
    assert moved.max() < 1.3 * size


def test_muon_without_blocks_is_refused():
    with pytest.raises(
        ValueError, match="rule is 'muon', which moves transformer blocks, and this Sequential"
    ):
        make_optimizers(network(), replace(CONFIG, rule="muon"))


def test_trial_steps_leave_no_trace():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stream, taken = torch.get_rng_state(), []

    def step() -> None:
        taken.append(model(torch.randn(8, 4)).square().sum())
        taken[-1].backward()

    assert _trial(step, model) > 0
    assert len(taken) >= 2
    assert taken[0] != taken[1]  # the steps did draw
    assert torch.equal(torch.get_rng_state(), stream)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())


def test_batches_are_made_by_one_thread_that_computes_alone(tmp_path):
    # Two teams of threads on the same cores made every small operator wait: twice the seconds a step.
    threads, here, seen = torch.get_num_threads(), threading.get_ident(), {}

    def counted(step: int, rows: range) -> Tensor:
        made = batches(step, rows) * 1.0  # an operator, since PyTorch settles a thread's number at its first
        seen[step] = (threading.get_ident(), torch.get_num_threads())
        return made

    torch.set_num_threads(2)
    try:
        run(tmp_path, config=replace(CONFIG, steps=4), batches=counted)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    readers = {seen[step] for step in (1, 2, 3)}
    assert len(readers) == 1
    assert {alone for _, alone in readers} == {1}
    assert here not in {reader for reader, _ in readers}


def test_it_says_what_it_will_cost_and_how_it_went(tmp_path):
    config = replace(CONFIG, steps=10)
    _, model, said = run(tmp_path, config=config)
    count = sum(p.numel() for p in model.parameters())
    assert f"tiny: {count:,} parameters, batch 4, 1 process(es)" in said
    assert "s a step in fp32" in said
    assert "for 10 steps; memory so far" in said
    assert "tiny at step 2: too early to say" in said
    assert said.count("tiny at step") == 5
    assert "resume" not in said


def test_what_the_objective_warns_of_is_said(tmp_path):
    ailing = float(batches(3, range(1))[0, 0, 0, 0])

    def warning(model: nn.Module, batch: Tensor, draws: Draws) -> Loss:
        at_step_3 = float(batch[0, 0, 0, 0]) == ailing
        return replace(objective(model, batch, draws), warning="COLLAPSED: one code" if at_step_3 else None)

    _, _, said = run(tmp_path, config=replace(CONFIG, steps=10), objective=warning)
    assert "tiny at step 4: COLLAPSED: one code; loss " in said
    assert said.count("tiny at step") == said.count("too early to say") + 1 == 5


def test_an_existing_run_is_not_overwritten(tmp_path):
    with pytest.raises(PowerCutError):
        run(tmp_path, batches=until(6))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(LimnerError, match="already holds a run: add --resume to go on with it, or choose"):
        run(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_resuming_what_never_began_and_what_is_finished(tmp_path):
    out = tmp_path / "[r3]"
    _, _, said = run(out, resume=True)
    assert f"nothing to resume in {out}: beginning at step 0\n" in said
    done, rows = weights(out), log(out)
    assert len(rows) == 12
    _, _, said = run(out, resume=True)
    assert "a step" not in said
    assert "nothing to resume" not in said
    assert log(out) == rows
    for name, value in weights(out).items():
        assert torch.equal(value, done[name])


def test_a_loss_that_is_no_number_stops_the_run_and_spares_its_states(tmp_path):
    def poisoned(step: int, rows: range) -> Tensor:
        return batches(step, rows) * (math.nan if step == 6 else 1.0)

    with pytest.raises(LimnerError, match=r"the loss became nan at step 6: go on from the last state in .*"):
        run(tmp_path, batches=poisoned)
    assert [path.name for path in states(tmp_path / "states")] == ["step_00000004.pt"]
    assert log(tmp_path)[-1]["step"] == 5
    run(tmp_path, resume=True)
    whole = tmp_path / "whole"
    run(whole)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(tmp_path)[name])


def test_a_gradient_that_is_no_number_reaches_no_state(tmp_path):
    """√0 has a finite value and no finite gradient; at the last step before a state it was kept there."""

    def marked(step: int, rows: range) -> Tensor:
        return batches(step, rows).clamp(-100, 100 if step != 7 else 1e-9)

    def poisoned(model: nn.Module, batch: Tensor, draws: Draws) -> Loss:
        loss = objective(model, batch, draws)
        edge = (0 * model[0].weight).square().sum().sqrt() if batch.max() <= 1e-9 else 0.0
        return replace(loss, total=loss.total + edge)

    with pytest.raises(LimnerError, match="the gradient became nan at step 7: go on from"):
        run(tmp_path, objective=poisoned, batches=marked)
    assert [path.name for path in states(tmp_path / "states")] == ["step_00000004.pt"]


def test_muon_is_refused_where_matrices_are_sharded(tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(ValueError, match="rule is 'muon', which needs whole matrices"):
        run(tmp_path, config=replace(CONFIG, rule="muon"))


def test_one_run_after_another_in_other_arithmetic(tmp_path):
    """A line trains its parts one after the other, and they need not agree on precision."""
    for precision in ("fp32", "bf16", "fp32", "auto"):
        run(
            tmp_path / f"{precision}{len(list(tmp_path.iterdir()))}",
            config=replace(CONFIG, steps=2, precision=precision),
        )
    first, low, again, _ = sorted(tmp_path.iterdir(), key=lambda path: path.name[-1])
    assert log(first) == log(again) != log(low)


def test_precision_is_found_out_once(tmp_path):
    auto, cpu = replace(CONFIG, precision="auto"), torch.device("cpu")
    assert known_precision(replace(CONFIG, precision="bf16"), cpu, 1, tmp_path) == "bf16"
    assert known_precision(auto, cpu, 1, tmp_path) is None
    assert known_precision(auto, cpu, 2, tmp_path) == "fp32"
    assert known_precision(auto, torch.device("cuda"), 1, tmp_path) == "bf16"
    with pytest.raises(PowerCutError):
        run(tmp_path, config=auto, batches=until(5))
    chosen = known_precision(auto, cpu, 1, tmp_path)
    assert chosen in ("fp32", "bf16")
    for keeps in ("bf16", "fp32"):
        (tmp_path / "precision.txt").write_text(keeps)
        assert known_precision(auto, cpu, 1, tmp_path) == keeps
    _, _, said = run(tmp_path, config=auto, resume=True)
    assert "s a step in fp32" in said


def test_samples_are_of_the_average_and_in_peace(tmp_path):
    seen = []

    def sampler(model: nn.Module) -> Image.Image:
        seen.append((model.training, torch.is_grad_enabled(), model[0].weight.detach().clone()))
        torch.rand(3)  # whatever it draws, the run goes on as without
        return Image.new("RGB", (2, 2))

    run(tmp_path / "seen", sampler=sampler)
    run(tmp_path / "unseen")
    assert [path.name for path in sorted((tmp_path / "seen" / "samples").iterdir())] == [
        "00000006.png",
        "00000012.png",
    ]
    assert [call[:2] for call in seen] == [(False, False)] * 2
    assert torch.equal(seen[1][2], weights(tmp_path / "seen")["0.weight"])
    assert log(tmp_path / "seen") == log(tmp_path / "unseen")


def test_curves_go_to_tensorboard(tmp_path):
    run(tmp_path)
    (events,) = (tmp_path / "tensorboard").rglob("events*")
    data = events.read_bytes()
    assert all(name in data for name in (b"loss", b"gradient", b"noise", b"learning_rate"))


class Nested(NamedTuple):
    x: Tensor
    more: tuple[Tensor, ...]


@dataclass(frozen=True)
class Held:
    nested: Nested
    name: str


def test_batches_move_whatever_they_are_made_of():
    held = Held(Nested(torch.zeros(2), (torch.ones(1),)) , "name")  # fmt: skip
    there = moved(held, torch.device("meta"))
    assert isinstance(there, Held)
    assert there.name == "name"
    assert there.nested.x.device.type == "meta"
    assert held.nested.x.device.type == "cpu"
