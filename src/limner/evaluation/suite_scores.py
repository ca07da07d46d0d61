"""What a painter scores on a list of prompts, and what real drawings of the same prompts score.

What is asked is in `emoji600`, what is right about a picture in `marks`; here pictures are marked, counted,
and compared with real drawings: as a cloud, and one by one, for copies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from limner.data.folder import Record, read
from limner.errors import LimnerError
from limner.evaluation import copying
from limner.evaluation.copying import Copying
from limner.evaluation.coverage import covered
from limner.evaluation.emoji600 import GROUPS, Group, Request, digest
from limner.evaluation.failures import Failure, failures
from limner.evaluation.frechet import frechet_distance, gaussian
from limner.evaluation.intervals import Estimate, cautious, ratio
from limner.evaluation.marks import ALL, MARKS, SIDE, Marks, at_side, marked, real
from limner.evaluation.names import plain
from limner.evaluation.recognition import Judge, load_judge
from limner.evaluation.report import opened
from limner.pipelines.progress import Tick

# Prompts, and who wants to hear of every step → one picture of each prompt.
Paint: TypeAlias = Callable[[Sequence[str], Callable[[Tick], None]], list[Image.Image]]
# The groups whose pictures are of one drawing, which real drawings can be compared with.
DRAWINGS: tuple[Group, ...] = ("name", "pair", "paraphrase")
LAYOUTS: tuple[Group, ...] = ("relation", "count")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: how many of `groups` have a mark, painted and real, and the ratio of the two.

    `of_real` is None where no real drawing has the mark. `nothing`: of who knows nothing: an answer by chance
    or, of scenes, the real one of another prompt.
    """

    groups: tuple[Group, ...]
    mark: str
    painted: Estimate
    real: Estimate
    of_real: Estimate | None
    nothing: float


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Pictures of single drawings beside real drawings of the judge's names that nobody was asked for.

    Fréchet distance; precision and recall (Kynkäänniemi et al. 2019, k = 3). `real_` ones: of the drawings
    that were asked for, as many.
    """

    frechet: float
    real_frechet: float
    precision: float
    real_precision: float
    recall: float
    real_recall: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All that was measured: on the list of this digest, by a judge of so many names."""

    prompts: str
    judge_names: int
    seed: int
    rows: tuple[Row, ...]
    cloud: Cloud
    copying: Copying


@dataclass(frozen=True)
class Shown:
    """What the sheets show: every painting at 64 pixels, its marks, and those of the real one.

    `nearest`: of single drawings, the most alike training picture: cosine, number of the painting, file; the
    largest cosine first. `failures`: some of what is not right, explained.
    """

    pictures: list[Image.Image]
    marks: list[Marks]
    real_marks: list[Marks]
    nearest: list[tuple[float, int, Path]]
    failures: list[Failure]


def measured(
    asked: Sequence[Request], paint: Paint, data: Path, judge: Path, *, seed: int, device: str
) -> tuple[Scores, Shown]:
    """Paint what is asked, mark it, and compare with real drawings.

    `data`: the painters' emoji folder, `judge`: a recogniser's run. Raises LimnerError, before anything is
    painted, where the judge does not know a name that is asked for or the folder lacks a drawing.
    """
    referee = load_judge(judge, device=device)
    records = [*read(data).records]
    files = checked(asked, referee, records)
    pictures = [at_side(picture) for picture in painted(paint, asked)]
    marks = marked(referee, asked, pictures)
    truths = [real(one, files) for one in asked]
    real_marks = marked(referee, asked, truths)
    others = marked(referee, asked, [truths[number] for number in following(asked)])
    single = [number for number, one in enumerate(asked) if one.group in DRAWINGS]
    features = referee.look([pictures[number] for number in single], total=len(single))
    gallery = Gallery.of(referee, records, [asked[number] for number in single])
    cosines, nearest = copying.nearest(features, gallery.training)
    faults = failures(referee, asked, pictures, marks)
    scores = Scores(
        prompts=digest(asked),
        judge_names=len(referee.names),
        seed=seed,
        rows=tuple(rows(asked, marks, real_marks, others, chance=1 / len(referee.names), seed=seed)),
        cloud=gallery.beside(features),
        copying=copying.copying(
            cosines,
            copying.nearest(gallery.held_out, gallery.training)[0],
            [asked[number].hexcodes[0] for number in single],
            seed=seed,
        ),
    )
    found = [
        (float(cosine), number, gallery.files[int(row)])
        for cosine, number, row in zip(cosines, single, nearest, strict=True)
    ]
    return scores, Shown(pictures, marks, real_marks, sorted(found, key=lambda one: -one[0]), faults)


def checked(asked: Sequence[Request], judge: Judge, records: Sequence[Record]) -> dict[tuple[str, str], Path]:
    """The files of all drawings that have a hexcode, by style and hexcode; those of the list are there."""
    files = {
        (str(record.facts["style"]), str(record.facts["hexcode"])): record.file
        for record in records
        if "hexcode" in record.facts and "style" in record.facts
    }
    known = set(judge.names)
    unknown = [name for one in asked for name in one.names if name not in known]
    if unknown:
        raise LimnerError(
            f"this judge does not know {unknown[0]!r}, and {len(unknown) - 1} more of the list: train one "
            "with `limner train recogniser --size small` on what `limner data fetch judge` brings"
        )
    absent = [
        " ".join(pair)
        for one in asked
        for pair in zip(one.styles, one.hexcodes, strict=True)
        if pair not in files
    ]
    if absent:
        raise LimnerError(
            f"the data lack the drawing {absent[0]}, and {len(absent) - 1} more of the list: give the folder "
            "that `limner data fetch emoji` makes"
        )
    return files


def following(asked: Sequence[Request]) -> list[int]:
    """For each request the number of the next of its group; for the last, of the first."""
    places = [[n for n, one in enumerate(asked) if one.group == group] for group in GROUPS]
    after = {n: group[(i + 1) % len(group)] for group in places for i, n in enumerate(group)}
    return [after[number] for number in range(len(asked))]


def painted(paint: Paint, asked: Sequence[Request]) -> list[Image.Image]:
    """One picture of each prompt, behind a bar."""
    with Progress(transient=True) as bar:
        task = bar.add_task("painting")
        pictures = paint(
            [one.prompt for one in asked],
            lambda tick: bar.update(task, completed=tick.done, total=tick.total),
        )
    if len(pictures) != len(asked):
        raise ValueError(f"paint: gave {len(pictures)} pictures for {len(asked)} prompts; one for each")
    return pictures


def rows(
    asked: Sequence[Request],
    painted: Sequence[Marks],
    real: Sequence[Marks],
    others: Sequence[Marks],
    *,
    chance: float,
    seed: int,
) -> list[Row]:
    """Every mark of every group, and all that is asked of layouts together.

    `others`: marks of what is real and of another prompt. `chance`: of one answer that knows nothing.
    """
    kinds: list[tuple[tuple[Group, ...], str]] = [
        ((group,), mark) for group in GROUPS for mark in MARKS[group]
    ]
    guessed = dict.fromkeys(MARKS["name"], chance)
    guessed[MARKS["name"][1]] = 5 * chance
    table = []
    for groups, mark in [*kinds, (LAYOUTS, ALL)]:
        places = [number for number, one in enumerate(asked) if one.group in groups]
        if not places:
            continue
        names = [" ".join(asked[number].hexcodes) for number in places]
        ours, theirs = ([marks[number][mark] for number in places] for marks in (painted, real))
        table.append(
            Row(
                groups=groups,
                mark=mark,
                painted=cautious(ours, names, seed=seed),
                real=cautious(theirs, names, seed=seed),
                of_real=ratio(list(map(float, ours)), list(map(float, theirs)), names, seed=seed)
                if any(theirs)
                else None,
                nothing=guessed[mark]
                if groups[0] in DRAWINGS
                else sum(others[number][mark] for number in places) / len(places),
            )
        )
    return table


@dataclass(frozen=True)
class Gallery:
    """Features of real drawings: trained on, with their `files`; held out; asked for; and the others.

    `asked` and `others` are of names that the judge knows.
    """

    training: Tensor
    files: list[Path]
    held_out: Tensor
    asked: Tensor
    others: Tensor

    @classmethod
    def of(cls, judge: Judge, records: Sequence[Record], asked: Sequence[Request]) -> "Gallery":
        """Look at every drawing of a folder that was trained on, or is plain, once."""
        known = set(judge.recogniser.config.hexcodes)
        wanted = {(one.styles[0], one.hexcodes[0]) for one in asked}
        kept = [record for record in records if record.facts.get("split") == "train" or plain(record)]
        features = judge.look(opened(kept, SIDE), total=len(kept))
        splits = [str(record.facts.get("split")) for record in kept]
        pairs = [(str(record.facts.get("style")), str(record.facts.get("hexcode"))) for record in kept]
        ours = [plain(record) and pair[1] in known for record, pair in zip(kept, pairs, strict=True)]

        def chosen(which: Sequence[bool]) -> Float[Tensor, "n f"]:
            return features[torch.tensor(which)]

        is_trained = [split == "train" for split in splits]
        return cls(
            training=chosen(is_trained),
            files=[record.file for record, trained in zip(kept, is_trained, strict=True) if trained],
            held_out=chosen([not trained for trained in is_trained]),
            asked=chosen([own and pair in wanted for own, pair in zip(ours, pairs, strict=True)]),
            others=chosen([own and pair not in wanted for own, pair in zip(ours, pairs, strict=True)]),
        )

    def beside(self, painted: Float[Tensor, "n f"]) -> Cloud:
        """Paintings, and the drawings that were asked for, beside the others."""
        reference = gaussian(self.others)

        def within(cloud: Tensor, points: Tensor) -> float:
            return float(covered(cloud, points).float().mean())

        return Cloud(
            frechet=frechet_distance(reference, gaussian(painted)),
            real_frechet=frechet_distance(reference, gaussian(self.asked)),
            precision=within(self.others, painted),
            real_precision=within(self.others, self.asked),
            recall=within(painted, self.others),
            real_recall=within(self.asked, self.others),
        )
