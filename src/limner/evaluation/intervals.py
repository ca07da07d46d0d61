"""How sure a measured number is: 95 % intervals for shares ("so many of these were recognised") and means.

Wilson's interval is for pictures that have nothing to do with each other. Several paintings of one name
succeed or fail together; then whole names are drawn again, not single pictures (the bootstrap).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The 97.5 % point of the standard normal distribution.
Z = 1.959963984540054
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A share or mean over `total` rows, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float
    total: int

    def percent(self) -> str:
        """As people write a share: "61.3 % (55.7 to 66.7)"."""
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"

    def decimal(self) -> str:
        """As people write a cosine: "0.613 (0.557 to 0.667)"."""
        return self.written(3)

    def written(self, places: int) -> str:
        """With so many decimal places: with 1, "21.4 (20.9 to 22.0)"."""
        return f"{self.value:.{places}f} ({self.low:.{places}f} to {self.high:.{places}f})"


def wilson(hits: int, total: int) -> Estimate:
    """Wilson's score interval for a share of independent trials (Wilson 1927)."""
    if not 0 <= hits <= total or total == 0:
        raise ValueError(f"hits, total: {hits} of {total}; give 0 ≤ hits ≤ total and at least one trial")
    low, high = score(hits / total, float(total), Z)
    return Estimate(value=hits / total, low=low, high=high, total=total)


def score(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval for a share `p` of `n` trials, which need be no whole number, at ±`z` deviations."""
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # At the two ends the formula is exact but for rounding.
    return (0.0 if p == 0 else centre - half), (1.0 if p == 1 else centre + half)


def bootstrap(values: Sequence[float], groups: Sequence[str], *, seed: int) -> Estimate:
    """The mean, with the percentile interval over resampled groups: rows of one group stay together.

    Efron 1979; Davison & Hinkley 1997, section 3.8 for groups.
    """
    return ratio(values, [1.0] * len(values), groups, seed=seed)


def ratio(values: Sequence[float], of: Sequence[float], groups: Sequence[str], *, seed: int) -> Estimate:
    """Σ `values` / Σ `of`, row by row of the same things, with the interval of `bootstrap`.

    Resamples in which all of `of` are zero have no ratio and are left out. Raises ValueError where they are
    zero in all rows.
    """
    if not values or not len(values) == len(of) == len(groups):
        raise ValueError(
            f"values, of, groups: {len(values)}, {len(of)} and {len(groups)}; give as many of each, at least "
            "one"
        )
    if sum(of) == 0:
        raise ValueError("of: nothing but zeros, of which nothing is a share")
    order = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    rows = np.array([order[group] for group in groups])
    above = np.bincount(rows, weights=np.array(values, np.float64))
    below = np.bincount(rows, weights=np.array(of, np.float64))
    chosen = np.random.default_rng(seed).integers(len(order), size=(RESAMPLES, len(order)))
    parts, wholes = above[chosen].sum(axis=1), below[chosen].sum(axis=1)
    some = wholes != 0
    low, high = np.quantile(parts[some] / wholes[some], [0.025, 0.975])
    value = float(np.sum(values) / np.sum(of))
    return Estimate(value=value, low=float(low), high=float(high), total=len(values))


def share(hits: Sequence[bool], groups: Sequence[str], *, seed: int) -> Estimate:
    """Wilson where every row is its own group, the bootstrap where some belong together."""
    if len(set(groups)) == len(hits):
        return wilson(sum(hits), len(hits))
    return bootstrap([float(hit) for hit in hits], groups, seed=seed)


def cautious(hits: Sequence[bool], groups: Sequence[str], *, seed: int) -> Estimate:
    """As `share`, but none or all of several that belong together is not sure: Wilson's, of the groups.

    There the bootstrap draws the same again and again, and its interval has no width.
    """
    found = share(hits, groups, seed=seed)
    if len(set(hits)) > 1:
        return found
    names = len(set(groups))
    ends = wilson(names * int(hits[0]), names)
    return Estimate(value=found.value, low=ends.low, high=ends.high, total=found.total)


def redrawn(groups: Sequence[str], *, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each row stands in a resample, (n,) whole numbers: as many groups are drawn as there are.

    For measures of a whole cloud, which are no mean over rows.
    """
    if not groups:
        raise ValueError("groups is empty: give the group of each row, at least one")
    order = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    rows = np.array([order[group] for group in groups])
    stream = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.bincount(stream.integers(len(order), size=len(order)), minlength=len(order))
        yield drawn[rows]


def cells(groups: Sequence[str], most: int) -> tuple[NDArray[np.int64], int]:
    """A number for the group of each row, and how many there are; beyond `most` groups share one.

    Sharing costs an interval little: it is drawn from fewer, larger parts of the same pictures.
    """
    order = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    count = min(len(order), most)
    return np.array([order[group] % count for group in groups]), count


def around(value: float, resampled: Sequence[float], total: int) -> Estimate:
    """`value`, with the 95 % interval of how resampled ones scatter around their own mean.

    A resample has fewer different rows, which makes a Fréchet distance larger whatever the pictures are; that
    bias is of the resampling, so it is taken out. What the interval says is how far the number of another
    sample of the same size may be off, not how far from that of endlessly many pictures.
    """
    spread = np.asarray(resampled, np.float64)
    # Few are drawn where each is dear, and the outermost of twenty are no 95 %: Student's is for so many.
    half = student(len(spread) - 1) * float(spread.std(ddof=1)) * math.sqrt(1 + 1 / len(spread))
    return Estimate(value=value, low=value - half, high=value + half, total=total)


def student(degrees: int) -> float:
    """The 97.5 % point of Student's t, to 0.5 % from three degrees of freedom; Abramowitz & Stegun 26.7.5."""
    z, v = Z, float(degrees)
    terms = (
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4),
    )
    return z + math.fsum(terms)
