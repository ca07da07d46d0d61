"""The table of the fixed evaluation, as Markdown, and its two sheets."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from limner.evaluation.emoji600 import GROUPS, Group, Request
from limner.evaluation.intervals import Estimate
from limner.evaluation.marks import SIDE, at_side
from limner.evaluation.suite_scores import Row, Scores, Shown
from limner.evaluation.trials import table
from limner.pipelines.png import contact_sheet

HEADER = ("asked", "right", "painter", "real drawings", "painter, of real", "knowing nothing")
TITLES: dict[Group, str] = {
    "name": "names in a trained style",
    "pair": "unseen pairs of style and name",
    "paraphrase": "paraphrases",
    "colour": "unseen colour bindings",
    "relation": "unseen relations",
    "count": "unseen counts",
}
COLUMNS, GAP, HEADING = 25, 4, 24
COPIES = 16


def text(scores: Scores, of: str) -> str:
    """The table and what it means; `of` says whose pictures they are."""
    cloud, copying = scores.cloud, scores.copying
    beyond = copying.beyond
    lines = [
        *(line(row) for row in scores.rows),
        ("single drawings", "Fréchet distance", f"{cloud.frechet:.1f}", f"{cloud.real_frechet:.1f}", "", ""),
        ("", "precision", f"{cloud.precision:.2f}", f"{cloud.real_precision:.2f}", "", ""),
        ("", "recall", f"{cloud.recall:.2f}", f"{cloud.real_recall:.2f}", "", ""),
        (
            "",
            "cosine with the nearest training picture, median",
            f"{copying.median:.3f}",
            f"{copying.real_median:.3f}",
            "",
            "",
        ),
        ("", f"nearer than {copying.threshold:.3f}: copies?", beyond.percent(), "1 %", "", ""),
    ]
    return (
        f"{table(HEADER, lines)}\n\n{of}; list {scores.prompts}, seed {scores.seed}, one picture of each "
        f"prompt, looked at at {SIDE} pixels. The judge answers with one of {scores.judge_names} names; "
        '"first answer" is of these, "among five" of its first five. Real drawings: of the same style and '
        "name, or composed of such drawings as the prompt says; the judge has seen none of them, and what "
        "it makes of them is the ceiling. Things of scenes are cut out, and each must be among five. Which "
        "of two things is which is what the judge holds likelier, so that half of the relations that are of "
        "the right axis are right by chance. Who knows nothing answers with any "
        "name, or paints the real scene of the next prompt of the group. Single drawings are the first three "
        "groups, beside drawings of the judge's names that are not asked for; the nearest training picture "
        "is by the judge's features, and its threshold is what one in a hundred held-out drawings passes. In "
        "brackets: 95 % intervals, Wilson's, or the bootstrap's over names where a name is asked for several "
        "times; where that has no width, Wilson's of the names.\n"
    )


def line(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    return (
        f"{' and '.join(TITLES[group] for group in row.groups)} ({row.painted.total})",
        row.mark,
        row.painted.percent(),
        row.real.percent(),
        "" if row.of_real is None else of_real(row.of_real),
        f"{100 * row.nothing:.1f} %",
    )


def of_real(found: Estimate) -> str:
    """The ratio; that of none is none, and nothing can be said of how sure."""
    return found.percent() if found.low < found.high else f"{100 * found.value:.1f} %"


def sheet(asked: Sequence[Request], shown: Shown) -> Image.Image:
    """Every picture, 25 to a row, in the order of the list, under the headings of its groups."""
    blocks = [
        (group, [p for one, p in zip(asked, shown.pictures, strict=True) if one.group == group])
        for group in GROUPS
    ]
    step = SIDE + GAP
    high = sum(HEADING + step * -(-len(pictures) // COLUMNS) for _, pictures in blocks)
    laid = Image.new("RGB", (COLUMNS * step + GAP, high + GAP), "white")
    pen, font = ImageDraw.Draw(laid), ImageFont.load_default(size=14)
    top = 0
    for group, pictures in blocks:
        pen.text((GAP, top + 4), TITLES[group], fill="black", font=font)
        top += HEADING
        for number, picture in enumerate(pictures):
            row, column = divmod(number, COLUMNS)
            laid.paste(picture, (GAP + column * step, top + row * step))
        top += step * -(-len(pictures) // COLUMNS)
    return laid


def copies(asked: Sequence[Request], shown: Shown) -> Image.Image:
    """The 16 paintings that are most like a training picture, each before it."""
    pictures, captions = [], []
    for cosine, number, file in shown.nearest[:COPIES]:
        with Image.open(file) as opened:
            pictures += [shown.pictures[number], at_side(opened)]
        captions += [asked[number].prompt, f"{cosine:.3f}: {file.parent.name}/{file.name}"]
    return contact_sheet(
        [picture.resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST) for picture in pictures],
        captions,
        columns=8,
    )


def failing(asked: Sequence[Request], shown: Shown) -> str:
    """What was asked for and what is wrong with it, as a table under a heading."""
    if not shown.failures:
        return ""
    lines = [(TITLES[asked[one.number].group], asked[one.number].prompt, one.wrong) for one in shown.failures]
    return (
        f"\n## {len(lines)} failures\n\n"
        "Pictures that are not right, of every group in turn, chosen by a hash of the prompt.\n\n"
        f"{table(('group', 'asked for', 'what is wrong'), lines)}\n"
    )


def failures(asked: Sequence[Request], shown: Shown) -> Image.Image:
    """These pictures, each above what it was to show and what is wrong."""
    faults = shown.failures
    return contact_sheet(
        [shown.pictures[one.number].resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST) for one in faults],
        [f"{asked[one.number].prompt}: {one.wrong}" for one in faults],
        columns=8,
    )
