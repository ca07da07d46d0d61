"""How far a painting is, for whoever wants to draw a bar."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Doing: TypeAlias = Literal[
    "inverting", "imagining", "drawing", "enlarging", "enlarging again", "writing", "developing", "ranking"
]


@dataclass(frozen=True)
class Tick:
    """`done` of `total`, which count every picture once for each step of each network.

    A step of a network that writes tokens is a row of them.
    """

    doing: Doing
    done: int
    total: int


class Clock:
    """Counts over all stages and tells `on_tick`, if anybody listens."""

    def __init__(self, total: int, on_tick: Callable[[Tick], None] | None) -> None:
        self.done = 0
        self.total = total
        self.on_tick = on_tick

    def during(self, doing: Doing) -> Callable[[int], None]:
        """What a stage calls after each step, with the number of pictures that made it."""

        def advance(pictures: int) -> None:
            self.done += pictures
            if self.on_tick is not None:
                self.on_tick(Tick(doing, self.done, self.total))

        return advance
