"""A stand-in panel of automatic judges: who would be preferred, if they were asked what people were asked.

They are no people, and what they say is told under their own name. There are two, CLIP and the recogniser
with EfficientNet's eyes, and one set of rules for both and for whoever asks them, of all pictures at once or
pair by pair:

- realism: the realism score (Kynkäänniemi et al. 2019, equation 3), how near a picture is to real ones, of
  their own distance to each other. A proxy for "looks real", and for beauty no proxy at all.
- caption: how well a picture goes with its words, by CLIP's cosine, or by how likely the recogniser finds the
  thing that is asked for.
- diversity: how far apart the pictures of one prompt are (`limner.evaluation.coverage`).

What paints by CLIP is liked by CLIP: where an entrant was guided or chosen by it, that judge is no witness.
Pictures meet in pairs, of the same prompt and number; a tie is half a win, as GLIDE counts it.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from limner.comparison.looking import Panel, Seen
from limner.comparison.prompts import recognisable
from limner.comparison.scores import Compared
from limner.evaluation import eyes
from limner.evaluation.clip_score import cosines
from limner.evaluation.coverage import K, realism, spread
from limner.evaluation.eyes import Eyes
from limner.evaluation.intervals import Estimate, bootstrap, wilson
from limner.evaluation.recognition import Judge
from limner.evaluation.suite_scores import DRAWINGS
from limner.pipelines.embedding import Reader, worded

NAME = "stand-in panel of automatic judges"
Question: TypeAlias = Literal["realism", "caption", "diversity"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
# How well each picture goes with its own prompt, given its features; None where its words are not known.
Fits: TypeAlias = Callable[[Float[Tensor, "n d"], Sequence[str]], list[float | None]]


@dataclass(frozen=True)
class Opinion:
    """What one judge thinks of pictures: a number for each, or for each prompt; more is better.

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


@dataclass(frozen=True)
class PanelJudge:
    """A judge: its name and eyes, its ear for words, and features of real pictures, if it has them."""

    name: str
    eyes: Eyes
    fits: Fits | None
    real: Float[Tensor, "m d"] | None

    def opinion(
        self, question: Question, features: Float[Tensor, "n d"], prompts: Sequence[str]
    ) -> Opinion | None:
        """What it thinks of pictures by their features, each of its prompt; None where it cannot say."""
        if question == "realism":
            if self.real is None:
                return None
            values = realism(self.real, features, k=min(K, len(self.real) - 1)).tolist()
            groups = tuple(prompts)
        elif question == "caption":
            if self.fits is None:
                return None
            said = [*zip(prompts, self.fits(features, prompts), strict=True)]
            values = [value for _, value in said if value is not None]
            groups = tuple(prompt for prompt, value in said if value is not None)
        else:
            values = spread(features, prompts)
            groups = tuple(prompt for prompt, count in Counter(prompts).items() if count > 1)
        if not values:
            return None
        return Opinion(self.name, question, torch.tensor(values, dtype=torch.float64), groups)


def by_clip(read: Reader, real: Float[Tensor, "m d"] | None) -> PanelJudge:
    """A CLIP, which knows all words."""

    @cache
    def heard(prompt: str) -> Float[Tensor, "d"]:
        return worded(read.clip, read.tokenizer, prompt).float().cpu()

    def fits(features: Float[Tensor, "n d"], prompts: Sequence[str]) -> list[float | None]:
        return [*cosines(features, torch.stack([heard(prompt) for prompt in prompts])).tolist()]

    return PanelJudge("CLIP", eyes.clip(read), fits, real)


def by_recogniser(judge: Judge, real: Float[Tensor, "m d"] | None) -> PanelJudge:
    """A recogniser, which shares nothing with the painters; of words it knows one thing that they ask for."""
    numbers = {name: number for number, name in enumerate(judge.names)}
    device = next(judge.recogniser.parameters()).device

    @cache
    def asked(prompt: str) -> int | None:
        (one,) = recognisable([prompt], judge.names, judge.recogniser.config.hexcodes)
        return numbers.get(one.names[0]) if one is not None and one.group in DRAWINGS else None

    @torch.inference_mode()
    def fits(features: Float[Tensor, "n d"], prompts: Sequence[str]) -> list[float | None]:
        likely = judge.recogniser(features.to(device)).log_softmax(dim=1).cpu()
        things = map(asked, prompts)
        return [
            None if thing is None else row[thing].item() for row, thing in zip(likely, things, strict=True)
        ]

    side = judge.recogniser.config.side
    return PanelJudge("recogniser", eyes.efficientnet(judge.trunk, side=side), fits, real)


def seated(panel: Panel, compared: Compared | None) -> tuple[PanelJudge, PanelJudge]:
    """CLIP, and the recogniser; or EfficientNet's eyes alone, which know no words, where there is none."""
    clip_cloud, cloud = (None, None) if compared is None else (compared.cloud.clip, compared.cloud.features)
    clip = by_clip(panel.clip, clip_cloud)
    if panel.judge is None:
        return clip, PanelJudge(panel.eyes.name, panel.eyes, None, cloud)
    return clip, by_recogniser(panel.judge, cloud)


def opinions(judges: tuple[PanelJudge, PanelJudge], found: Seen) -> list[Opinion]:
    """All that these two have to say of one entrant, of whose pictures both kinds of features are kept."""
    said = [
        judge.opinion(question, features, found.groups)
        for judge, features in zip(judges, (found.clip, found.features), strict=True)
        for question in QUESTIONS
    ]
    return [one for one in said if one is not None]


def preferences(said: dict[str, list[Opinion]], *, seed: int) -> list[Preference]:
    """Every pair of entrants before every judge who has something to say of both."""
    found = []
    for first, second in combinations(said, 2):
        for one in said[first]:
            for other in said[second]:
                if (one.judge, one.question, one.groups) == (other.judge, other.question, other.groups):
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
