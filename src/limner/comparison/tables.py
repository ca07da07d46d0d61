"""Every table of the report, as rows of text, the same in HTML and Markdown; and all numbers as CSV."""

import csv
import io
from dataclasses import dataclass

from limner.comparison.found import Comparison
from limner.comparison.panel import NAME as PANEL
from limner.comparison.panel import Question, turned
from limner.comparison.scores import MEASURES, Measure, Scored
from limner.evaluation.intervals import Estimate


@dataclass(frozen=True)
class Table:
    """A heading, what the table means, its header and rows."""

    heading: str
    before: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(of: Comparison) -> list[Table]:
    """All of them, in the order of the report; those that nothing is in are left out."""
    found = [*scores(of), costs(of), claims(of), *preferences(of), settings(of)]
    return [one for one in found if one.rows]


# What the measures are about, and which of them stand together.
GROUPS = (
    (
        "Is it what was asked for?",
        ("first", "five", "asked", "clip"),
        "Recognised by a judge that shares neither weights nor pictures with any painter; layouts "
        "(colours, counts, relations) are as asked where every part of it is. The CLIP score is 100 · cos "
        "of the picture with its words, by the CLIP that is named below: where it has chosen, guided or "
        "been painted from, it is asked about its own work.",
    ),
    (
        "Is it like real pictures?",
        ("frechet", "frechet_clip", "frechet_inception", "cmmd", "score", "precision"),
        "Fréchet distance and precision by features of EfficientNet-Lite0, CMMD by embeddings of CLIP: "
        "numbers that compare within this table and with no published one. The score is of {classifier}.",
    ),
    (
        "Is there variety, and is it new?",
        ("recall", "spread", "copies"),
        "Recall from one picture of each prompt, its interval from halves of the prompts, for a prompt drawn "
        "twice would be its own neighbour; the distance is the mean cosine distance between pictures "
        "of one prompt; a near-copy is nearer to a training picture than 99 in 100 of held-out real ones "
        "are.",
    ),
)


def scores(of: Comparison) -> list[Table]:
    """What everybody scores, by what it says; real drawings below."""
    by_key = {one.key: one for one in MEASURES}
    found = []
    for heading, keys, note in GROUPS:
        there = [by_key[key] for key in keys if any(key in one.numbers for one in of.rows())]
        rows = tuple((one.title, *(cell(one, measure) for measure in there)) for one in of.rows())
        # Its arrow stays with the last word of a title.
        header = ("", *(f"{one.title}\N{NO-BREAK SPACE}{'↑' if one.more else '↓'}" for one in there))
        said = note.replace("{classifier}", of.classifier)
        found.append(Table(heading, said, header, rows if there else ()))
    return found


def cell(one: Scored, measure: Measure) -> str:
    """A number and its interval, or a dash."""
    found = one.numbers.get(measure.key)
    return "–" if found is None else measure.written(found)


def costs(of: Comparison) -> Table:
    """Seconds and memory."""
    rows = []
    for one in of.painted:
        among, alone = ("–" if seconds is None else f"{seconds:.2f}" for seconds in (one.seconds, one.alone))
        held = "–" if one.megabytes is None else f"{one.megabytes:.0f}"
        rows.append((one.title, among, alone, held))
    return Table(
        "What does a picture cost?",
        "Seconds of a picture among those painted with it, candidates included, and of one alone in a "
        "process that has painted once before; and the most memory of that process above what it holds "
        "before any weights are loaded. All on the device that is named below; pictures that were painted on "
        "another one count for no seconds.",
        ("", "seconds, among others", "seconds, alone", "memory, MB"),
        tuple(rows),
    )


def claims(of: Comparison) -> Table:
    """What the papers found, and whether it held."""
    rows, last = list[tuple[str, ...]](), None
    for one in of.answers:
        # Each is said once, before the answers of all judges.
        claim, published, source = ("",) * 3 if one.claim == last else (one.claim, one.published, one.source)
        rows.append((claim, published, one.by, one.found, one.verdict, source))
        last = one.claim
    return Table(
        "Did the papers' claims hold?",
        f"Published preferences are people's, on COCO, of models far larger. Here a {PANEL} answers in "
        "their place: nothing in this table is a vote. A preference held where its whole interval is on "
        "the claimed side of a half; two are alike where it holds a half and goes no farther than ten "
        "points; a distance or score held where the intervals do not meet; of fewer than thirty prompts "
        "nothing is settled.",
        ("claim", "published", "by", "here", "verdict", "source"),
        tuple(rows),
    )


# By what a judge prefers, in the words of the report.
RULES: dict[Question, str] = {
    "realism": "how near a picture is to real ones (the realism score)",
    "caption": "how well it goes with its words",
    "diversity": "how far apart pictures of one prompt are",
}


def preferences(of: Comparison) -> list[Table]:
    """Everybody against everybody, a table for each question and judge."""
    titles = of.titles
    found = []
    for question, judge in sorted({(one.question, one.judge) for one in of.preferences}):
        asked = [one for one in of.preferences if (one.question, one.judge) == (question, judge)]
        won = {(one.first, one.second): one.won for one in asked}
        won |= {(one.second, one.first): turned(one).won for one in asked}
        names = [name for name in titles if any(name in pair for pair in won)]
        rows = tuple(
            (
                titles[row],
                *(won[row, column].percent() if (row, column) in won else "–" for column in names),
            )
            for row in names
        )
        before = (
            f"How often the {PANEL} prefers the row to the column, "
            f"{'prompt by prompt' if question == 'diversity' else 'picture by picture of the same prompt'}, "
            f"ties as half, by {RULES[question]}. A program has compared numbers; nobody has voted."
        )
        header = ("", *(titles[name] for name in names))
        found.append(Table(f"Stand-in panel: {question}, by {judge}", before, header, rows))
    return found


def settings(of: Comparison) -> Table:
    """With what all of it was made."""
    rows = [
        ("command", of.command),
        ("prompts", f"{len(of.prompts)} of {of.prompts_name}, SHA-256 {of.prompts_digest}"),
        ("pictures", f"{of.count} of each prompt, {of.size} pixels a side"),
        *of.settings.items(),
        *((one.title, f"weights {one.weights}, {one.settings}") for one in of.painted),
    ]
    return Table("Settings", "Hashes are the first digits of SHA-256 sums.", ("what", "how"), tuple(rows))


HEADER = ("entrant", "measure", "radius", "value", "low", "high", "total")


def as_csv(of: Comparison) -> str:
    """Every number: a line each, with the ends of its 95 % interval where it has one."""
    packed = io.StringIO()
    writer = csv.writer(packed, lineterminator="\n")
    writer.writerow(HEADER)

    def row(name: str, measure: str, found: Estimate, radius: str = "") -> None:
        writer.writerow((name, measure, radius, found.value, found.low, found.high, found.total))

    for one in of.rows():
        for key, found in one.numbers.items():
            row(one.name, key, found)
        for radius, numbers in one.blurred.items():
            for key, found in numbers.items():
                row(one.name, f"{key}_blurred", found, f"{radius:g}")
    for each in of.painted:
        for measure, value in (
            ("seconds", each.seconds),
            ("seconds_alone", each.alone),
            ("megabytes", each.megabytes),
        ):
            if value is not None:
                writer.writerow((each.name, measure, "", value, "", "", ""))
    for liked in of.preferences:
        row(f"{liked.first} over {liked.second}", f"panel: {liked.question}, {liked.judge}", liked.won)
    return packed.getvalue()
