"""A report on paper: Markdown to read, HTML to look at, CSV to work on; all of them without the network."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from limner.pipelines.png import write
from limner.vote.elo import Rating
from limner.vote.report import Measured, Pair
from limner.vote.schedule import Question
from limner.vote.significance import LEVEL, Bias
from limner.vote.tally import Voter

NAMES: dict[Question, str] = {
    "realism": "more real",
    "caption": "fits the caption",
    "diversity": "more varied",
}
# Points beyond which a rating is as good as none: 999 of 1000 matches won.
FAR = 1200
# Letters beyond which a cell may be broken: more are words, and would push the bars out of the page.
LONG = 30
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
body { color: #1d1f20; background: #f6f5f1 } h2 { margin-top: 2.2rem }
div { overflow-x: auto } table { border-collapse: collapse } th { text-align: left }
td, th { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #cfccc4; white-space: nowrap }
td.long { white-space: normal; min-width: 12rem }
p { max-width: 60rem } svg { display: block } svg line { stroke: #595c5e } svg .mark { stroke: #0f766e; fill:
#0f766e } @media (prefers-color-scheme: dark) { body { background: #151718; color: #e9e8e4 } td, th {
border-color: #43484b } svg line { stroke: #a9adaf } svg .mark { stroke: #2dd4bf; fill: #2dd4bf } }
"""


@dataclass(frozen=True)
class Section:
    """A table with a heading and what is to be known of it. `bars`: an interval in [0, 1] for each row."""

    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[tuple[float, float, float]] = ()


def save(measured: Measured, out: Path) -> list[Path]:
    """Write report.md, report.html and three tables into a folder; returns their paths."""
    found = sections(measured)
    files = {
        "report.md": markdown(measured, found),
        "report.html": html(measured, found),
        "win_rates.csv": _csv(WIN_COLUMNS, [_win_row(pair) for pair in measured.pairs]),
        "elo.csv": _csv(ELO_COLUMNS, _elo_rows(measured)),
        "raters.csv": _csv(RATER_COLUMNS, [_rater_row(voter) for voter in measured.voters]),
    }
    for name, text in files.items():
        write(out / name, text.encode())
    return [out / name for name in files]


# --- what is said -----------------------------------------------------------------------------------


def opening(measured: Measured) -> str:
    """Whose votes these are, in a sentence or two."""
    counted = [voter for voter in measured.voters if voter.counted]
    left_out = [voter.name for voter in measured.voters if not voter.counted]
    if measured.whose == "panel":
        who = (
            f"**No people were asked.** {measured.shown:,} answers of automatic judges "
            f"({', '.join(voter.name for voter in counted)}), which stand in for people and are no "
            "substitute."
        )
    else:
        who = f"{measured.shown:,} votes of {len(counted)} {'person' if len(counted) == 1 else 'people'}."
    return who + (f" Left out for failing the checks: {', '.join(left_out)}." if left_out else "")


def sections(measured: Measured) -> list[Section]:
    """Everything, table by table."""
    return [
        Section(
            "Win rates",
            "The share of votes that the first model has over the second, ties as half a win for each, with "
            "95 % intervals: Wilson's, with as many votes as the variance between prompts says they are "
            "worth, and the bootstrap over prompts. Both are of these raters on other prompts, not of other "
            "raters. p is of a test that changes over the models of whole prompts, after Holm for all lines; "
            f"settled is what has a p below {LEVEL} and a Wilson's interval without a half in it. What would "
            "settle the rest is reckoned at the present share, for a chance of 80 %.",
            (
                "question",
                "models",
                "votes (prompts)",
                "win rate, Wilson",
                "bootstrap",
                "ties",
                "p",
                "settled",
            ),
            [_win_line(pair) for pair in measured.pairs],
            [(pair.share.wilson.low, pair.share.value, pair.share.wilson.high) for pair in measured.pairs],
        ),
        *_majorities(measured),
        Section(
            "Elo",
            "Bradley and Terry's model by maximum likelihood, on Elo's scale with mean 0, ties as half: a "
            "lead of 100 points wins 64 % of matches. Intervals are the bootstrap's over prompts. A model "
            "that has never lost, or never won, has no finite rating, and neither have the others beside "
            "it.",
            ("question", "model", "points", "95 % interval"),
            [
                (
                    NAMES[question],
                    one.model,
                    _points(one.points),
                    f"{_points(one.low)} to {_points(one.high)}",
                )
                for question, found in measured.ratings.items()
                for one in found
            ],
        ),
        Section(
            "Agreement",
            "Between raters of the same pair: 1 is perfect, 0 is chance. Krippendorff's α is of all pairs "
            "with two votes or more, Fleiss's κ of those with the commonest number of votes.",
            ("question", "Krippendorff's α", "of", "Fleiss's κ", "of"),
            [_agreement_line(measured, question) for question in measured.agreement],
        ),
        Section(
            "Raters",
            "Checks are pairs whose answer is plain. Repeats are pairs that came again with sides "
            "swapped, and how many were answered alike; somebody who tosses a coin repeats half of them.",
            ("rater", "votes", "checks passed", "repeats alike", "left chosen", "median seconds", "counted"),
            [_rater_line(voter) for voter in measured.voters],
        ),
        Section(
            "Sides and order",
            "The first of two models stood on the left in "
            f"{measured.left:,} of {measured.shown:,} pairs ({100 * measured.left / measured.shown:.1f} "
            "%). A p below 0.05 says that raters leaned to a side, or changed their minds on the way. Late "
            "is the later half of what a rater answered to a question, and each is compared with their own "
            "early answers.",
            ("what", "chi-square", "degrees", "p"),
            [
                _bias_line("left chosen as often as right", measured.sides),
                _bias_line("early votes as late ones", measured.order),
            ],
        ),
    ]


def _majorities(measured: Measured) -> list[Section]:
    found = [(pair, pair.majority) for pair in measured.pairs if pair.majority is not None]
    if not found:
        return []
    of = found[0][1].of
    return [
        Section(
            f"Majority of {of}",
            f"Of the pairs of pictures with {of} votes or more, whom the first {of} of them preferred, "
            "ties as half to each. Wilson's intervals, for as many independent pairs.",
            ("question", "models", "pairs", "won", "lost", "tied", "win rate"),
            [
                (
                    NAMES[pair.question],
                    f"{pair.first} over {pair.second}",
                    *(f"{count:,}" for count in (one.share.total, one.won, one.lost, one.tied)),
                    one.share.percent(),
                )
                for pair, one in found
            ],
        )
    ]


def _win_line(pair: Pair) -> tuple[str, ...]:
    return (
        NAMES[pair.question],
        f"{pair.first} over {pair.second}",
        f"{pair.share.votes:,} ({pair.share.prompts:,})",
        pair.share.wilson.percent(),
        f"{100 * pair.share.bootstrap.low:.1f} to {100 * pair.share.bootstrap.high:.1f}",
        f"{100 * pair.share.ties:.1f} %",
        _chance(pair.adjusted),
        _settled(pair),
    )


def _settled(pair: Pair) -> str:
    if pair.settled:
        return "yes"
    if pair.more is None:
        return "no, and too even for any number of votes"
    if pair.more.prompts == 0:
        return "no, though there are enough votes for most such studies"
    return f"no: {pair.more.prompts:,} more prompts, {pair.more.votes:,} more votes"


def _agreement_line(measured: Measured, question: Question) -> tuple[str, ...]:
    found = measured.agreement[question]
    if found is None:
        return (NAMES[question], "–", "no pair with two votes", "–", "")
    return (
        NAMES[question],
        _number(found.alpha),
        f"{found.votes:,} votes on {found.units:,} pairs",
        _number(found.kappa),
        f"{found.same_units:,} pairs with {found.raters} votes",
    )


def _rater_line(voter: Voter) -> tuple[str, ...]:
    return (
        voter.name,
        f"{voter.votes:,}",
        f"{voter.passed} of {voter.checks}",
        f"{voter.same} of {voter.repeats}",
        f"{100 * voter.left / voter.sided:.0f} %" if voter.sided else "–",
        f"{voter.seconds:.1f}",
        "yes" if voter.counted else "no",
    )


def _bias_line(what: str, found: Bias | None) -> tuple[str, ...]:
    if found is None:
        return (what, "–", "", "–")
    return (what, f"{found.statistic:.2f}", str(found.degrees), _chance(found.p))


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _points(points: float | None) -> str:
    if points is None:
        return "none"
    return ("∞" if points > 0 else "-∞") if abs(points) > FAR else f"{points:+.0f}"


# --- how it is written ------------------------------------------------------------------------------

TITLES = {"people": "What people preferred", "panel": "What a stand-in panel preferred"}


def spelled(cell: str) -> str:
    """A cell of a Markdown table, of which nothing is markup."""
    return escape(cell, quote=False).replace("|", "\\|")


def markdown(measured: Measured, found: Sequence[Section]) -> str:
    """For reading as text."""
    parts = [f"# {TITLES[measured.whose]}", opening(measured)]
    for section in found:
        lines = [section.header, ("---",) * len(section.header), *section.rows]
        # Names are whatever raters typed: as text they stay text, wherever Markdown is shown.
        rows = ["| " + " | ".join(spelled(cell) for cell in line) + " |" for line in lines]
        parts += [f"## {section.title}", section.text, "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def html(measured: Measured, found: Sequence[Section]) -> str:
    """For looking at, in one file."""
    title = TITLES[measured.whose]
    told = escape(opening(measured)).replace(
        "**No people were asked.**", "<strong>No people were asked.</strong>"
    )
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{told}</p>"
    ]
    for section in found:
        head = "".join(f"<th scope=col>{escape(cell)}" for cell in section.header)
        body = ""
        for number, row in enumerate(section.rows):
            cells = "".join(f"<td{' class=long' if len(cell) > LONG else ''}>{escape(cell)}" for cell in row)
            body += f"<tr>{cells}{f'<td>{_bar(*section.bars[number])}' if section.bars else ''}"
        empty = "<th scope=col>0 to 100 %" if section.bars else ""
        parts.append(
            f"<h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>"
            f"<div><table><thead><tr>{head}{empty}<tbody>{body}</table></div>"
        )
    return "".join(parts) + "</html>\n"


def _bar(low: float, value: float, high: float) -> str:
    return (
        "<svg width=160 height=14 role=img aria-label='interval'><line x1=0 x2=160 y1=13 y2=13 />"
        "<line x1=80 x2=80 y1=0 y2=14 stroke-dasharray='2 2' />"
        f"<line class=mark x1={160 * low:.1f} x2={160 * high:.1f} y1=7 y2=7 stroke-width=2 />"
        f"<circle class=mark cx={160 * value:.1f} cy=7 r=3 /></svg>"
    )


WIN_COLUMNS = (
    *("question", "first", "second", "votes", "prompts", "win_rate", "wilson_low", "wilson_high"),
    *("bootstrap_low", "bootstrap_high", "ties", "worth", "p", "p_holm", "more_prompts", "more_votes"),
    *("majority_of", "majority_pairs", "majority_won", "majority_lost", "majority_tied", "majority_rate"),
    *("majority_low", "majority_high"),
)
ELO_COLUMNS = ("question", "model", "points", "low", "high")
RATER_COLUMNS = (
    *("rater", "votes", "checks", "passed", "repeats", "alike", "left", "sided", "median_seconds", "counted"),
)


def _win_row(pair: Pair) -> list[object]:
    found, won, wanted = pair.share, pair.majority, pair.more
    row: list[object] = [pair.question, pair.first, pair.second, found.votes, found.prompts, found.value]
    row += [found.wilson.low, found.wilson.high, found.bootstrap.low, found.bootstrap.high, found.ties]
    row += [found.worth, pair.p, pair.adjusted]
    row += ["", ""] if wanted is None else [wanted.prompts, wanted.votes]
    if won is None:
        return row + [""] * 8
    share = won.share
    return [*row, won.of, share.total, won.won, won.lost, won.tied, share.value, share.low, share.high]


def _elo_rows(measured: Measured) -> list[list[object]]:
    def row(question: Question, one: Rating) -> list[object]:
        return [question, one.model, "" if one.points is None else one.points, one.low, one.high]

    return [row(question, one) for question, found in measured.ratings.items() for one in found]


def _rater_row(voter: Voter) -> list[object]:
    counted = "yes" if voter.counted else "no"
    row: list[object] = [voter.name, voter.votes, voter.checks, voter.passed, voter.repeats, voter.same]
    return [*row, voter.left, voter.sided, voter.seconds, counted]


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows([_rounded(cell) for cell in row] for row in rows)
    return text.getvalue()


def _rounded(cell: object) -> object:
    return f"{cell:.6g}" if isinstance(cell, float) else cell
