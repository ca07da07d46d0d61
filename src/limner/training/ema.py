"""The exponential moving average of the weights: what ships and what paints."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """A float32 shadow of a module's trainable parameters.

    The decay is min(`decay`, (1 + n) / (10 + n)) after n updates, so that a short run does not ship its
    random initialisation.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        """Move the shadow towards the weights after optimizer step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        live = [p for p in module.parameters() if p.requires_grad]
        torch._foreach_lerp_(list(self.shadow.values()), [p.detach() for p in live], 1 - decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Inside, `module` holds the averaged weights; outside, its own again."""
        own: dict[str, Tensor] = {}
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for name, parameter in named.items():
                own[name] = parameter.detach().clone()
                parameter.copy_(self.shadow[name])
            try:
                yield
            finally:
                for name, parameter in named.items():
                    parameter.copy_(own[name])
