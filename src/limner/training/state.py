"""What a run must remember to go on as if it had never stopped, written so that a kill cannot break it."""

import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from limner.distributed import rank
from limner.errors import LimnerError
from limner.training.ema import Ema

KEPT = 2
NAME = re.compile(r"step_(\d{8})\.pt")
# Gathers sharded (FSDP) weights to the first process; in other runs it is a plain state dict.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights, on the first process; all processes must call this."""
    # Cloned, for what is neither sharded nor on a GPU comes as it is, and would change under our hands.
    found = get_model_state_dict(model, options=WHOLE)
    return {name: value.clone() for name, value in found.items() if isinstance(value, Tensor)}


def save_state(
    folder: Path, *, step: int, model: nn.Module, ema: Ema, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Write everything the next step depends on; keep the newest two files.

    The random streams need no saving: they are functions of (seed, step). All processes must call this.
    Raises LimnerError where it cannot be written, and leaves the states before it as they were.
    """
    weights = whole_weights(model)
    moments = get_optimizer_state_dict(model, optimizers, options=WHOLE)
    with ema.applied(model):
        averaged = whole_weights(model)
    if rank() != 0:
        return
    path = folder / f"step_{step:08d}.pt"
    partial = path.with_suffix(".partial")
    content = {
        "step": step,
        "model": weights,
        "ema": averaged,
        "optimizer": moments,
        "rules": rules(optimizers),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        # What PyTorch's writer says of a disk that is full.
        if isinstance(error, RuntimeError) and "unexpected pos" not in str(error):
            raise
        raise LimnerError(
            f"cannot write {path} ({error}): free some space, then go on with --resume"
        ) from error
    for old in states(folder)[:-KEPT]:
        old.unlink()


def rules(optimizers: Sequence[torch.optim.Optimizer]) -> list[str]:
    """What moves the weights, by name."""
    return [type(optimizer).__name__ for optimizer in optimizers]


def states(folder: Path) -> list[Path]:
    """The complete states in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def load_state(
    folder: Path, *, model: nn.Module, ema: Ema, optimizers: Sequence[torch.optim.Optimizer]
) -> int:
    """Restore the newest state into all of them and return the step to go on from; 0 where there is none."""
    found = states(folder)
    if not found:
        return 0
    try:
        content: dict[str, Any] = torch.load(found[-1], map_location="cpu", weights_only=True)
        # States of before there was a choice know of one rule.
        if (theirs := content.get("rules", ["AdamW"])) != (ours := rules(optimizers)):
            raise LimnerError(
                f"{found[-1]} was trained by {' and '.join(theirs)}, and this recipe trains by "
                f"{' and '.join(ours)}: choose another --out, or give --init-from the weights there"
            )
        # The average passes through the model, which knows how its weights are sharded.
        set_model_state_dict(model, content["ema"], options=StateDictOptions(full_state_dict=True))
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for name, shadow in ema.shadow.items():
            shadow.copy_(named[name].detach())
        set_model_state_dict(model, content["model"], options=StateDictOptions(full_state_dict=True))
        set_optimizer_state_dict(
            model, optimizers, content["optimizer"], options=StateDictOptions(full_state_dict=True)
        )
        step: int = content["step"]
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError, KeyError, ValueError) as error:
        raise LimnerError(
            f"{found[-1]} does not belong to this model or is damaged ({error}); "
            "remove it to go on from the one before, or start anew without --resume"
        ) from error
    return step
