"""What autoencoders return, laid out: the tables of their report, and originals above reconstructions."""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from einops import rearrange
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from limner.data.folder import Record
from limner.data.splits import fraction
from limner.evaluation.intervals import Estimate
from limner.evaluation.reconstruction import WordUse
from limner.evaluation.table import replaced

NAME = "reconstructions"
# Groups of emoji that are told apart, by what the report calls them.
GROUPS = {"faces": "smileys-emotion", "flags": "flags"}
# How many pictures the sheet shows of each of these, and of everything else.
EACH, OTHERS = 3, 6
CELL, GAP, MARGIN = 128, 4, 100
# How many of those that are lost are shown of each model.
LOST = 16
FONT_SIZE = 13


@dataclass(frozen=True, kw_only=True)
class Known:
    """Shares of reconstructions and of originals that are recognised, and the former's part of the latter.

    `ratio`: None where no original is recognised.
    """

    reconstructions: Estimate
    originals: Estimate
    ratio: Estimate | None


@dataclass(frozen=True)
class Lost:
    """The number of a drawing that is not recognised any more, its name and style, and what is seen."""

    number: int
    name: str
    style: str
    taken_for: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model: PSNR in dB, SSIM, Fréchet distance, bits a picture, the words of each grid.

    `judged`: recognition by the judge; `matched`: by drawings of other styles; both by group, "all" first.
    `lost`: some that other styles' drawings would find, had they not gone through the model.
    """

    model: str
    weights: str
    size: int
    psnr: Estimate
    ssim: Estimate
    distance: float
    bits: Estimate
    words: dict[str, WordUse]
    judged: dict[str, Known]
    matched: dict[str, Known]
    lost: list[Lost]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All models, on so many `pictures` of so many `concepts`; `absent` are those that were not there."""

    rows: list[Measured]
    pictures: int
    concepts: int
    judge_names: int
    seed: int
    absent: list[str]


LIKENESS = ("model", "pixels", "bits", "PSNR, dB", "SSIM", "Fréchet", "words used", "perplexity")
RECOGNITION = ("model", "recognised", "pictures", "reconstructions", "originals", "ratio")


def likeness(row: Measured) -> tuple[str, ...]:
    """A model's line of the first table."""

    def each(said: Mapping[str, str]) -> str:
        return ", ".join(words if len(said) == 1 else f"{name} {words}" for name, words in said.items())

    used = {
        name: f"{use.used} of {use.vocabulary} ({100 * use.share:.0f} %)" for name, use in row.words.items()
    }
    return (
        row.model,
        str(row.size),
        f"{row.bits.value:,.0f}",
        f"{row.psnr.value:.2f} ({row.psnr.low:.2f} to {row.psnr.high:.2f})",
        row.ssim.decimal(),
        f"{row.distance:.1f}",
        each(used),
        each({name: f"{use.perplexity:.0f}" for name, use in row.words.items()}),
    )


def recognition(row: Measured) -> list[tuple[str, ...]]:
    """A model's lines of the second table."""
    return [
        (
            row.model,
            f"{by}, {group}",
            str(known.reconstructions.total),
            known.reconstructions.percent(),
            known.originals.percent(),
            "" if known.ratio is None else known.ratio.percent(),
        )
        for by, groups in (("by the judge", row.judged), ("by another style", row.matched))
        for group, known in groups.items()
    ]


def text(report: Report) -> str:
    """Both tables and what they mean, as Markdown."""
    first = [LIKENESS, ("---",) * len(LIKENESS), *(likeness(row) for row in report.rows)]
    second = [RECOGNITION, ("---",) * len(RECOGNITION)]
    second += [line for row in report.rows for line in recognition(row)]
    tables = ["\n".join(f"| {' | '.join(line)} |" for line in table) for table in (first, second)]
    sizes = ", ".join(f"{24 * side**2:,}" for side in sorted({row.size for row in report.rows}))
    weights = ", ".join(f"{row.model} {row.weights}" for row in report.rows if row.weights)
    notes = (
        f"{report.pictures} pictures of {report.concepts} concepts that no training has seen, on white; "
        f"weights {weights}; seed {report.seed}. Uncompressed, a picture has {sizes} bits. Those of the VAE "
        "are KL / ln 2, what sending a draw from q(z|x) costs, while its pictures are of the mean, which is "
        "a little kinder. In brackets: 95 % intervals, the bootstrap's over concepts. Fréchet distances are "
        "between EfficientNet-Lite0 features of reconstructions and of their originals. Recognised by the "
        f"judge: its first answer, of {report.judge_names} names, is right, where it knows the name; by "
        "another style: of the other styles' drawings of these concepts the most alike shows the same "
        'thing. Faces are the group "smileys-emotion". Ratio: of originals at the same size. The mean '
        "picture is what somebody returns who is told nothing."
    )
    strangers = [group for group in GROUPS if not any(group in row.judged for row in report.rows)]
    lacking = ""
    if strangers:
        lacking += f"\n\nNot judged, for the judge knows no names of them: {', '.join(strangers)}."
    if report.absent:
        lacking += f"\n\nNot measured, for want of weights: {', '.join(report.absent)}."
    return "\n\n".join(tables) + f"\n\n{notes}{lacking}\n{losses(report)}"


def losses(report: Report) -> str:
    """Of each model, drawings that are taken for another thing once they have gone through it."""
    lines = [
        (row.model, ", ".join(f"{one.name} ({one.style}) for {one.taken_for}" for one in row.lost))
        for row in report.rows
        if row.lost and row.weights
    ]
    if not lines:
        return ""
    table = "\n".join(f"| {' | '.join(line)} |" for line in [("model", "taken for"), ("---",) * 2, *lines])
    return (
        f"\n## Failures\n\nAt most {LOST} of each model, chosen by a hash: before, another style's drawing "
        f"of the same thing is the most alike, and after, one of another thing.\n\n{table}\n"
    )


def show(report: Report) -> None:
    """The tables on the screen."""
    Console().print(Markdown(text(report)))


def write(report: Report, out: Path) -> Path:
    """`reconstructions.md` and `.json` in `out`; the path of the former."""
    described = json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False) + "\n"
    replaced(out / f"{NAME}.json", described.encode())
    replaced(out / f"{NAME}.md", text(report).encode())
    return out / f"{NAME}.md"


def chosen(records: Sequence[Record]) -> list[int]:
    """Whom the sheet shows: of faces, of flags and of the rest those that the hash puts first."""

    def place(row: int) -> float:
        facts = records[row].facts
        return fraction("reconstructions", str(facts.get("style")), str(facts.get("hexcode")))

    order = sorted(range(len(records)), key=place)
    shown: list[int] = []
    for group in GROUPS.values():
        shown += [row for row in order if records[row].facts.get("group") == group][:EACH]
    rest = [row for row in order if records[row].facts.get("group") not in GROUPS.values()]
    return shown + rest[:OTHERS]


def contact_sheet(
    records: Sequence[Record], panels: Mapping[str, Float[Tensor, "n 3 _s _s"]], out: Path
) -> Path:
    """A row of originals, and below it one of each model's reconstructions: `out`/reconstructions.png.

    `panels`: pictures in [-1, 1] of all records, by what stands at the left of their row.
    """
    columns = chosen(records)
    sheet = Image.new(
        "RGB", (MARGIN + len(columns) * (CELL + GAP), len(panels) * (CELL + GAP) + GAP), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT_SIZE)
    for line, (name, pictures) in enumerate(panels.items()):
        top = GAP + line * (CELL + GAP)
        pen.text((GAP, top + CELL // 2), name, fill="black", font=font, anchor="lm")
        levels = ((pictures[columns].clamp(-1, 1) + 1) * 127.5).round().byte()
        for column, pixels in enumerate(rearrange(levels, "n c h w -> n h w c").numpy()):
            # Small pictures are shown with every pixel as a square: nothing is smoothed over.
            way = Image.Resampling.NEAREST if len(pixels) <= CELL else Image.Resampling.LANCZOS
            cell = Image.fromarray(pixels).resize((CELL, CELL), way)
            sheet.paste(cell, (MARGIN + column * (CELL + GAP), top))
    packed = io.BytesIO()
    sheet.save(packed, format="PNG", optimize=True)
    replaced(out / f"{NAME}.png", packed.getvalue())
    return out / f"{NAME}.png"


def failures(rows: Sequence[Measured], panels: Mapping[str, Float[Tensor, "n 3 _s _s"]], out: Path) -> None:
    """What is lost, original above what came back, two lines a model: `out`/reconstructions_failures.png."""
    models = [row for row in rows if row.lost and row.model in panels]
    if not models:
        return
    cell = CELL // 2 + GAP
    sheet = Image.new("RGB", (MARGIN + LOST * cell, 2 * len(models) * cell + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT_SIZE)
    for line, row in enumerate(models):
        pen.text((GAP, GAP + (2 * line + 1) * cell), row.model, fill="black", font=font, anchor="lm")
        for half, pictures in enumerate((panels["originals"], panels[row.model])):
            levels = ((pictures[[one.number for one in row.lost]].clamp(-1, 1) + 1) * 127.5).round().byte()
            for column, pixels in enumerate(rearrange(levels, "n c h w -> n h w c").numpy()):
                small = Image.fromarray(pixels).resize((CELL // 2, CELL // 2), Image.Resampling.LANCZOS)
                sheet.paste(small, (MARGIN + column * cell, GAP + (2 * line + half) * cell))
    packed = io.BytesIO()
    sheet.save(packed, format="PNG", optimize=True)
    replaced(out / f"{NAME}_failures.png", packed.getvalue())
