"""States are whole, are what they say, and are refused in words where they are not."""

import io
from pathlib import Path

import pytest
import torch
from torch import nn

from limner.errors import LimnerError
from limner.training.ema import Ema
from limner.training.state import load_state, save_state, states, whole_weights


class Run:
    """Model, average and optimizer, after a few steps."""

    def __init__(self, *, seed: int, steps: int, width: int = 4) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Conv2d(3, width, 3), nn.SiLU(), nn.Conv2d(width, 2, 1))
        self.model.register_buffer("counted", torch.tensor(float(steps)))
        self.model[2].bias.requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, lr=0.1, fused=True)
        self.ema = Ema(self.model, decay=0.9)
        for step in range(steps):
            self.step(step)

    def step(self, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(2, 3, 6, 6, generator=generator)
        self.model(x).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.model, step=number)

    def save(self, folder: Path, step: int) -> None:
        save_state(folder, step=step, model=self.model, ema=self.ema, optimizers=[self.optimizer])

    def load(self, folder: Path) -> int:
        return load_state(folder, model=self.model, ema=self.ema, optimizers=[self.optimizer])


def same(one: Run, other: Run) -> None:
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    for name, value in one.ema.shadow.items():
        assert torch.equal(value, other.ema.shadow[name]), name
    for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert p.stride() == q.stride()
        if p.requires_grad:
            for key, value in one.optimizer.state[p].items():
                assert torch.equal(value, other.optimizer.state[q][key]), key
                # The fused step goes through memory in order, so the order must be the weights' own.
                assert (
                    value.ndim == 0 or value.stride() == other.optimizer.state[q][key].stride() == p.stride()
                )


def test_there_and_back_and_on(tmp_path):
    run, other = Run(seed=0, steps=3), Run(seed=1, steps=0)
    run.save(tmp_path, 3)
    assert other.load(tmp_path) == 3
    same(run, other)
    for step in (3, 4):
        run.step(step)
        other.step(step)
    same(run, other)


def test_two_optimizers_go_on_where_they_were(tmp_path):
    def made() -> tuple[nn.Module, list[torch.optim.Optimizer], Ema]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4))
        adamw = torch.optim.AdamW([model[0].weight, model[0].bias, model[1].bias], lr=0.1, fused=True)
        return model, [adamw, torch.optim.Muon([model[1].weight], lr=0.1)], Ema(model, decay=0.9)

    def step(model: nn.Module, optimizers: list[torch.optim.Optimizer], number: int) -> None:
        model(torch.randn(2, 4, generator=torch.Generator().manual_seed(number))).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    model, optimizers, ema = made()
    for number in range(3):
        step(model, optimizers, number)
    save_state(tmp_path, step=3, model=model, ema=ema, optimizers=optimizers)
    again, others, average = made()
    assert load_state(tmp_path, model=again, ema=average, optimizers=others) == 3
    for number in (3, 4):
        step(model, optimizers, number)
        step(again, others, number)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_state_holds_the_average_beside_the_weights(tmp_path):
    run = Run(seed=0, steps=3)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.save(tmp_path, 3)
    content = torch.load(states(tmp_path)[0], weights_only=True)
    for name, value in run.ema.shadow.items():
        assert torch.equal(content["ema"][name], value)
        assert not torch.equal(content["ema"][name], content["model"][name])
    for name, value in before.items():
        assert torch.equal(run.model.state_dict()[name], value)
        assert torch.equal(content["model"][name], value)


def test_whole_weights_are_a_copy():
    run = Run(seed=0, steps=0)
    copy = whole_weights(run.model)
    assert list(copy) == list(run.model.state_dict())
    run.step(0)
    assert not torch.equal(copy["0.weight"], run.model[0].weight)


def test_the_newest_two_are_kept(tmp_path):
    run = Run(seed=0, steps=0)
    for step in (5, 10, 15, 100_000):
        run.step(step)
        run.save(tmp_path, step)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000015.pt", "step_00100000.pt"]
    assert Run(seed=1, steps=0).load(tmp_path) == 100_000


def test_nothing_to_resume_from(tmp_path):
    run, untouched = Run(seed=0, steps=1), Run(seed=0, steps=1)
    assert run.load(tmp_path / "none") == 0
    assert run.load(tmp_path) == 0
    same(run, untouched)


def test_a_half_written_state_is_not_one(tmp_path):
    run = Run(seed=0, steps=2)
    run.save(tmp_path, 2)
    (tmp_path / "step_00000004.partial").write_bytes((tmp_path / "step_00000002.pt").read_bytes()[:500])
    other = Run(seed=1, steps=0)
    assert other.load(tmp_path) == 2
    same(run, other)
    run.save(tmp_path, 4)  # and is no obstacle
    assert [path.name for path in states(tmp_path)] == ["step_00000002.pt", "step_00000004.pt"]


def test_a_state_of_another_rule_is_told_apart(tmp_path):
    run = Run(seed=0, steps=2)
    run.save(tmp_path, 2)
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    others = [run.optimizer, torch.optim.Muon([weight], lr=0.1)]
    with pytest.raises(LimnerError, match="was trained by AdamW, and this recipe trains by AdamW and Muon"):
        load_state(tmp_path, model=run.model, ema=run.ema, optimizers=others)


def test_a_full_disk_is_one_line_and_leaves_no_half(tmp_path, monkeypatch):
    run = Run(seed=0, steps=2)
    run.save(tmp_path, 2)

    def full(_: object, file: io.IOBase) -> None:
        file.write(b"half")
        raise RuntimeError("unexpected pos 1600 vs 1494")  # what PyTorch says of a disk that is full

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(LimnerError, match=r"cannot write .*step_00000004.pt .*: free some space"):
        run.save(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002.pt"]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "damage",
    [cut, lambda _: b"", lambda _: b"not a state at all", lambda data: data[:-40]],
    ids=["half", "empty", "garbage", "end missing"],
)
def test_damage_is_one_clear_line(tmp_path, damage):
    Run(seed=0, steps=1).save(tmp_path, 1)
    path = states(tmp_path)[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LimnerError, match=r"step_00000001.pt does not belong to this model or is damaged"):
        Run(seed=0, steps=0).load(tmp_path)


def test_another_models_state_is_refused(tmp_path):
    Run(seed=0, steps=1).save(tmp_path, 1)
    with pytest.raises(LimnerError, match="remove it to go on from the one before"):
        Run(seed=0, steps=0, width=5).load(tmp_path)
    torch.save({"step": 3}, tmp_path / "step_00000002.pt")
    with pytest.raises(LimnerError, match=r"step_00000002.pt does not belong"):
        Run(seed=0, steps=0).load(tmp_path)
