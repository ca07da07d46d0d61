"""How often one model is preferred to another, and how sure that is.

Votes on one prompt go together: some prompts suit a model, and everybody sees it. What varies is therefore
measured between prompts, and both intervals know it: Wilson's is given as many votes as that variance is
worth (Kish 1965; Korn & Graubard 1998), the bootstrap draws whole prompts. Neither is of other raters than
those who were asked.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from limner.evaluation.intervals import Estimate, Z, bootstrap, score, student
from limner.vote.tally import Ballot

# How many a majority is of, as it was for DALL-E 1.
FIVE = 5


@dataclass(frozen=True)
class Share:
    """The share of votes that the first model has, ties as half to each (Nichol et al. 2021, section 5).

    `worth`: how many independent votes would be as sure. `variance` is that of the share.
    """

    votes: int
    prompts: int
    ties: float
    worth: float
    variance: float
    wilson: Estimate
    bootstrap: Estimate

    @property
    def value(self) -> float:
        """The share."""
        return self.wilson.value


@dataclass(frozen=True)
class Majority:
    """Of the comparisons with enough votes, the share that the first model wins by majority, ties as half."""

    of: int
    won: int
    lost: int
    tied: int
    share: Estimate


def share(ballots: Sequence[Ballot], *, seed: int) -> Share:
    """The first model's share of the votes. ValueError where there are none."""
    if not ballots:
        raise ValueError("ballots is empty: give at least one")
    values = np.array([one.value for one in ballots])
    groups = [one.prompt for one in ballots]
    p, n = float(values.mean()), len(values)
    prompts = len(set(groups))
    variance = clustered(values - p, groups) / n**2
    if 0 < p < 1 and variance > 0:
        # Ties vary less than votes do, and few prompts may agree by chance: a vote is worth one at most.
        worth = min(float(n), p * (1 - p) / variance)
    elif 0 < p < 1 and prompts > 1:
        worth = float(n)
    else:
        # All for one: nothing is known of how prompts differ but that so many did not.
        worth = float(prompts)
    z = student(prompts - 1) if prompts > 1 else Z
    low, high = score(p, worth, z)
    return Share(
        votes=n,
        prompts=prompts,
        ties=float(np.mean(values == 0.5)),
        worth=worth,
        variance=p * (1 - p) / worth,
        wilson=Estimate(value=p, low=low, high=high, total=n),
        bootstrap=bootstrap(values.tolist(), groups, seed=seed),
    )


def clustered(residuals: Float[np.ndarray, "n"], groups: Sequence[str]) -> float:
    """The variance of a sum of residuals of which those of a group go together (Cochran 1977, section 9A)."""
    order = {name: row for row, name in enumerate(dict.fromkeys(groups))}
    sums = np.bincount([order[name] for name in groups], weights=residuals)
    return float(np.square(sums).sum() * len(sums) / max(1, len(sums) - 1))


def majority(ballots: Sequence[Ballot], *, of: int = FIVE) -> Majority | None:
    """The winners of comparisons by the first `of` votes on each; None where none has so many.

    Whoever has more votes than the other wins, however many said neither.
    """
    by_comparison: dict[tuple[str, int], list[Ballot]] = {}
    for one in sorted(ballots, key=lambda one: one.at):
        by_comparison.setdefault((one.prompt, one.number), []).append(one)
    ahead = [
        sum(one.value - 0.5 for one in votes[:of]) for votes in by_comparison.values() if len(votes) >= of
    ]
    if not ahead:
        return None
    count = Counter(int(np.sign(lead)) for lead in ahead)
    total = len(ahead)
    p = (count[1] + count[0] / 2) / total
    low, high = score(p, float(total), Z)
    found = Estimate(value=p, low=low, high=high, total=total)
    return Majority(of=of, won=count[1], lost=count[-1], tied=count[0], share=found)
