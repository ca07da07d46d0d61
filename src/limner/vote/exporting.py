"""Every vote as a line, for other people's programs: CSV or JSON.

Those that were taken back are there too, and say that they were replaced: they count nowhere.
"""

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from limner.vote.store import Vote, Whose

COLUMNS = (
    *(
        "voters",
        "rater",
        "place",
        "kind",
        "question",
        "prompt",
        "number",
        "left",
        "right",
        "answer",
        "chosen",
    ),
    *("seconds", "at", "replaced"),
)


def rows(votes: Sequence[Vote], whose: Whose) -> list[dict[str, str | int | float | None]]:
    """A dictionary for each vote, in the order of COLUMNS."""
    return [
        {
            "voters": whose,
            "rater": vote.rater,
            "place": vote.place + 1,
            "kind": vote.task.kind,
            "question": vote.task.question,
            "prompt": vote.task.prompt,
            "number": vote.task.number,
            "left": vote.task.left,
            "right": vote.task.right,
            "answer": vote.answer,
            "chosen": vote.chosen,
            "seconds": round(vote.seconds, 3),
            "at": datetime.fromtimestamp(vote.at, UTC).isoformat(timespec="seconds"),
            "replaced": "yes" if vote.replaced else "no",
        }
        for vote in votes
    ]


def as_csv(votes: Sequence[Vote], whose: Whose) -> str:
    """With a line of names first."""
    text = io.StringIO()
    lines = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows(votes, whose))
    return text.getvalue()


def as_json(votes: Sequence[Vote], whose: Whose) -> str:
    """A list of objects."""
    return json.dumps(rows(votes, whose), indent=1, ensure_ascii=False) + "\n"
