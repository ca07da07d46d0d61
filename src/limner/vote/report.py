"""All that votes say: win rates, ratings, agreement, and whether raters or the page leaned anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from limner.vote.agreement import Agreement, agreement
from limner.vote.elo import Rating, ratings
from limner.vote.schedule import QUESTIONS, Question
from limner.vote.shares import FIVE, Majority, Share, majority, share
from limner.vote.significance import LEVEL, Bias, More, holm, more, order, sides, sign_flips
from limner.vote.store import Vote, Whose
from limner.vote.tally import PASSES, Ballot, Voter, tally


@dataclass(frozen=True)
class Pair:
    """Two models and a question: the first's share of the votes, and of majorities where there are any.

    `p` is of the sign-flip test, `adjusted` after Holm for all pairs and questions. `more`: what would settle
    it; None where it is settled, or where nothing would.
    """

    question: Question
    first: str
    second: str
    share: Share
    majority: Majority | None
    p: float
    adjusted: float
    more: More | None

    @property
    def settled(self) -> bool:
        """Whether the share is significantly not a half, and its interval says so too."""
        found = self.share.wilson
        return self.adjusted < LEVEL and not found.low <= 0.5 <= found.high


@dataclass(frozen=True)
class Measured:
    """What `whose` votes say. `left`: how often the first of two models stood on the left, of `shown`."""

    whose: Whose
    pairs: tuple[Pair, ...]
    ratings: Mapping[Question, Sequence[Rating]]
    agreement: Mapping[Question, Agreement | None]
    voters: tuple[Voter, ...]
    sides: Bias | None
    order: Bias | None
    left: int
    shown: int


def measure(
    votes: Sequence[Vote], whose: Whose, *, of: int = FIVE, passes: float = PASSES, seed: int = 0
) -> Measured:
    """Work everything out. ValueError where no vote counts."""
    sorted_votes = tally(votes, passes=passes)
    ballots = sorted_votes.ballots
    if not ballots:
        failed = [voter.name for voter in sorted_votes.voters if not voter.counted]
        why = f", for {', '.join(failed)} failed the checks" if failed else ""
        raise ValueError(f"there are no votes that count yet{why}: report when there are some")
    asked: dict[Question, list[Ballot]] = {
        question: mine
        for question in QUESTIONS
        if (mine := [one for one in ballots if one.question == question])
    }
    return Measured(
        whose=whose,
        pairs=_pairs(ballots, of=of, seed=seed),
        ratings={question: ratings(mine, seed=seed) for question, mine in asked.items()},
        agreement={question: agreement(mine) for question, mine in asked.items()},
        voters=sorted_votes.voters,
        sides=sides(ballots),
        order=order(ballots),
        left=sum(one.left for one in ballots),
        shown=len(ballots),
    )


def _pairs(ballots: Sequence[Ballot], *, of: int, seed: int) -> tuple[Pair, ...]:
    together: dict[tuple[Question, str, str], list[Ballot]] = {}
    for one in ballots:
        together.setdefault((one.question, one.first, one.second), []).append(one)
    keys = sorted(together, key=lambda key: (QUESTIONS.index(key[0]), key[1:]))
    chances = [sign_flips(together[key], seed=seed) for key in keys]
    found = []
    for key, p, adjusted in zip(keys, chances, holm(chances), strict=True):
        question, first, second = key
        counted = share(together[key], seed=seed)
        won = majority(together[key], of=of)
        wanted = more(counted, level=LEVEL / len(keys))
        pair = Pair(question, first, second, counted, won, p, adjusted, wanted)
        found.append(replace(pair, more=None) if pair.settled else pair)
    return tuple(found)
