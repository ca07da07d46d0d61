"""A stand-in panel of automatic judges: who would be preferred, if they were asked what people were asked.

They are no people, and what they say is told under their own name. Photorealism is answered by the realism
score (Kynkäänniemi et al. 2019, equation 3), caption similarity by CLIP's score and by the recogniser, who
says how likely the thing asked for is, diversity by how far apart pictures of one prompt are. Pictures meet
in pairs, of the same prompt and number; a tie is half a win, as GLIDE counts it.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from limner.comparison.looking import Panel, Seen
from limner.comparison.scores import Compared
from limner.evaluation.clip_score import cosines
from limner.evaluation.coverage import K, realism, spread
from limner.evaluation.emoji600 import Request
from limner.evaluation.intervals import Estimate, bootstrap, wilson
from limner.evaluation.suite_scores import DRAWINGS

NAME = "stand-in panel of automatic judges"
Question = Literal["photorealism", "caption similarity", "diversity"]


@dataclass(frozen=True)
class Opinion:
    """What one judge thinks of one entrant's pictures: a number for each row, or for each prompt; more is
    better.

    `groups`: the prompt of each number.
    """

    judge: str
    question: Question
    values: Tensor
    groups: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Preference:
    """How often `first` is preferred to `second` by one judge, ties as half."""

    first: str
    second: str
    question: Question
    judge: str
    won: Estimate


def opinions(
    panel: Panel,
    found: Seen,
    prompts: Float[Tensor, "n d"],
    requests: Sequence[Request | None],
    compared: Compared | None,
) -> list[Opinion]:
    """All that the panel has to say of one entrant; `requests`: of each row."""
    said = [Opinion("CLIP score", "caption similarity", cosines(found.clip, prompts), found.groups)]
    if compared is not None:
        real = compared.cloud.features
        values = realism(real, found.features, k=min(K, len(real) - 1))
        said.append(Opinion("realism score", "photorealism", values, found.groups))
    if panel.judge is not None:
        numbers = {name: number for number, name in enumerate(panel.judge.names)}
        rows = [
            row
            for row, one in enumerate(requests)
            if one is not None and one.group in DRAWINGS and one.names[0] in numbers
        ]
        if rows:
            p = panel.probabilities(found.features[rows])
            names = [numbers[one.names[0]] for row in rows if (one := requests[row]) is not None]
            likely = p[torch.arange(len(rows)), names].double()
            groups = tuple(found.groups[row] for row in rows)
            said.append(Opinion("recogniser", "caption similarity", likely, groups))
    if apart := spread(found.features, found.groups):
        several = tuple(group for group, count in Counter(found.groups).items() if count > 1)
        said.append(Opinion("feature distance", "diversity", torch.tensor(apart), several))
    return said


def preferences(said: dict[str, list[Opinion]], *, seed: int) -> list[Preference]:
    """Every pair of entrants before every judge who has something to say of both."""
    found = []
    for first, second in combinations(said, 2):
        for one in said[first]:
            for other in said[second]:
                if (one.judge, one.groups) == (other.judge, other.groups):
                    won = wins(one.values, other.values, one.groups, seed=seed)
                    found.append(
                        Preference(
                            first=first, second=second, question=one.question, judge=one.judge, won=won
                        )
                    )
    return found


def wins(one: Float[Tensor, "n"], other: Float[Tensor, "n"], groups: Sequence[str], *, seed: int) -> Estimate:
    """How often the former is larger, row by row; prompts are drawn again whole."""
    halves = ((one > other).double() + 0.5 * (one == other).double()).tolist()
    found = bootstrap(halves, groups, seed=seed)
    if found.high - found.low > 1e-9:
        return found
    # All prompts alike: drawn again they are the same, but so few are not sure. Wilson's, of the prompts.
    prompts = len(set(groups))
    low, high = (wilson(round_(found.value * prompts), prompts) for round_ in (math.floor, math.ceil))
    return replace(found, low=low.low, high=high.high)


def between(found: Sequence[Preference], first: str, second: str, question: Question) -> list[Preference]:
    """What the panel says of two on one question, from the side of `first`, whichever way it was asked."""
    chosen = []
    for one in found:
        if one.question != question or {one.first, one.second} != {first, second}:
            continue
        chosen.append(one if one.first == first else turned(one))
    return chosen


def turned(one: Preference) -> Preference:
    """The same from the other side."""
    won = one.won
    return Preference(
        first=one.second,
        second=one.first,
        question=one.question,
        judge=one.judge,
        won=Estimate(value=1 - won.value, low=1 - won.high, high=1 - won.low, total=won.total),
    )


Verdict = Literal["held", "did not hold", "not settled"]


def preferred(won: Estimate) -> Verdict:
    """The claim that the first is preferred: the whole interval is above a half, or below."""
    if won.low > 0.5:
        return "held"
    return "did not hold" if won.high < 0.5 else "not settled"


# How wide an interval around a half may be and still say that two are alike.
ALIKE = 0.1


def alike(won: Estimate) -> Verdict:
    """The claim that two are alike: the interval holds a half, and no more than a tenth on either side."""
    if won.low > 0.5 or won.high < 0.5:
        return "did not hold"
    return "held" if max(won.high - 0.5, 0.5 - won.low) <= ALIKE else "not settled"
