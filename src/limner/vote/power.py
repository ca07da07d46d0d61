"""How many prompts and raters does a difference need? Asked before anybody votes.

A share p of votes differs from a half, two-sided at `level`, in a share `power` of studies with

    n = (z_{1−level/2}·½ + z_power·√(p(1−p)))² / (p − ½)²

independent votes (Fleiss, Levin & Paik 2003, section 2.5). m votes on one prompt are worth
m / (1 + (m − 1)ρ), where ρ says how alike they are (Kish 1965): 0 where a prompt says nothing of how the next
vote on it goes, 1 where all raters say the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from limner.vote.significance import LEVEL, POWER, deviations

# How alike votes on a prompt are, before anything is known.
ALIKE = 0.2
VOTES = (1, 3, 5, 10)


@dataclass(frozen=True)
class Need:
    """With `votes` on every comparison: how many prompts, how many votes on each pair of models and in all.

    `hours`: of one person's time, all together.
    """

    votes: int
    prompts: int
    a_pair: int
    total: int
    hours: float


def independent(p: float, *, power: float = POWER, level: float = LEVEL) -> float:
    """How many independent votes a share `p` needs. ValueError for a half, which no number of them tells."""
    if not 0 < p < 1 or p == 0.5:
        raise ValueError(f"win_rate is {p}: give a share between 0 and 1 that is not 0.5")
    for name, given in (("power", power), ("level", level)):
        if not 0 < given < 1:
            raise ValueError(f"{name} is {given}: give a share between 0 and 1")
    root = deviations(1 - level / 2) / 2 + deviations(power) * math.sqrt(p * (1 - p))
    return root**2 / (p - 0.5) ** 2


def needs(
    p: float,
    *,
    models: int = 2,
    questions: int = 1,
    alike: float = ALIKE,
    seconds: float = 6.0,
    power: float = POWER,
    level: float = LEVEL,
    votes: Sequence[int] = VOTES,
) -> list[Need]:
    """What is needed for every pair of `models` to differ so, one line for each number of `votes`.

    Where several pairs and questions are looked at, each is tested at `level` divided by their number: Holm's
    method is at least as sharp as that.
    """
    if not 0 <= alike <= 1:
        raise ValueError(f"alike is {alike}: give a share from 0 to 1")
    if models < 2 or questions < 1 or seconds <= 0:
        raise ValueError(
            f"models, questions, seconds: {models}, {questions} and {seconds}; give two models, one question "
            "and more than no time at least"
        )
    pairs = math.comb(models, 2)
    alone = independent(p, power=power, level=level / (pairs * questions))
    found = []
    for each in votes:
        prompts = math.ceil(alone * (1 + (each - 1) * alike) / each)
        total = prompts * each * pairs * questions
        found.append(Need(each, prompts, prompts * each, total, total * seconds / 3600))
    return found
