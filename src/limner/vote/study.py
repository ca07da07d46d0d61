"""A study: pictures, design and store together, and what becomes of a rater who comes to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limner.errors import LimnerError
from limner.vote.checks import drawings
from limner.vote.pictures import gather
from limner.vote.schedule import Design, comparisons, lined_up, schedule
from limner.vote.showing import Showing
from limner.vote.store import FILES, Rater, Store, Whose, opened

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


@dataclass(frozen=True)
class Beginning:
    """How a study was begun, by the file that says so; `models` is None where that is older than the fact."""

    file: Path
    design: Design
    models: tuple[str, ...] | None


def beginning(folder: Path, whose: Whose) -> Beginning | None:
    """How people are asked in a folder, or else how `whose` file says; None where neither has begun."""
    wanted: dict[Whose, None] = {"people": None, whose: None}
    for one in wanted:
        if not (folder / FILES[one]).is_file():
            continue
        store = opened(folder, one)
        design, models = store.design(), store.models()
        store.close()
        if design is not None:
            return Beginning(folder / FILES[one], design, models)
    return None


def begun(folder: Path, design: Design | None, whose: Whose) -> Study:
    """The study of a folder, begun or gone on with; None: as it was begun, or the usual design.

    A panel is asked what people are, where they have been asked. Whoever has painted since is left out, for
    votes on others say nothing of them. LimnerError where the folder has nothing to compare, or was begun
    otherwise.
    """
    gathered, began = gather(folder), beginning(folder, whose)
    if began is not None and began.models is not None:
        if gone := [model for model in began.models if model not in gathered.models]:
            raise LimnerError(
                f"{folder} has not all pictures of {', '.join(gone)}, on whom {began.file} has votes: put "
                "them back, or move that file away to begin anew"
            )
        later = f"was not there when the study began: move {began.file} away to begin anew with everybody"
        gathered = gathered.only(began.models, later)
    showing = Showing(gathered, drawings())
    wanted = design or (Design() if began is None else began.design)
    # Refused before anything is written down.
    comparisons(wanted, gathered)
    store = Store(folder / FILES[whose], whose)
    store.begin(wanted, gathered.digest(), gathered.models)
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
