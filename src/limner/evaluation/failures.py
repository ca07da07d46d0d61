"""What goes wrong: sixteen pictures of the fixed evaluation that are not right, and what is seen in them.

A hash of the prompt chooses them, group by group in turn, so that nobody picks the ones that look well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from limner.data.splits import fraction
from limner.evaluation.emoji600 import GROUPS, Request
from limner.evaluation.layout import colour_of, ground_name
from limner.evaluation.marks import ALL, COLOUR, COUNT, FIRST, GROUND, RECOGNISED, RELATION, Marks, looked
from limner.evaluation.recognition import Judge

SHOWN = 16
# The numbers that counts ask for, and what is found instead.
_WORDS = ("nothing", "one thing", "two things", "three things", "four things")


@dataclass(frozen=True)
class Failure:
    """The picture's number in the list, and what is wrong with it, in words."""

    number: int
    wrong: str


def right(marks: Marks) -> bool:
    """Whether all is right that was asked for: of a single drawing, the first answer."""
    return marks[ALL] if ALL in marks else marks[FIRST]


def chosen(asked: Sequence[Request], marks: Sequence[Marks], most: int = SHOWN) -> list[int]:
    """Numbers of at most `most` pictures that are not right: of every group in turn, as a hash has them."""
    waiting = [
        sorted(
            (n for n, one in enumerate(asked) if one.group == group and not right(marks[n])),
            key=lambda n: fraction("failure", asked[n].prompt),
        )
        for group in GROUPS
    ]
    longest = max(map(len, waiting))
    in_turn = [line[turn] for turn in range(longest) for line in waiting if turn < len(line)]
    return sorted(in_turn[:most])


def failures(
    judge: Judge, asked: Sequence[Request], pictures: Sequence[Image.Image], marks: Sequence[Marks]
) -> list[Failure]:
    """The chosen ones, explained by what the judge answers to the picture or to each thing in it."""
    return [
        Failure(number, wrong(judge, asked[number], pictures[number], marks[number]))
        for number in chosen(asked, marks)
    ]


def wrong(judge: Judge, request: Request, picture: Image.Image, marks: Marks) -> str:
    """One picture's fault, in words."""
    seen = looked(request, picture)
    if request.group in ("colour", "relation", "count") and not seen.things:
        return "nothing stands out from the ground"
    answers = judge.answers(judge.look(seen.shown, total=len(seen.shown)))
    said = "seen as " + ", ".join(f"“{answer}”" for answer in answers)
    if FIRST in marks:
        return said + (", the right name among five" if marks[RECOGNISED] else "")
    parts = [] if marks[RECOGNISED] else [said]
    if request.group == "colour":
        if not marks[COLOUR]:
            parts.append(f"most of it is {colour_of(picture, seen.things[0])}")
        if not marks[GROUND]:
            parts.append(f"the ground is {ground_name(picture)}")
        return "; ".join(parts)
    if not marks[COUNT]:
        found = len(seen.things)
        parts.append(_WORDS[found] if found < len(_WORDS) else f"{found} things")
    elif request.group == "relation" and not marks[RELATION]:
        parts.append("which is where is not as asked")
    return "; ".join(parts)
