"""The same pictures painted in several ways, each judged alike: what solvers and guidance are compared by.

Every way paints the same prompts from the same seeds at the base's size, so that differences are of the ways
and not of chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.evaluation.frechet import frechet_distance, gaussian
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.recognition import Recognised
from limner.evaluation.report import Asked, Task, opened
from limner.progress import watched

if TYPE_CHECKING:
    from limner.pipelines import Glide, GlideSettings


@dataclass(frozen=True)
class Way:
    """A line of the plot, its place on it, and how to paint."""

    line: str
    place: float
    settings: "GlideSettings"


@dataclass(frozen=True)
class Painted:
    """What a way painted: the pictures, and the judge's features of them (n, f)."""

    way: Way
    pictures: list[Image.Image]
    features: Tensor


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of a way: how often it is recognised, and how far its pictures are from real ones."""

    line: str
    place: float
    recognised: Recognised
    frechet: float


def painted(
    painter: "Glide", task: Task, asked: Sequence[Asked], ways: Sequence[Way], *, count: int, seed: int
) -> list[Painted]:
    """`count` pictures of each prompt in every way; row i of all of them is of the same prompt and seed."""
    found = []
    for way in watched(ways, "painting in every way"):
        pictures = painter.paint(
            [one.prompt for one in asked],
            count=count,
            size=painter.sizes[0],
            seed=seed,
            settings=way.settings,
        )
        found.append(Painted(way, pictures, task.judge.look(pictures, total=len(pictures))))
    return found


def real_features(task: Task, detail: int) -> Float[Tensor, "n f"]:
    """The judge's features of the task's real drawings, at a painting's detail."""
    return task.judge.look(opened(task.drawings, detail), total=len(task.drawings))


def judged(
    found: Painted, task: Task, real: Float[Tensor, "n f"], names: Sequence[str], *, seed: int
) -> Trial:
    """The judge on one way's pictures."""
    return Trial(
        line=found.way.line,
        place=found.way.place,
        recognised=task.judge.of(found.features, names, seed=seed),
        frechet=frechet_distance(gaussian(real), gaussian(found.features)),
    )


def difference(one: Painted, other: Painted, task: Task, names: Sequence[str], *, seed: int) -> Estimate:
    """How much more often `one` is recognised within five answers than `other`, picture by picture."""
    hits = [(task.judge.places(each.features, names) < 5).double() for each in (one, other)]
    return bootstrap((hits[0] - hits[1]).tolist(), names, seed=seed)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
