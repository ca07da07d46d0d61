"""Could it be chance? And if nothing is settled yet, how many more votes would settle it?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from limner.vote.shares import Share
from limner.vote.tally import Ballot

# Of so many prompts all ways are tried in which models could have been the other way round; else some are
# drawn.
EXACTLY = 13
FLIPS = 20_000
LEVEL, POWER = 0.05, 0.8
# Beyond this nobody votes.
MOST_PROMPTS = 1_000_000


@dataclass(frozen=True)
class Bias:
    """A count beside what no bias would give: `statistic` is chi-square, `p` its probability by chance."""

    statistic: float
    degrees: int
    p: float


@dataclass(frozen=True)
class More:
    """What would settle a comparison: so many more prompts with as many votes each, `votes` in all."""

    prompts: int
    votes: int


def sign_flips(ballots: Sequence[Ballot], *, seed: int) -> float:
    """The probability, were neither preferred, of a lead as large as this one, either way.

    Then which model is which could be changed over, prompt by prompt (Fisher 1935, section 21): the lead is
    compared with those of all such changes, or of FLIPS drawn ones.
    """
    leads: dict[str, float] = {}
    for one in ballots:
        leads[one.prompt] = leads.get(one.prompt, 0.0) + one.value - 0.5
    values = np.array([lead for lead in leads.values() if lead])
    seen = abs(values.sum()) - 1e-9
    if len(values) <= EXACTLY:
        signs = 1 - 2 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
        return float(np.mean(np.abs(signs @ values) >= seen))
    chance = np.random.default_rng(seed)
    larger = 0
    for _ in range(FLIPS // 1000):
        signs = 1 - 2 * chance.integers(0, 2, (1000, len(values)), dtype=np.int8)
        larger += int(np.sum(np.abs(signs @ values) >= seen))
    # What was seen is one of the ways, so that none is ever impossible (Phipson & Smyth 2010).
    return (larger + 1) / (FLIPS + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Probabilities as they are where several were looked at; Holm 1979."""
    order = sorted(range(len(p)), key=lambda row: p[row])
    found, least = [0.0] * len(p), 0.0
    for turn, row in enumerate(order):
        least = max(least, min(1.0, (len(p) - turn) * p[row]))
        found[row] = least
    return found


def beyond(statistic: float, degrees: int) -> float:
    """The probability of a larger chi-square."""
    import torch

    half = torch.tensor([degrees / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def sides(ballots: Sequence[Ballot]) -> Bias | None:
    """Whether the left is chosen as often as the right; None where neither ever was."""
    left = sum(one.answer == "left" for one in ballots)
    right = sum(one.answer == "right" for one in ballots)
    if left + right == 0:
        return None
    statistic = (left - right) ** 2 / (left + right)
    return Bias(statistic, 1, beyond(statistic, 1))


def order(ballots: Sequence[Ballot]) -> Bias | None:
    """Whether models win as often in the earlier half of what a rater answers to a question as in the later.

    A rater who likes one model more than others do is no change of mind. So every rater has a 2 × 2 table of
    their own for each question and pair, whose margins are held: which votes are late is chance, for a
    question is asked in a shuffled order. Of a question and pair all raters' tables say together how far the
    late wins are from what that chance expects (Mantel & Haenszel 1959; Cochran 1954), and these chi-squares
    are added up; None where there is none.
    """
    tables: dict[tuple[str, str, str], dict[str, Float[np.ndarray, "2 2"]]] = {}
    for one in ballots:
        if one.value != 0.5:
            raters = tables.setdefault((one.question, one.first, one.second), {})
            raters.setdefault(one.rater, np.zeros((2, 2)))[int(one.late), int(one.value)] += 1
    statistic, degrees = 0.0, 0
    for raters in tables.values():
        beyond_chance, variance = 0.0, 0.0
        for table in raters.values():
            early, late = table.sum(axis=1)
            lost, won = table.sum(axis=0)
            n = table.sum()
            beyond_chance += table[1, 1] - late * won / n
            variance += early * late * lost * won / (n**2 * (n - 1)) if n > 1 else 0.0
        if variance > 0:
            statistic += float(beyond_chance**2 / variance)
            degrees += 1
    return Bias(statistic, degrees, beyond(statistic, degrees)) if degrees else None


def more(found: Share, *, level: float = LEVEL) -> More | None:
    """How many more are wanted for a sure answer, if the share is what it seems; None for an even match.

    So many that in POWER of studies the share is significantly not a half, two-sided at `level`, at the
    variance between prompts that was found. 0 where there are enough already.
    """
    lead = abs(found.value - 0.5)
    each = found.variance * found.prompts
    if lead == 0:
        return None
    wanted = each * (deviations(1 - level / 2) + deviations(POWER)) ** 2 / lead**2
    # However clear they are: of fewer prompts no flipping of signs reaches the level.
    wanted = max(wanted, 1 + math.log2(1 / level))
    prompts = max(0, math.ceil(wanted) - found.prompts)
    if prompts > MOST_PROMPTS:
        return None
    return More(prompts, math.ceil(prompts * found.votes / found.prompts))


def deviations(p: float) -> float:
    """The point of the standard normal distribution below which p of it lies."""
    return NormalDist().inv_cdf(p)
