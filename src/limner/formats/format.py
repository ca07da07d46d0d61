"""What every format says of a checkpoint: the parts it holds for limner, and all that was not certain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.pickles import BROKEN
from limner.formats.places import Place, Taken, take

# What is tried at most: pictures of so many pixels a side, sequences of so many tokens. Files of a few
# megabytes may speak of far larger ones.
LARGEST_SIDE, LONGEST_SEQUENCE = 512, 8192


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What weights do not say, where somebody knows it.

    `activation`: CLIP's. `head_width`: of its picture tower, or of guided-diffusion's U-Net, which may also
    have as many `heads` in every block, `by_head` or by kind, and another `schedule`. `release`: ruDALL-E's.
    """

    activation: str | None = None
    head_width: int | None = None
    heads: int | None = None
    by_head: bool | None = None
    schedule: Literal["linear", "cosine"] | None = None
    release: Literal["v2", "v3"] | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One network: `config` and `state` as limner has them, what did not come out even, and its class.

    `tried` runs it once on next to nothing, and names what comes of what; nothing where that is too large.
    `beside`: files without weights that it is of no use without, such as its words; they go where it goes.
    """

    name: str
    network: Callable[[Any], nn.Module]
    config: Any
    taken: Taken
    tried: Callable[[Any], Mapping[str, Tensor]]
    beside: tuple[Path, ...] = ()

    @property
    def parameters(self) -> int:
        """How many numbers of it are learned, as they are published; BatchNorm's statistics are not."""
        with torch.device("meta"):
            learned = dict(self.network(self.config).named_parameters())
        return sum(tensor.numel() for name, tensor in self.taken.state.items() if name in learned)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A checkpoint that was recognised: its `format`, its parts, and what was `assumed` of them.

    `wanted`: what it is of no use without, in a sentence each. `beyond`: what else is in it that limner does
    not compute, each with what is known of it.
    """

    format: str
    contents: Contents
    parts: tuple[Part, ...]
    assumed: tuple[str, ...]
    wanted: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()

    @property
    def complaints(self) -> list[str]:
        """Why it cannot be used as it is; nothing where it can."""
        found = [*self.beyond, *self.wanted]
        for part in self.parts:
            # What is left over would do something where it was made, and here does nothing.
            taken = part.taken
            for what, names in (
                ("missing", taken.missing),
                ("wrong", taken.wrong),
                ("left over", taken.unused),
            ):
                if names:
                    found.append(f"{part.name}: {what}: {listed(names)}")
        return found


@dataclass(frozen=True)
class Format:
    """`fits` says by names and shapes whether it is this one; `read` makes limner's parts of it."""

    name: str
    fits: Callable[[Contents], bool]
    read: Callable[[Contents, Assumptions], Opened]


def part(
    name: str,
    network: Callable[[Any], nn.Module],
    config: Any,
    places: Sequence[Place],
    tensors: Mapping[str, Tensor],
    *,
    tried: Callable[[Any], Mapping[str, Tensor]],
    ignored: Sequence[str] = (),
    beside: tuple[Path, ...] = (),
) -> Part:
    """A network's part, by the list of its places."""
    return Part(
        name=name,
        network=network,
        config=config,
        taken=take(places, tensors, shapes_of(network, config), ignored=ignored),
        tried=tried,
        beside=beside,
    )


def shapes_of(network: Callable[[Any], nn.Module], config: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's state dict, without its memory. LimnerError for sizes that make none."""
    try:
        with torch.device("meta"):
            module = network(config)
    except BROKEN as error:
        raise LimnerError(f"its sizes make no network ({error or type(error).__name__})") from error
    # What limner measures itself is in nobody else's file.
    measured: frozenset[str] = getattr(module, "MEASURED", frozenset())
    return {name: tuple(one.shape) for name, one in module.state_dict().items() if name not in measured}


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few names and how many more there are."""
    rest = len(names) - most
    shown = [name if name.isprintable() else repr(name) for name in names[:most]]
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
