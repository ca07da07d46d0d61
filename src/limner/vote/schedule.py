"""Who is asked what, in which order, and which picture stands on which side.

All of it is a function of the design's seed and the rater's number, so that it can be checked before anybody
has voted. What is to be compared is lined up once, every question and pair of models evenly spread, and
raters are dealt stretches of that line, one after another and round again: every comparison is asked as often
as any other, but for one. When a comparison comes round again its sides are swapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from typing import Literal, TypeAlias, get_args

import numpy as np

from limner.vote.pictures import Gathered

Question: TypeAlias = Literal["realism", "caption", "diversity"]
Answer: TypeAlias = Literal["left", "right", "neither"]
Kind: TypeAlias = Literal["asked", "repeat", "check"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
# Realism is a forced choice, as it was for DALL-E 1; "neither" is "not sure" of two grids.
ANSWERS: dict[Question, tuple[Answer, ...]] = {
    "realism": ("left", "right"),
    "caption": ("left", "right", "neither"),
    "diversity": ("left", "right", "neither"),
}
# What stands on the sides of a check in place of two models.
SOUND, UNSOUND = "sound", "unsound"
# A repeat comes at least so many tasks after what it repeats, or memory answers it.
APART = 5
# What randomness is for, so that no two uses share a stream.
LINE, RATER = 0, 1


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a study asks.

    `pictures`: how many of each model's pictures of a prompt are compared, number by number; grids take all
    they need. `most`: comparisons a rater is dealt, None for all. `repeats`: the share of them that comes a
    second time. `checks`: one attention check to so many comparisons, 0 for none.
    """

    seed: int = 0
    questions: tuple[Question, ...] = QUESTIONS
    pictures: int = 1
    most: int | None = None
    repeats: float = 0.1
    checks: int = 12


@dataclass(frozen=True)
class Comparison:
    """Two models' pictures of a prompt; `number` says which, and is 0 where it is all of them."""

    question: Question
    prompt: str
    number: int
    first: str
    second: str


@dataclass(frozen=True)
class Task:
    """A comparison as it is shown. In a check, `number` is which and the sides are SOUND and UNSOUND."""

    question: Question
    prompt: str
    number: int
    left: str
    right: str
    kind: Kind

    def swapped(self, kind: Kind) -> "Task":
        """The same with its sides changed over."""
        return replace(self, left=self.right, right=self.left, kind=kind)


def comparisons(design: Design, gathered: Gathered) -> list[Comparison]:
    """All that there is to ask, in no order that means anything. ValueError where there is nothing."""
    found = []
    side = gathered.grid()
    for question in design.questions:
        for prompt in gathered.prompts:
            for first, second in gathered.pairs(prompt):
                numbers = gathered.both(prompt, first, second)[: design.pictures]
                if question == "diversity":
                    numbers = [0] if side else []
                found += [Comparison(question, prompt, number, first, second) for number in numbers]
    if not found:
        raise ValueError(
            f"questions is {', '.join(design.questions)}: there are no pictures to ask it of; diversity "
            "wants four of each prompt at least"
        )
    return found


def lined_up(found: Sequence[Comparison], seed: int) -> list[tuple[Comparison, bool]]:
    """The line that raters are dealt from, and whether each one's second model stands on the left at first.

    Every stratum, a question and a pair of models, is shuffled and spread evenly over the whole; within it
    the sides take turns. So any stretch has about its share of all strata, and of both sides of each.
    """
    chance = np.random.default_rng((seed, LINE))
    strata: dict[tuple[str, str, str], list[Comparison]] = {}
    for one in found:
        strata.setdefault((one.question, one.first, one.second), []).append(one)
    placed = []
    for stratum in strata.values():
        start, coin = chance.random(), int(chance.integers(2))
        for turn, which in enumerate(chance.permutation(len(stratum))):
            placed.append(((turn + start) / len(stratum), stratum[which], (turn + coin) % 2 == 1))
    placed.sort(key=lambda each: each[0])
    return [(one, swapped) for _, one, swapped in placed]


def dealt(line: Sequence[tuple[Comparison, bool]], rater: int, most: int | None) -> list[Task]:
    """The stretch of the line that rater number `rater`, from 0, is asked."""
    each = len(line) if most is None else min(most, len(line))
    tasks = []
    for place in range(rater * each, (rater + 1) * each):
        one, swapped = line[place % len(line)]
        if (place // len(line)) % 2:
            swapped = not swapped
        left, right = (one.second, one.first) if swapped else (one.first, one.second)
        tasks.append(Task(one.question, one.prompt, one.number, left, right, "asked"))
    return tasks


def schedule(
    design: Design, line: Sequence[tuple[Comparison, bool]], rater: int, captions: Sequence[str]
) -> list[Task]:
    """All that a rater is asked, in order: question by question, for changing one's mind costs attention.

    The order of the questions goes through all there are, rater by rater. `captions`: those of the drawings
    that checks are made of; check number i shows the caption i % len(captions).
    """
    chance = np.random.default_rng((design.seed, RATER, rater))
    mine = dealt(line, rater, design.most)
    orders = [*permutations(design.questions)]
    coin, numbers = int(chance.integers(2)), [*chance.permutation(len(captions))]
    tasks: list[Task] = []
    checks = 0
    for question in orders[rater % len(orders)]:
        block = [task for task in mine if task.question == question]
        if not block:
            continue
        block = [block[which] for which in chance.permutation(len(block))]
        block = with_repeats(block, design.repeats, chance)
        wanted = max(1, round(len(block) / design.checks)) if design.checks else 0
        # One in each of as many equal parts, and never the very first thing that somebody sees.
        starts = np.linspace(0, len(block), wanted + 1)
        places = [int(chance.integers(int(low) + 1, int(high) + 1)) for low, high in pairwise(starts)]
        for place in reversed(places):
            number = int(numbers[checks % len(numbers)])
            sides = (SOUND, UNSOUND) if (checks + coin) % 2 else (UNSOUND, SOUND)
            block.insert(place, Task(question, captions[number], number, *sides, "check"))
            checks += 1
        tasks += block
    return tasks


def with_repeats(block: Sequence[Task], share: float, chance: np.random.Generator) -> list[Task]:
    """The tasks, and a share of them once more with sides swapped, APART tasks later or more."""
    tasks = list(block)
    early = max(0, len(block) - APART)
    wanted = min(early, round(share * len(block)))
    if share and early:
        wanted = max(1, wanted)
    for which in chance.choice(early, size=wanted, replace=False) if wanted else ():
        # What is put in later only moves them farther apart.
        place = tasks.index(block[which]) + APART
        tasks.insert(int(chance.integers(place, len(tasks) + 1)), block[which].swapped("repeat"))
    return tasks
