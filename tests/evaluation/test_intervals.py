import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.evaluation.intervals import Z, bootstrap, cautious, ratio, share, wilson


@given(total=st.integers(1, 500), part=st.floats(0, 1))
def test_wilson_solves_its_equation(total: int, part: float):
    # The ends are the two p at which the found share is just 1.96 standard deviations away.
    hits = round(part * total)
    found = wilson(hits, total)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for p in (found.low, found.high):
        if 0 < p < 1:
            assert abs(found.value - p) == pytest.approx(Z * math.sqrt(p * (1 - p) / total), rel=1e-6)


def test_wilson_at_the_ends():
    assert wilson(0, 10).low == 0
    assert wilson(0, 10).high == pytest.approx(Z**2 / (10 + Z**2))
    assert wilson(10, 10).high == 1


@pytest.mark.parametrize("total", [30, 300])
def test_wilson_covers_the_truth_as_often_as_it_says(total: int):
    counts = range(total + 1)
    ways = [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in counts]
    intervals = [wilson(k, total) for k in counts]
    coverage = []
    for p in np.linspace(0.02, 0.98, 97):
        chances = [math.exp(ways[k] + k * math.log(p) + (total - k) * math.log1p(-p)) for k in counts]
        coverage.append(
            sum(c for c, found in zip(chances, intervals, strict=True) if found.low <= p <= found.high)
        )
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) > 0.9


def test_the_bootstrap_covers_the_truth_where_rows_come_in_groups():
    # 60 names of 5 pictures; a name is easy or hard, its pictures succeed or fail nearly together.
    rng = np.random.default_rng(0)
    covered = naive = 0
    for trial in range(200):
        ease = rng.beta(0.5, 0.5, size=60)
        hits = rng.random((60, 5)) < ease[:, None]
        found = bootstrap(
            hits.ravel().astype(float).tolist(), [str(i) for i in range(60) for _ in range(5)], seed=trial
        )
        single = wilson(int(hits.sum()), 300)
        covered += found.low <= 0.5 <= found.high
        naive += single.low <= 0.5 <= single.high
    assert covered / 200 > 0.9
    assert naive / 200 < 0.85


def test_pictures_that_always_agree_count_once():
    hits = [i % 3 == 0 for i in range(40)]
    alone = bootstrap([float(hit) for hit in hits], [str(i) for i in range(40)], seed=0)
    again = bootstrap(
        [float(hit) for hit in hits for _ in range(25)],
        [str(i) for i in range(40) for _ in range(25)],
        seed=0,
    )
    assert (again.value, again.low, again.high) == pytest.approx((alone.value, alone.low, alone.high))
    assert again.total == 1000


def test_the_share_chooses_by_the_groups():
    hits = [True, False, True, True]
    assert share(hits, ["a", "b", "c", "d"], seed=0) == wilson(3, 4)
    assert share(hits, ["a", "a", "b", "b"], seed=0) == bootstrap(
        [1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"], seed=0
    )
    assert share(hits, ["a", "a", "b", "b"], seed=0) == share(hits, ["a", "a", "b", "b"], seed=0)


def test_groups_of_different_sizes_weigh_by_their_rows():
    found = bootstrap([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"], seed=0)
    assert found.value == 0.75
    assert (found.low, found.high) == (0, 1)


def test_a_ratio_is_of_sums_and_as_sure_as_its_parts_agree():
    found = ratio([1.0, 1.0, 0.0], [2.0, 1.0, 1.0], ["a", "b", "c"], seed=0)
    assert found.value == 0.5
    assert (found.low, found.high) == (0, 1)
    # What goes along row by row is certain, however much the parts differ.
    rows = [float(i % 4) for i in range(40)]
    found = ratio([0.8 * row for row in rows], rows, [str(i) for i in range(40)], seed=0)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.8, 0.8))
    # Of three rows one counts; resamples without it say nothing.
    found = ratio([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], ["a", "b", "c"], seed=0)
    assert (found.value, found.low, found.high, found.total) == (1, 1, 1, 3)
    with pytest.raises(ValueError, match="of: nothing but zeros"):
        ratio([1.0], [0.0], ["a"], seed=0)


def test_nothing_is_no_trial():
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="0 ≤ hits ≤ total"):
        wilson(5, 4)
    with pytest.raises(ValueError, match="as many of each"):
        bootstrap([1.0], ["a", "b"], seed=0)


def test_people_read_it():
    assert wilson(61, 100).percent().startswith("61.0 % (51.")
    assert wilson(1, 2).decimal().startswith("0.500 (0.0")


def test_none_of_several_that_belong_together_is_not_sure():
    groups = ["a", "a", "b", "b"]
    none, every = (cautious([hit] * 4, groups, seed=0) for hit in (False, True))
    assert (none.value, none.low, none.high, none.total) == (0, 0, wilson(0, 2).high, 4)
    assert (every.value, every.low, every.high, every.total) == (1, wilson(2, 2).low, 1, 4)
    some = [True, False, False, False]
    assert cautious(some, groups, seed=0) == share(some, groups, seed=0)
