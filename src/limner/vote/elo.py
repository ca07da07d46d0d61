"""One number for each model, fitted to all its matches: Elo's scale, Bradley and Terry's model.

P(i beats j) = 1 / (1 + 10^((σ_j − σ_i)/400)); the exponent in GLIDE's appendix (Nichol et al. 2021) has its
sign the other way round, by which losers would lead. Ratings are fitted by maximum likelihood (Bradley &
Terry 1952), by Newton's method, and have mean 0. A tie is half a win for each, as for GLIDE.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from limner.vote.tally import Ballot

# Elo's points for one unit of log-odds.
POINTS = 400 / math.log(10)
STEPS = 100
# A step is no longer than this, in log-odds: far from the top the quadratic is no guide.
LONGEST = 1.0
# Pulls towards 0 where resampled votes have no maximum, so that it is far out and not at infinity.
PULL = 1e-4
RESAMPLES = 1000


@dataclass(frozen=True)
class Rating:
    """A model's points and their interval over resampled prompts; `points` None where no maximum exists."""

    model: str
    points: float | None
    low: float
    high: float


def wins(ballots: Sequence[Ballot], models: Sequence[str]) -> Float[np.ndarray, "m m"]:
    """How often the model of a row beat that of a column, ties as half."""
    place = {name: row for row, name in enumerate(models)}
    found = np.zeros((len(models), len(models)))
    for one in ballots:
        found[place[one.first], place[one.second]] += one.value
        found[place[one.second], place[one.first]] += 1 - one.value
    return found


def has_maximum(won: Float[np.ndarray, "m m"]) -> bool:
    """Whether the likelihood has one: from every model a chain of wins leads to every other (Ford 1957)."""
    reach: Bool[np.ndarray, "m m"] = (won > 0) | np.eye(len(won), dtype=bool)
    for _ in range(len(won)):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    return bool(reach.all())


def fit(won: Float[np.ndarray, "b m m"], *, pull: float = 0.0) -> Float[np.ndarray, "b m"]:
    """Log-odds of the most likely ratings, mean 0, for each table of wins."""
    batch, models, _ = won.shape
    played = won + won.transpose(0, 2, 1)
    ratings = np.zeros((batch, models))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(ratings[:, None, :] - ratings[:, :, None]))
        slope = (won - played * p).sum(axis=2) - pull * ratings
        weight = played * p * (1 - p)
        curve = -weight
        rows = np.arange(models)
        curve[:, rows, rows] += weight.sum(axis=2) + pull
        # Only differences matter: a constant in the direction that nothing depends on makes it invertible.
        step = np.linalg.solve(curve + 1 / models, slope[..., None])[..., 0]
        step *= np.minimum(1.0, LONGEST / np.abs(step).max(axis=1, keepdims=True).clip(1e-300))
        ratings += step
        if np.abs(step).max() < 1e-10:
            break
    return ratings - ratings.mean(axis=1, keepdims=True)


def ratings(ballots: Sequence[Ballot], *, seed: int) -> list[Rating]:
    """Points of all models in the ballots, best first, with 95 % percentile intervals over whole prompts."""
    models = sorted({name for one in ballots for name in (one.first, one.second)})
    prompts = [*dict.fromkeys(one.prompt for one in ballots)]
    by_prompt = np.stack([wins([one for one in ballots if one.prompt == name], models) for name in prompts])
    whole = by_prompt.sum(axis=0)
    drawn = np.random.default_rng(seed).multinomial(
        len(prompts), np.full(len(prompts), 1 / len(prompts)), size=RESAMPLES
    )
    again = POINTS * fit(np.einsum("bp,pij->bij", drawn, by_prompt), pull=PULL)
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    exact = has_maximum(whole)
    points = POINTS * fit(whole[None], pull=0.0 if exact else PULL)[0]
    order = np.argsort(-points)
    return [
        Rating(models[row], float(points[row]) if exact else None, float(low[row]), float(high[row]))
        for row in order
    ]
