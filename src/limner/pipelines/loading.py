"""Networks from their folders, ready to paint, and the short name of all weights together."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from limner import checkpoint
from limner.errors import LimnerError
from limner.formats.files import not_finite
from limner.formats.format import listed
from limner.formats.pickles import BROKEN

M = TypeVar("M", bound=nn.Module)


def loaded(folder: Path, config_type: Any, network: Callable[[Any], M], device: torch.device) -> M:
    """The network of a checkpoint folder, as float32, on `device`, its weights frozen.

    Raises LimnerError, naming the file, for weights that are missing, damaged, no numbers or of another kind,
    and for a config of sizes that make no network.
    """
    module, state = _made(folder, config_type, network, device, built="cpu")
    checkpoint.load_into(module, state)
    return placed(module, device).eval().requires_grad_(False)


def placed(module: M, device: torch.device) -> M:
    """The same on a device, its pictures' channels last, which convolutions are fastest with."""
    # torch's own types know nothing of memory_format here.
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.to(device)


def mapped(folder: Path, config_type: Any, network: Callable[[Any], M], device: torch.device) -> M:
    """The same of a network that is too large to lie in memory twice: its weights are views of the file."""
    module, state = _made(folder, config_type, network, device, built="meta")
    checkpoint.load_into(module, {name: tensor.float() for name, tensor in state.items()}, assign=True)
    return module.to(device).eval().requires_grad_(False)


def _made(
    folder: Path, config_type: Any, network: Callable[[Any], M], device: torch.device, *, built: str
) -> tuple[M, dict[str, Tensor]]:
    """A network as its config says, and the weights that it is to have."""
    try:
        config, state = checkpoint.load(folder, config_type, device)
        # Some sizes are in no shape that would disagree.
        if (least := _least(asdict(config))) < 0:
            raise ValueError(f"no size is {least}")
        # Initial values are drawn and overwritten; the caller's random numbers are none of our business.
        with torch.random.fork_rng(devices=[]), torch.device(built):
            module = network(config)
    except BROKEN as error:
        raise LimnerError(
            f"{folder / checkpoint.CONFIG} has sizes that make no network "
            f"({str(error) or type(error).__name__}): copy it again from its source"
        ) from error
    if broken := not_finite(state):
        raise LimnerError(
            f"{folder / checkpoint.WEIGHTS} holds not a finite number in {listed(broken)}: these weights are "
            "broken, train or copy them again"
        )
    return module, state


def _least(said: Any) -> int:
    """The least whole number of a config, or 0."""
    if isinstance(said, dict | list | tuple):
        return min(map(_least, said.values() if isinstance(said, dict) else said), default=0)
    return said if isinstance(said, int) else 0


def digest_of(parts: Sequence[str]) -> str:
    """Twelve hexadecimal digits for the digests of all parts, in their order."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]
