"""What everybody scores, each number with its interval, and what is to be said where pictures are too few."""

from collections import Counter
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limner.comparison.looking import Panel, Seen
from limner.evaluation import few
from limner.evaluation.clip_score import clip_score
from limner.evaluation.cmmd import cmmd_estimate
from limner.evaluation.copying import copying, nearest
from limner.evaluation.coverage import K, covered, recall_estimate, spread
from limner.evaluation.frechet import gaussian
from limner.evaluation.frechet_interval import frechet_estimate
from limner.evaluation.inception_score import inception_score_estimate
from limner.evaluation.intervals import Estimate, bootstrap, cautious
from limner.evaluation.marks import ALL, FIRST, RECOGNISED


@dataclass(frozen=True)
class Measure:
    """One column: its `key` in the CSV, its title, whether more is better, and how it is written.

    `factor` is of the written number, `places` its decimals.
    """

    key: str
    title: str
    more: bool
    factor: float = 1.0
    places: int = 2

    def written(self, found: Estimate) -> str:
        """A number and its interval."""
        scaled = Estimate(
            value=self.factor * found.value,
            low=self.factor * found.low,
            high=self.factor * found.high,
            total=found.total,
        )
        return scaled.written(self.places)


MEASURES = (
    Measure("first", "recognised at once, %", True, 100.0, 1),
    Measure("five", "recognised among five, %", True, 100.0, 1),
    Measure("asked", "layout as asked, %", True, 100.0, 1),
    Measure("clip", "CLIP score", True, 1.0, 1),
    Measure("frechet", "Fréchet distance", False, 1.0, 1),
    Measure("frechet_clip", "Fréchet distance, CLIP × 1000", False, 1000.0, 0),
    Measure("frechet_inception", "Fréchet distance, Inception", False, 1.0, 1),
    Measure("cmmd", "CMMD", False, 1.0, 2),
    Measure("score", "Inception-style score", True, 1.0, 1),
    Measure("precision", "precision", True, 1.0, 2),
    Measure("recall", "recall", True, 1.0, 2),
    Measure("spread", "distance within a prompt", True, 1.0, 3),
    Measure("copies", "near-copies, %", False, 100.0, 1),
)


@dataclass(frozen=True)
class Scored:
    """One entrant's numbers by their keys, and by blur radius its distance and score."""

    name: str
    title: str
    pictures: int
    numbers: dict[str, Estimate]
    blurred: dict[float, dict[str, Estimate]]


@dataclass(frozen=True)
class Compared:
    """Real pictures as everybody is compared with them: the cloud, and what was trained on and held out."""

    cloud: Seen
    trained: Float[Tensor, "n f"]
    held_out: Float[Tensor, "m f"]


def scored(
    panel: Panel,
    found: Seen,
    prompts: Float[Tensor, "n d"],
    compared: Compared | None,
    *,
    name: str,
    title: str,
    seed: int,
) -> Scored:
    """Every measure that there is something to measure by; `prompts`: CLIP's of each row's words."""
    groups = found.groups
    numbers = {
        "clip": clip_score(found.clip, prompts, groups, seed=seed),
        "score": inception_score_estimate(panel.probabilities(found.features), groups, seed=seed),
        **marked(found, seed=seed),
    }
    if apart := spread(found.features, groups):
        names = [group for group, count in Counter(groups).items() if count > 1]
        numbers["spread"] = bootstrap(apart, names, seed=seed)
    blurred: dict[float, dict[str, Estimate]] = {0.0: {"score": numbers["score"]}}
    for radius, features in found.blurred.items():
        p = panel.probabilities(features)
        blurred[radius] = {"score": inception_score_estimate(p, groups, seed=seed)}
    if compared is not None:
        numbers |= beside(found, compared, seed=seed)
        if "frechet" in numbers:
            blurred[0.0]["frechet"] = numbers["frechet"]
            for radius, features in found.blurred.items():
                real = gaussian(compared.cloud.blurred[radius])
                blurred[radius]["frechet"] = frechet_estimate(real, features, groups, seed=seed)
    return Scored(name, title, len(groups), numbers, blurred)


def marked(found: Seen, *, seed: int) -> dict[str, Estimate]:
    """How often what was asked for is recognised; prompts are drawn again whole."""
    numbers = {}
    for key, mark in (("first", FIRST), ("five", RECOGNISED), ("asked", ALL)):
        rows = [row for row, marks in found.marks.items() if mark in marks]
        if rows:
            hits = [found.marks[row][mark] for row in rows]
            numbers[key] = cautious(hits, [found.groups[row] for row in rows], seed=seed)
    return numbers


def beside(found: Seen, compared: Compared, *, seed: int) -> dict[str, Estimate]:
    """What is measured beside real pictures; nothing of fewer than two paintings."""
    groups, cloud = found.groups, compared.cloud
    if len(groups) < 2:
        return {}
    numbers = {
        "frechet": frechet_estimate(gaussian(cloud.features), found.features, groups, seed=seed),
        "frechet_clip": frechet_estimate(gaussian(cloud.clip), found.clip, groups, seed=seed),
        "cmmd": cmmd_estimate(cloud.clip, found.clip, groups, seed=seed),
    }
    if found.inception is not None and cloud.inception is not None:
        real = gaussian(cloud.inception)
        numbers["frechet_inception"] = frechet_estimate(real, found.inception, groups, seed=seed)
    inside = covered(cloud.features, found.features, k=min(K, len(cloud.features) - 1))
    numbers["precision"] = cautious(inside.tolist(), groups, seed=seed)
    # One of each prompt: among several, the third neighbour might be the last of the same.
    first = found.features[found.first]
    if len(first) > 1:
        numbers["recall"] = recall_estimate(first, cloud.features, seed=seed)
    if len(compared.trained) and len(compared.held_out):
        painted, held = (nearest(rows, compared.trained)[0] for rows in (found.features, compared.held_out))
        numbers["copies"] = copying(painted, held, groups, seed=seed).beyond
    return numbers


def too_few(panel: Panel, found: Seen, compared: Compared | None) -> list[str]:
    """What is to be said of a comparison of so many pictures."""
    pictures, prompts = len(found.groups), len(dict.fromkeys(found.groups))
    classes = 1000 if panel.judge is None else len(panel.judge.names)
    said = [few.few_for_interval(prompts), few.few_for_score(pictures, classes)]
    if compared is not None:
        said += [
            few.few_for_frechet(pictures, found.features.shape[1]),
            few.few_for_frechet(pictures, found.clip.shape[1], "a Fréchet distance by CLIP"),
            few.few_for_kernel(pictures),
            few.few_for_balls(min(prompts, len(compared.cloud.features))),
        ]
    return [one for one in said if one is not None]
