"""Pictures and captions that are labelled together, as a folder's rows say: what classifiers learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

from limner.data.folder import Record
from limner.errors import LimnerError


@dataclass(frozen=True)
class Labelled:
    """A picture, by its number among the records, one of its captions, and what the two are together."""

    picture: int
    caption: str
    label: str


def labelled(records: Sequence[Record]) -> list[Labelled]:
    """Everything that is labelled, picture by picture. Raises LimnerError where fewer than two labels are."""
    found = [
        Labelled(picture, caption, label)
        for picture, record in enumerate(records)
        for caption, label in record.labels.items()
    ]
    if len(names := {one.label for one in found}) < 2:
        raise LimnerError(
            f"{len(names)} different labels, and a classifier tells at least two apart: give every row of "
            'captions.jsonl a "label", or make such a folder with `limner data pairs`'
        )
    return found
