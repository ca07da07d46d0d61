"""The same pictures painted in several ways, each judged alike: what ways of painting are compared by.

Every way paints the same prompts from the same seeds at the smallest size, so that differences are of the
ways and not of chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.evaluation.coverage import K, covered, spread
from limner.evaluation.frechet import frechet_distance, gaussian
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.recognition import Judge, Recognised
from limner.evaluation.report import Task, opened
from limner.progress import watched

S = TypeVar("S")
# Prompts and settings → as many pictures of each prompt as the study asks for, prompt by prompt.
Paint = Callable[[Sequence[str], S], list[Image.Image]]


@dataclass(frozen=True)
class Way(Generic[S]):
    """A line of the plot, its place on it, and how to paint."""

    line: str
    place: float
    settings: S


@dataclass(frozen=True)
class Painted:
    """What a way painted, by its `line` and `place`: pictures, and the judge's features of them (n, f)."""

    line: str
    place: float
    pictures: list[Image.Image]
    features: Tensor


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of a way: how often it is recognised, and how far its pictures are from real ones."""

    line: str
    place: float
    recognised: Recognised
    frechet: float


@dataclass(frozen=True, kw_only=True)
class Variety:
    """How much there is of what is real, and how different pictures of one prompt are.

    `precision` and `recall`: Kynkäänniemi et al. 2019, for recall from one picture of each prompt, for among
    several the third neighbour might be the last of the same prompt. `spread`: the mean cosine distance
    between pictures of one prompt, in the judge's features.
    """

    precision: float
    recall: float
    spread: Estimate


def painted(paint: Paint[S], judge: Judge, prompts: Sequence[str], ways: Sequence[Way[S]]) -> list[Painted]:
    """Every prompt in every way; row i of all of them is of the same prompt and seed."""
    found = []
    for way in watched(ways, "painting in every way"):
        pictures = paint(prompts, way.settings)
        found.append(Painted(way.line, way.place, pictures, judge.look(pictures, total=len(pictures))))
    return found


def variety(
    found: Painted, real: Float[Tensor, "n f"], names: Sequence[str], *, count: int, seed: int
) -> Variety:
    """Of one way, which painted `count` pictures of each prompt, beside `real` drawings."""
    of_each = found.features[::count]
    apart = spread(found.features, names)
    return Variety(
        precision=float(covered(real, found.features).float().mean()),
        recall=float(covered(of_each, real, k=min(K, len(of_each) - 1)).float().mean()),
        spread=bootstrap(apart, list(dict.fromkeys(names)), seed=seed),
    )


def real_features(task: Task, detail: int) -> Float[Tensor, "n f"]:
    """The judge's features of the task's real drawings, at a painting's detail."""
    return task.judge.look(opened(task.drawings, detail), total=len(task.drawings))


def judged(
    found: Painted, task: Task, real: Float[Tensor, "n f"], names: Sequence[str], *, seed: int
) -> Trial:
    """The judge on one way's pictures."""
    return Trial(
        line=found.line,
        place=found.place,
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
