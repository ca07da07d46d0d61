"""Networks from their folders, ready to paint, and the short name of all weights together."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

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
    try:
        config, state = checkpoint.load(folder, config_type, device)
        # Initial values are drawn and overwritten; the caller's random numbers are none of our business.
        with torch.random.fork_rng(devices=[]):
            module = network(config)
    except BROKEN as error:
        raise LimnerError(
            f"{folder / checkpoint.CONFIG} has sizes that make no network "
            f"({str(error) or type(error).__name__}): copy it again from its source"
        ) from error
    checkpoint.load_into(module, state)
    if broken := not_finite(state):
        raise LimnerError(
            f"{folder / checkpoint.WEIGHTS} holds not a finite number in {listed(broken)}: these weights are "
            "broken, train or copy them again"
        )
    # torch's own types know nothing of memory_format here.
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.to(device).eval().requires_grad_(False)


def mapped(folder: Path, config_type: Any, network: Callable[[Any], M], device: torch.device) -> M:
    """The same of a network that is too large to lie in memory twice: its weights are views of the file."""
    config, state = checkpoint.load(folder, config_type, device)
    with torch.device("meta"):
        module = network(config)
    checkpoint.load_into(module, {name: tensor.float() for name, tensor in state.items()}, assign=True)
    return module.to(device).eval().requires_grad_(False)


def digest_of(parts: Sequence[str]) -> str:
    """Twelve hexadecimal digits for the digests of all parts, in their order."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]
