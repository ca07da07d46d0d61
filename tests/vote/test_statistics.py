"""Closed forms and published examples of everything that is worked out of votes."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.evaluation.intervals import Z, score, student, wilson
from limner.vote import elo
from limner.vote.agreement import agreement, fleiss, krippendorff
from limner.vote.power import independent, needs
from limner.vote.shares import majority, share
from limner.vote.significance import beyond, deviations, holm, more, order, sides, sign_flips
from limner.vote.tally import Ballot


def ballot(
    value, *, prompt="a", rater="anna", number=1, first="a", second="b", left=True, late=False, at=0.0
):
    sides = {1.0: "left" if left else "right", 0.0: "right" if left else "left", 0.5: "neither"}
    return Ballot(
        rater=rater,
        question="caption",
        prompt=prompt,
        number=number,
        first=first,
        second=second,
        value=value,
        answer=sides[value],
        left=left,
        late=late,
        at=at,
    )


def independent_votes(won, lost, tied=0):
    values = [1.0] * won + [0.0] * lost + [0.5] * tied
    return [ballot(value, prompt=str(number)) for number, value in enumerate(values)]


# --- shares -----------------------------------------------------------------------------------------


def test_wilson_as_published():
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = wilson(hits, total)
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_the_interval_of_unclip_against_glide():
    """48.9 % ± 3.1 of 1000 votes, the diffusion prior's photorealism."""
    found = share(independent_votes(489, 511), seed=0)
    assert found.value == 0.489
    assert (found.wilson.high - found.wilson.low) / 2 == pytest.approx(0.031, abs=2e-4)
    assert found.worth == pytest.approx(1000, rel=2e-3)


@settings(max_examples=20)
@given(st.integers(1, 200), st.integers(1, 200))
def test_a_share_and_its_other_side_are_one(won, lost):
    one = share(independent_votes(won, lost), seed=0)
    other = share(independent_votes(lost, won), seed=0)
    assert one.value == pytest.approx(1 - other.value)
    assert one.wilson.low == pytest.approx(1 - other.wilson.high)
    assert one.wilson.low <= one.value <= one.wilson.high


def test_votes_that_say_the_same_of_a_prompt_are_worth_one():
    each = [
        ballot(float(prompt < 30), prompt=str(prompt), rater=str(rater))
        for prompt in range(50)
        for rater in range(5)
    ]
    found = share(each, seed=0)
    assert found.votes == 250
    assert found.worth == pytest.approx(49)
    once = share(independent_votes(30, 20), seed=0)
    assert found.wilson.low == pytest.approx(once.wilson.low)


def test_ties_are_half_and_never_worth_more_than_a_vote():
    found = share(independent_votes(10, 10, 80), seed=0)
    assert (found.value, found.ties) == (0.5, 0.8)
    assert found.worth == 100


def test_all_for_one_is_as_sure_as_its_prompts_are_many():
    each = [ballot(1.0, prompt=str(prompt), rater=str(rater)) for prompt in range(20) for rater in range(5)]
    found = share(each, seed=0)
    low, high = score(1.0, 20.0, student(19))
    assert (found.wilson.low, found.wilson.high) == (low, high) == (low, 1.0)
    assert low < wilson(20, 20).low


@pytest.mark.parametrize(
    ("degrees", "point"), [(3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423), (100, 1.9840)]
)
def test_students_points(degrees, point):
    assert student(degrees) == pytest.approx(point, rel=5e-3)
    assert student(10**9) == pytest.approx(Z)


def test_a_majority_of_five_is_of_the_first_five():
    values = [1.0, 0.5, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0]
    votes = [ballot(value, rater=str(turn), at=float(turn)) for turn, value in enumerate(values)]
    found = majority(votes[::-1])
    assert (found.of, found.won, found.lost, found.tied, found.share.total) == (5, 1, 0, 0, 1)
    assert majority(votes[:4]) is None
    assert majority(votes, of=7).lost == 1


def test_a_majority_may_be_tied():
    votes = [ballot(value, rater=str(value), at=value) for value in (1.0, 0.0, 0.5, 0.5, 0.5)]
    assert majority(votes).tied == 1
    assert majority(votes).share.value == 0.5


# --- Elo --------------------------------------------------------------------------------------------


def table(odds, games):
    """The wins that are expected of models with these log-odds."""
    odds = np.array(odds)
    p = 1 / (1 + np.exp(odds[None] - odds[:, None]))
    return np.where(np.eye(len(odds)), 0.0, games * p)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6))
def test_ratings_are_found_from_expected_wins(odds):
    found = elo.fit(table(odds, 100.0)[None])[0]
    assert found == pytest.approx(np.array(odds) - np.mean(odds), abs=1e-6)
    assert elo.has_maximum(table(odds, 100.0))


def test_two_models_are_apart_by_the_log_odds_and_the_winner_leads():
    won = np.array([[[0.0, 75.0], [25.0, 0.0]]])
    found = elo.POINTS * elo.fit(won)[0]
    assert found[0] - found[1] == pytest.approx(400 * math.log10(3))
    assert found[0] > 0 > found[1]


def test_hunters_way_climbs_to_the_same_place():
    """Hunter 2004, equation 3: π_i ← w_i / Σ_j n_ij / (π_i + π_j)."""
    chance = np.random.default_rng(0)
    won = chance.integers(1, 20, (5, 5)).astype(float)
    np.fill_diagonal(won, 0.0)
    played, strength = won + won.T, np.ones(5)
    for _ in range(3000):
        strength = won.sum(axis=1) / (played / (strength[:, None] + strength[None])).sum(axis=1)
    expected = np.log(strength) - np.log(strength).mean()
    assert elo.fit(won[None])[0] == pytest.approx(expected, abs=1e-9)


def test_synthetic_matches_give_the_ratings_back():
    chance, odds = np.random.default_rng(1), {"a": 0.8, "b": 0.0, "c": -0.8}
    ballots = []
    for first, second in itertools.combinations(odds, 2):
        p = 1 / (1 + math.exp(odds[second] - odds[first]))
        for prompt in range(400):
            ballots.append(ballot(float(chance.random() < p), prompt=str(prompt), first=first, second=second))
    found = {one.model: one for one in elo.ratings(ballots, seed=0)}
    assert [*found] == ["a", "b", "c"]
    for name, expected in odds.items():
        assert found[name].low < elo.POINTS * expected < found[name].high
        assert found[name].high - found[name].low < 80
    assert sum(one.points for one in found.values()) == pytest.approx(0)


def test_who_never_lost_has_no_rating():
    found = elo.ratings(independent_votes(20, 0), seed=0)
    assert [one.points for one in found] == [None, None]
    assert [one.model for one in found] == ["a", "b"]
    assert not elo.has_maximum(np.array([[0.0, 3.0], [0.0, 0.0]]))
    # Two that never met, not even through others.
    islands = np.zeros((4, 4))
    islands[0, 1] = islands[1, 0] = islands[2, 3] = islands[3, 2] = 5
    assert not elo.has_maximum(islands)


# --- agreement --------------------------------------------------------------------------------------

# Fourteen raters, ten subjects, five categories: the worked example of Wikipedia's "Fleiss' kappa".
TEN = """
0 0 0 0 14
0 2 6 4 2
0 0 3 5 6
0 3 9 2 0
2 2 8 1 1
7 7 0 0 0
3 2 6 3 0
2 5 3 2 2
6 5 2 1 0
0 2 2 3 7
"""
# Four observers, twelve units, some missing: Krippendorff 2011, section C.
OBSERVED = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""


def test_fleiss_as_published():
    counts = np.array([[float(cell) for cell in row.split()] for row in TEN.strip().splitlines()])
    assert fleiss(counts) == pytest.approx(0.210, abs=5e-4)


def test_krippendorff_as_published():
    rows = [row.split() for row in OBSERVED.strip().splitlines()]
    units = [[value for value in column if value != "."] for column in zip(*rows, strict=True)]
    assert krippendorff(units) == pytest.approx(0.743, abs=5e-4)


def test_agreement_at_its_ends():
    same = np.array([[5.0, 0.0], [0.0, 5.0]])
    assert fleiss(same) == pytest.approx(1)
    assert krippendorff([[1, 1], [2, 2]]) == pytest.approx(1)
    assert math.isnan(krippendorff([[1, 1], [1, 1]]))
    assert math.isnan(fleiss(np.array([[3.0, 0.0]])))
    with pytest.raises(ValueError, match="as many raters to each"):
        fleiss(np.array([[3.0, 0.0], [1.0, 1.0]]))


def test_raters_who_toss_coins_agree_by_chance():
    chance = np.random.default_rng(0)
    votes = [
        ballot(float(chance.integers(2)), prompt=str(prompt), rater=str(rater))
        for prompt in range(500)
        for rater in range(4)
    ]
    found = agreement(votes)
    assert abs(found.alpha) < 0.05
    assert abs(found.kappa) < 0.05
    assert (found.units, found.votes, found.same_units, found.raters) == (500, 2000, 500, 4)
    assert agreement(independent_votes(3, 3)) is None


# --- significance -----------------------------------------------------------------------------------


@given(st.integers(0, 6), st.integers(0, 6))
def test_few_prompts_are_flipped_in_every_way(won, lost):
    """With one vote on each prompt it is the sign test: two tails of the binomial."""
    if won + lost == 0:
        return
    n, lead = won + lost, abs(won - lost)
    ways = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= lead)
    assert sign_flips(independent_votes(won, lost), seed=0) == pytest.approx(ways / 2**n)


def test_many_prompts_are_flipped_at_random():
    p = sign_flips(independent_votes(60, 40), seed=0)
    exact = 2 * sum(math.comb(100, k) for k in range(41)) / 2**100
    assert p == pytest.approx(exact, abs=0.006)
    assert sign_flips(independent_votes(0, 0, 30), seed=0) == 1


def test_holm_as_worked_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("statistic", "degrees"), [(3.841459, 1), (5.991465, 2), (11.070498, 5), (18.307038, 10)]
)
def test_chi_square_as_in_tables(statistic, degrees):
    assert beyond(statistic, degrees) == pytest.approx(0.05, abs=1e-7)


def test_a_lean_to_one_side_is_found():
    even = [ballot(float(n % 2), prompt=str(n)) for n in range(100)]
    assert sides(even).p == 1
    leaning = [ballot(float(n % 10 < 7), prompt=str(n), left=True) for n in range(100)]
    assert sides(leaning).statistic == pytest.approx((70 - 30) ** 2 / 100)
    assert sides(leaning).p < 1e-4
    assert sides(independent_votes(0, 0, 5)) is None


def test_a_change_of_mind_is_found():
    """A 2 × 2 table of 30 and 20, 20 and 30 has a chi-square of 4, and with its margins held 99/100 of it."""
    votes = [ballot(float(n < 30), prompt=str(n), late=False) for n in range(50)]
    votes += [ballot(float(n < 20), prompt=str(n), late=True) for n in range(50)]
    assert order(votes).statistic == pytest.approx(4 * 99 / 100)
    assert order(votes).degrees == 1
    assert order(independent_votes(0, 0, 5)) is None
    # Two raters who each change their minds say it together, though they like different models.
    votes = [
        ballot(float(n < won), rater=rater, prompt=str(n), late=late)
        for rater, wins in (("anna", (40, 30)), ("ben", (20, 10)))
        for late, won in zip((False, True), wins, strict=True)
        for n in range(50)
    ]
    # Late wins 10 fewer than early ones: −5 and −5 of what is expected; variances n₁n₂·lost·won/(n²(n − 1)).
    variance = 2 * 50 * 50 * 30 * 70 / (100**2 * 99)
    assert order(votes).statistic == pytest.approx(10**2 / variance)
    assert order(votes).degrees == 1


# --- how many ---------------------------------------------------------------------------------------


def test_a_difference_of_ten_points_wants_194_votes():
    """The usual table for one proportion against a half, 80 % power, two-sided 5 %: 0.6 needs 194."""
    assert math.ceil(independent(0.6)) == 194
    assert independent(0.4) == pytest.approx(independent(0.6))
    assert math.ceil(independent(0.75)) == 29


def test_votes_on_one_prompt_are_worth_less():
    one, five = (need for need in needs(0.6, alike=0.2) if need.votes in (1, 5))
    assert one.prompts == 194
    assert five.prompts == math.ceil(independent(0.6) * (1 + 4 * 0.2) / 5) == 70
    assert five.total == 350
    (same,) = needs(0.6, alike=1.0, votes=(5,))
    assert same.prompts == 194
    (all_pairs,) = needs(0.6, models=4, questions=3, votes=(1,))
    assert all_pairs.total == 18 * all_pairs.prompts > 18 * 194


def test_a_study_of_the_planned_size_finds_the_difference_as_often_as_planned():
    """Prompts whose own win rates have a beta distribution, judged by the report's own test."""
    p, alike, each = 0.65, 0.25, 3
    (need,) = needs(p, alike=alike, votes=(each,))
    chance, found, studies = np.random.default_rng(0), 0, 300
    a, b = p * (1 / alike - 1), (1 - p) * (1 / alike - 1)
    for study in range(studies):
        own = chance.beta(a, b, need.prompts)
        votes = [
            ballot(float(chance.random() < own[prompt]), prompt=str(prompt), rater=str(rater))
            for prompt in range(need.prompts)
            for rater in range(each)
        ]
        found += sign_flips(votes, seed=study) < 0.05
    assert found / studies == pytest.approx(0.8, abs=0.07)


def test_what_would_settle_it_settles_it():
    seen = share(independent_votes(54, 46), seed=0)
    wanted = more(seen)
    total = 100 + wanted.prompts
    # At the same share, so many prompts put the lead 1.96 + 0.84 deviations from nothing.
    deviation = math.sqrt(seen.variance * 100 / total)
    assert 0.04 / deviation == pytest.approx(deviations(0.975) + deviations(0.8), rel=1e-2)
    assert wanted.votes == wanted.prompts
    assert more(share(independent_votes(50, 50), seed=0)) is None
    assert more(share(independent_votes(90, 10), seed=0)).prompts == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"p": 0.5}, "not 0.5"),
        ({"p": 1.0}, "between 0 and 1"),
        ({"p": 0.6, "power": 1.0}, "power is 1.0"),
        ({"p": 0.6, "alike": 2.0}, "alike is 2.0"),
        ({"p": 0.6, "models": 1}, "give two models"),
    ],
)
def test_plans_that_cannot_be_made(given, said):
    with pytest.raises(ValueError, match=said):
        needs(**given)
