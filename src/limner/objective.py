"""The contract between a room and the training loop: objective(model, batch, draws) → loss.

A room knows no trainer and the trainer knows no system; this file is all that they share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor, nn

from limner.draws import Draws

Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A scalar to minimise, what else is worth plotting, and what a model that knows nothing would score.

    A `report` of "x_of_mean" beside one of "x", what the mean would reach, makes the verdict name both.

    `warning`: what ails the model though its loss may fall, in one sentence that training prints with its
    verdict; a collapsed codebook, say. None where all is well.

    `rivals`: the model is networks that play against each other, so a loss that no longer falls is no fault.
    """

    total: Tensor
    report: Mapping[str, Tensor] = field(default_factory=dict)
    baseline: float
    warning: str | None = None
    rivals: bool = False


Objective = Callable[[nn.Module, Batch, Draws], Loss]


def unwrapped(model: nn.Module, kind: type[Network]) -> Network:
    """The room's own network inside whatever wraps it for several processes."""
    inner = getattr(model, "module", model)
    if not isinstance(inner, kind):
        raise TypeError(f"model: expected {kind.__name__}, got {type(inner).__name__}")
    return inner
