"""A study: pictures, design and store together, and what becomes of a rater who comes to it."""

from collections.abc import Sequence
from pathlib import Path

from limner.vote.checks import drawings
from limner.vote.pictures import gather
from limner.vote.schedule import Design, comparisons, lined_up, schedule
from limner.vote.showing import Showing
from limner.vote.store import FILES, Rater, Store, Whose

LONGEST_NAME = 60


class Study:
    """Whoever joins is given a schedule, which is kept, so that they can go on where they stopped."""

    def __init__(self, showing: Showing, store: Store, design: Design) -> None:
        self.showing, self.store, self.design = showing, store, design
        self.line = lined_up(comparisons(design, showing.gathered), design.seed)
        self.captions = [drawing.caption for drawing in showing.drawings]

    def join(self, name: str) -> Rater:
        """The rater of that name, new or come back. ValueError for a name that is none, or one too many."""
        rater = self.store.join(checked_name(name))
        self.store.ask(rater, schedule(self.design, self.line, rater.id - 1, self.captions))
        return rater


def begun(folder: Path, design: Design | None, whose: Whose) -> Study:
    """The study of a folder, begun or gone on with; None: as it was begun, or the usual design.

    LimnerError where the folder has nothing to compare, or was begun otherwise.
    """
    showing = Showing(gather(folder), drawings())
    store = Store(folder / FILES[whose], whose)
    wanted = design or store.design() or Design()
    # Refused before anything is written down.
    comparisons(wanted, showing.gathered)
    store.begin(wanted, showing.gathered.digest())
    return Study(showing, store, wanted)


def checked_name(name: str) -> str:
    """A name without outer spaces. ValueError for an empty, long or unprintable one."""
    plain = " ".join(name.split())
    if not plain or len(plain) > LONGEST_NAME or not plain.isprintable():
        raise ValueError(f"name is {plain[:80]!r}: give 1 to {LONGEST_NAME} letters, such as anna")
    return plain


def checked_names(names: Sequence[str]) -> list[str]:
    """Several names, of which none comes twice."""
    found = [checked_name(name) for name in names]
    for name in found:
        if found.count(name) > 1:
            raise ValueError(f"raters has '{name}' more than once: give everybody a name of their own")
    return found
