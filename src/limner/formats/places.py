"""Which of their tensors stands where in our networks: one list for each format, read in both directions."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from limner.errors import LimnerError


@dataclass(frozen=True)
class Place:
    """`ours` holds their tensors, one after the other along the first dimension; `turned`: transposed.

    `packed`: heads and parts of an attention whose rows they keep by head, [head][q|k|v], where ours are
    [q|k|v][head]. `ones`: dimensions of one that theirs begin with. When they are read, shapes that differ
    by ones alone agree. None among `theirs` is an equal part of ours that they do not have: each of its
    numbers is `filled`, and written back it is left out.
    """

    ours: str
    theirs: tuple[str | None, ...]
    turned: bool = False
    packed: tuple[int, int] | None = None
    ones: int = 0
    filled: float = 0.0

    @property
    def named(self) -> tuple[str, ...]:
        """Those of `theirs` that they have."""
        return tuple(name for name in self.theirs if name is not None)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Our tensors by name, and what did not come out even.

    `missing`, `unused`: names of theirs; `wrong`: what has another shape than is needed.
    """

    state: Mapping[str, Tensor]
    missing: tuple[str, ...]
    wrong: tuple[str, ...]
    unused: tuple[str, ...]


def both(ours: str, *theirs: str) -> tuple[Place, Place]:
    """Weight and bias of a layer."""
    weight, bias = (
        Place(f"{ours}.{end}", tuple(f"{one}.{end}" for one in theirs)) for end in ("weight", "bias")
    )
    return weight, bias


def take(
    places: Iterable[Place],
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    ignored: Iterable[str] = (),
) -> Taken:
    """Our state dict from their tensors; `shapes` are those of ours, `ignored` theirs that say nothing.

    Tensors that fill a place alone are views of theirs: nothing is copied that need not be.
    """
    state: dict[str, Tensor] = {}
    missing, wrong, used = [], [], set(ignored)
    for place in places:
        absent = [name for name in place.named if name not in tensors]
        used |= set(place.named)
        if absent:
            missing += absent
            continue
        wanted = shapes[place.ours]
        parts = _parts(place, tensors, wanted)
        found = _joined(parts, place, math.prod(wanted))
        if found is None or _bare(found.shape) != _bare(wanted):
            of = " and ".join(f"{name} {tuple(tensors[name].shape)}" for name in place.named)
            wrong.append(f"{of} where {wanted} is needed{', transposed' if place.turned else ''}")
            continue
        state[place.ours] = found.reshape(wanted)
    forgotten = shapes.keys() - {place.ours for place in places}
    if forgotten:
        raise AssertionError(f"no place is written down for {min(forgotten)}")
    return Taken(
        state=state,
        missing=tuple(missing),
        wrong=tuple(wrong),
        unused=tuple(name for name in tensors if name not in used),
    )


def give(places: Iterable[Place], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors from our state dict: `take` backwards."""
    found: dict[str, Tensor] = {}
    for place in places:
        tensor = state[place.ours].T if place.turned else state[place.ours]
        if tensor.shape and tensor.shape[0] % len(place.theirs):
            raise LimnerError(f"{place.ours} {tuple(tensor.shape)} is not to be cut into {len(place.theirs)}")
        if place.packed is not None:
            heads, kinds = place.packed
            tensor = rearrange(tensor, "(kinds heads d) ... -> (heads kinds d) ...", heads=heads, kinds=kinds)
        tensor = tensor.reshape((1,) * place.ones + tuple(tensor.shape))
        parts = tensor.chunk(len(place.theirs)) if len(place.theirs) > 1 else [tensor]
        for name, part in zip(place.theirs, parts, strict=True):
            if name is not None:
                found[name] = part.contiguous()
    return found


def _parts(place: Place, tensors: Mapping[str, Tensor], wanted: tuple[int, ...]) -> list[Tensor]:
    """Their tensors, and what is filled where they have none."""
    if place.named == place.theirs:
        return [tensors[name] for name in place.named]
    shape = (wanted[0] // len(place.theirs), *wanted[1:]) if wanted else ()
    like = tensors[place.named[0]] if place.named else torch.empty(0)
    filled = torch.full(shape, place.filled, dtype=like.dtype, device=like.device)
    return [filled if name is None else tensors[name] for name in place.theirs]


def _joined(parts: list[Tensor], place: Place, numbers: int) -> Tensor | None:
    if len(parts) > 1:
        # Looked at before anything is put together: what does not fit may be of any size.
        if (
            len({part.shape[1:] for part in parts}) > 1
            or not parts[0].ndim
            or sum(map(Tensor.numel, parts)) != numbers
        ):
            return None
        joined = torch.cat(parts)
    else:
        joined = parts[0]
    if place.turned:
        return joined.T if joined.ndim == 2 else None
    if place.packed is not None:
        heads, kinds = place.packed
        if not joined.ndim or joined.shape[0] % (heads * kinds):
            return None
        return rearrange(joined, "(heads kinds d) ... -> (kinds heads d) ...", heads=heads, kinds=kinds)
    return joined


def _bare(shape: Iterable[int]) -> list[int]:
    return [n for n in shape if n != 1]
