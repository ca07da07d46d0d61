"""Do raters see the same? Agreement beyond what chance would give: 1 is perfect, 0 is chance."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from limner.vote.tally import Ballot


@dataclass(frozen=True)
class Agreement:
    """Of comparisons that several have voted on.

    `alpha`: Krippendorff's, of all `votes` on the `units` with two or more. `kappa`: Fleiss's, which wants as
    many votes on each, of the `same_units` that have `raters`, the commonest number.
    """

    alpha: float
    units: int
    votes: int
    kappa: float
    same_units: int
    raters: int


def fleiss(counts: Float[np.ndarray, "n k"]) -> float:
    """κ of how many raters put each subject (a row) into each category; Fleiss 1971, equations 2 to 7.

    nan where all are put into one category. ValueError unless every row has the same sum, from 2.
    """
    raters = counts.sum(axis=1)
    if len(counts) == 0 or raters.min() != raters.max() or raters[0] < 2:
        raise ValueError(
            f"counts has rows of {sorted(set(raters))}: give as many raters to each, at least two"
        )
    n = raters[0]
    agreed = ((np.square(counts).sum(axis=1) - n) / (n * (n - 1))).mean()
    by_chance = np.square(counts.sum(axis=0) / counts.sum()).sum()
    return float("nan") if by_chance == 1 else float((agreed - by_chance) / (1 - by_chance))


def krippendorff(units: Sequence[Sequence[Hashable]]) -> float:
    """α of nominal values, unit by unit; Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".

    Units with fewer than two values say nothing. nan where nothing differs or nothing can be compared.
    """
    paired = [unit for unit in units if len(unit) > 1]
    values = [*dict.fromkeys(value for unit in paired for value in unit)]
    total = sum(len(unit) for unit in paired)
    if len(values) < 2:
        return float("nan")
    # Pairs within a unit that agree, each unit weighted by its m_u − 1 partners.
    agreed = sum(
        sum(count * (count - 1) for count in Counter(unit).values()) / (len(unit) - 1) for unit in paired
    )
    everywhere = Counter(value for unit in paired for value in unit)
    expected = sum(count * (count - 1) for count in everywhere.values()) / (total - 1)
    return 1 - (total - agreed) / (total - expected)


def agreement(ballots: Sequence[Ballot]) -> Agreement | None:
    """Of all comparisons of the ballots, each a unit; None where nobody voted on the same."""
    by_unit: dict[tuple[str, int, str, str], list[float]] = {}
    for one in ballots:
        by_unit.setdefault((one.prompt, one.number, one.first, one.second), []).append(one.value)
    units = [values for values in by_unit.values() if len(values) > 1]
    if not units:
        return None
    (raters, _), *_ = Counter(len(values) for values in units).most_common()
    same = [values for values in units if len(values) == raters]
    counts = np.array([[float(values.count(kind)) for kind in (1.0, 0.0, 0.5)] for values in same])
    return Agreement(
        alpha=krippendorff(units),
        units=len(units),
        votes=sum(map(len, units)),
        kappa=fleiss(counts),
        same_units=len(same),
        raters=raters,
    )
