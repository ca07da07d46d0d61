"""Are pictures each of one thing, and together of many? The score of a classifier that looks at them.

Salimans et al. 2016, "Improved Techniques for Training GANs", section 4: exp E[KL(p(y|x) ‖ p(y))], from 1,
for pictures that all look alike to the classifier or of which it is never sure, to the number of its classes.
The published score is of Inception and ImageNet's thousand; here it is of whatever classifier is given, so
the number compares with that of the same classifier only.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limner.evaluation.intervals import RESAMPLES, Estimate, around, cells

MOST_CELLS = 500


def inception_score(batches: Iterable[Float[Tensor, "_ c"]]) -> float:
    """The score of all rows of class probabilities, which come by in batches and are not kept.

    Of the whole at once: the published ten parts have a tenth of the pictures each, and a smaller score.
    """
    sums: Tensor | None = None
    entropy, count = 0.0, 0
    for batch in batches:
        p = batch.double()
        sums = p.sum(dim=0) if sums is None else sums + p.sum(dim=0)
        entropy -= float(torch.special.entr(p).sum())
        count += len(p)
    if sums is None or not count:
        raise ValueError("batches is empty: give the probabilities of at least one picture")
    return math.exp(entropy / count + float(torch.special.entr(sums / count).sum()))


def inception_score_estimate(
    probabilities: Float[Tensor, "n c"], groups: Sequence[str], *, seed: int
) -> Estimate:
    """The same, and the bootstrap's interval over groups."""
    if len(probabilities) != len(groups):
        raise ValueError(
            f"probabilities, groups: {len(probabilities)} rows and {len(groups)}; give the group of each row"
        )
    value = inception_score([probabilities])
    of, count = cells(groups, MOST_CELLS)
    places, p = torch.from_numpy(of), probabilities.double()
    sums = torch.zeros(count, p.shape[1], dtype=torch.float64).index_add_(0, places, p)
    sure = torch.zeros(count, dtype=torch.float64).index_add_(0, places, -torch.special.entr(p).sum(dim=1))
    sizes = torch.bincount(places, minlength=count).double()
    stream = np.random.default_rng(seed)
    drawn = torch.from_numpy(stream.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)).double()
    rows = drawn @ sizes
    mixed = (drawn @ sums) / rows[:, None]
    scores = ((drawn @ sure) / rows + torch.special.entr(mixed).sum(dim=1)).exp()
    return around(value, scores.tolist(), len(probabilities))
