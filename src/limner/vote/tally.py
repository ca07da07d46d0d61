"""Votes sorted for counting: whose count, and what each says of which two models.

A rater who fails too many checks is left out, as one worker was for DALL-E 1 (Ramesh et al. 2021, section
3.2 and figure 7). Repeats measure raters and never count a second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from limner.vote.schedule import QUESTIONS, SOUND, Answer, Question
from limner.vote.store import Vote

# Of their checks a rater must pass so many.
PASSES = 0.75


@dataclass(frozen=True)
class Ballot:
    """One person's word on one comparison: `value` is 1 where `first` was preferred, 0 `second`, ½ neither.

    `left`: whether the first stood on the left. `late`: whether it came in the later half of what the rater
    answered of this question: in the later half of everything there are other questions.
    """

    rater: str
    question: Question
    prompt: str
    number: int
    first: str
    second: str
    value: float
    answer: Answer
    left: bool
    late: bool
    at: float


@dataclass(frozen=True, kw_only=True)
class Voter:
    """How somebody voted.

    `same` of `repeats` were answered as the first time, though sides were swapped; `seconds`: the median a
    vote took; `left` of the `sided` votes that chose a side chose the left. `counted`: whether their votes
    count.
    """

    name: str
    votes: int
    checks: int
    passed: int
    repeats: int
    same: int
    seconds: float
    left: int
    sided: int
    counted: bool


@dataclass(frozen=True)
class Tally:
    """The ballots of those who count, and all voters."""

    ballots: tuple[Ballot, ...]
    voters: tuple[Voter, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """All that were voted on, in order."""
        return tuple(sorted({name for one in self.ballots for name in (one.first, one.second)}))


def tally(votes: Sequence[Vote], *, passes: float = PASSES) -> Tally:
    """Sort votes. `passes`: the share of their checks that raters must pass to count."""
    by_rater: dict[str, list[Vote]] = {}
    for vote in votes:
        by_rater.setdefault(vote.rater, []).append(vote)
    voters = tuple(_voter(name, mine, passes) for name, mine in by_rater.items())
    ballots: list[Ballot] = []
    for voter in voters:
        if voter.counted:
            for question in QUESTIONS:
                asked = [
                    vote
                    for vote in by_rater[voter.name]
                    if vote.task.kind == "asked" and vote.task.question == question
                ]
                ballots += [_ballot(vote, turn, len(asked)) for turn, vote in enumerate(asked)]
    return Tally(tuple(ballots), voters)


def _ballot(vote: Vote, turn: int, total: int) -> Ballot:
    task = vote.task
    first, second = sorted((task.left, task.right))
    value = 0.5 if vote.chosen is None else float(vote.chosen == first)
    return Ballot(
        rater=vote.rater,
        question=task.question,
        prompt=task.prompt,
        number=task.number,
        first=first,
        second=second,
        value=value,
        answer=vote.answer,
        left=task.left == first,
        late=2 * turn >= total,
        at=vote.at,
    )


def _voter(name: str, votes: Sequence[Vote], passes: float) -> Voter:
    checks = [vote for vote in votes if vote.task.kind == "check"]
    passed = sum(vote.chosen == SOUND for vote in checks)
    asked = {vote.task: vote for vote in votes if vote.task.kind == "asked"}
    again = [
        (vote, first)
        for vote in votes
        if vote.task.kind == "repeat" and (first := asked.get(vote.task.swapped("asked"))) is not None
    ]
    seconds = sorted(vote.seconds for vote in votes)
    sided = [vote for vote in asked.values() if vote.answer != "neither"]
    return Voter(
        name=name,
        votes=len(asked),
        checks=len(checks),
        passed=passed,
        repeats=len(again),
        same=sum(vote.chosen == first.chosen for vote, first in again),
        seconds=seconds[len(seconds) // 2],
        left=sum(vote.answer == "left" for vote in sided),
        sided=len(sided),
        counted=not checks or passed >= passes * len(checks),
    )
