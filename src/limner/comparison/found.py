"""All that a comparison has found, as the report tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limner.comparison.claims import Answer
from limner.comparison.panel import Preference
from limner.comparison.scores import Scored


@dataclass(frozen=True, kw_only=True)
class Painted:
    """One entrant: what it is, its weights, how it was set, its pictures and what they cost.

    `seconds`: of a picture among those painted with it, None where all were painted on another device;
    `alone` and `megabytes`: of one by itself.
    """

    name: str
    title: str
    weights: str
    settings: str
    files: tuple[Path, ...]
    seconds: float | None
    alone: float | None
    megabytes: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The whole: who painted what, what it scored, whom the panel prefers, what became of the claims.

    `real`: what the drawings that were asked for score, where they are known. `settings`: what else it was
    made with, by name. `warnings`: what is to be said of so few pictures.
    """

    command: str
    prompts: tuple[str, ...]
    prompts_name: str
    prompts_digest: str
    count: int
    size: int
    painted: tuple[Painted, ...]
    scores: tuple[Scored, ...]
    real: Scored | None
    classifier: str
    preferences: tuple[Preference, ...]
    answers: tuple[Answer, ...]
    settings: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def titles(self) -> dict[str, str]:
        """How each name is read."""
        return {one.name: one.title for one in self.painted}

    def rows(self) -> Sequence[Scored]:
        """Everybody in order, real drawings last."""
        return (*self.scores, *(() if self.real is None else (self.real,)))
