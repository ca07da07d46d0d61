"""Does re-ranking pay? How often that picture is recognised which CLIP likes best of 1, 4, 16 and 64.

Each name's candidates are painted once, and the best of n is the best of the first n by their seeds, which is
what `limner paint --candidates n` keeps. So every sample size is about the same names, and about the same
pictures as far as it goes. The judge, who is asked, is not the CLIP that chose.
Ramesh et al. 2021, section 2.6, where the measures are FID and IS.
"""

import dataclasses
import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from limner.errors import LimnerError
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.recognition import Judge, Recognised
from limner.evaluation.report import Asked, set_task
from limner.evaluation.table import replaced
from limner.progress import watched

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from limner.pipelines import Dalle1
    from limner.pipelines.stages import Ranked

NAME = "reranking"
SAMPLES = (1, 4, 16, 64)
# How many names the sheet shows: the judge's first, which the hash chose.
SHOWN = 8
CELL, GAP, MARGIN, LINE = 96, 6, 130, 16
FONT_SIZE = 12
HEADER = ("best of", "recognised, top-1", "top-5", "top-1, points above best of 1", "CLIP score")


@dataclass(frozen=True)
class Choice:
    """Of one name: for each of SAMPLES the picture that is chosen, and its CLIP score."""

    asked: Asked
    pictures: tuple[Image.Image, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is chosen of `n` candidates: how often it is recognised, and its mean CLIP score.

    `gain`: how much more often than the first candidate, top-1; the difference of two shares.
    """

    n: int
    recognised: Recognised
    gain: Estimate
    score: Estimate


@dataclass(frozen=True, kw_only=True)
class Reranking:
    """All sample sizes, and with what they were measured: `weights` are their digest."""

    weights: str
    names: int
    judge_names: int
    seed: int
    samples: list[Sample]


def run(painter: "Dalle1", data: Path, judge: Path, out: Path, *, names: int = 300, seed: int = 0) -> Path:
    """Paint 64 candidates for each of `names` names and ask the judge about the best of 1, 4, 16 and 64.

    `data`, `judge`: as for the report. `out` gets reranking.md, which it returns, and .json, the plot
    reranking.png, and reranking_sheet.png. Raises LimnerError, before anything is painted, where data and
    judge have no names in common or a part or package is missing.
    """
    plotter()
    task = set_task(data, judge, names=names, device=str(painter.device))
    choices = [chosen(painter, one, seed=seed) for one in watched(task.names, "painting candidates")]
    reranking = Reranking(
        weights=painter.digest,
        names=len(choices),
        judge_names=len(task.judge.names),
        seed=seed,
        samples=measured(task.judge, choices, seed=seed),
    )
    Console().print(Markdown(text(reranking)))
    return write(reranking, choices, out)


def chosen(painter: "Dalle1", asked: Asked, *, seed: int) -> Choice:
    """Paint all candidates of a name and choose among the first so many."""
    *_, last = painter.paint(asked.prompt, count=max(SAMPLES), seed=seed, stages=True)
    ranked = cast("Ranked", last)
    # They come best first; here they stand in the order of their seeds.
    order = torch.tensor([commission.seed for commission in ranked.commissions]).argsort()
    scores, images = ranked.scores[order], ranked.images()
    best = [best_of(scores, n) for n in SAMPLES]
    return Choice(
        asked,
        tuple(images[int(order[number])] for number in best),
        tuple(float(scores[number]) for number in best),
    )


def best_of(scores: Float[Tensor, "c"], n: int) -> int:
    """Which of the first `n` candidates has the highest score; of equals the first."""
    if not 1 <= n <= len(scores):
        raise ValueError(f"n is {n}: there are {len(scores)} candidates, so give 1 to {len(scores)}")
    return int(scores[:n].argmax())


def measured(judge: Judge, choices: Sequence[Choice], *, seed: int) -> list[Sample]:
    """The judge on what was chosen, for each of SAMPLES."""
    names = [choice.asked.name for choice in choices]
    pictures = [picture for choice in choices for picture in choice.pictures]
    features = judge.look(pictures, total=len(pictures))
    each = [features[column :: len(SAMPLES)] for column in range(len(SAMPLES))]
    hits = [(judge.places(seen, names) < 1).double() for seen in each]
    return [
        Sample(
            n=n,
            recognised=judge.of(each[column], names, seed=seed),
            gain=bootstrap((hits[column] - hits[0]).tolist(), names, seed=seed),
            score=bootstrap([choice.scores[column] for choice in choices], names, seed=seed),
        )
        for column, n in enumerate(SAMPLES)
    ]


def text(reranking: Reranking) -> str:
    """The table and what it means, as Markdown."""
    first = reranking.samples[0].recognised
    rows = [
        HEADER,
        ("---",) * len(HEADER),
        *(
            (
                str(sample.n),
                sample.recognised.top1.percent(),
                sample.recognised.top5.percent(),
                points(sample.gain),
                sample.score.decimal(),
            )
            for sample in reranking.samples
        ),
        ("guessing", f"{100 * first.chance1:.2f} %", f"{100 * first.chance5:.2f} %", "", ""),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    most = reranking.samples[-1].n
    return (
        f"{table}\n\nDALL-E 1 and its CLIP, weights {reranking.weights}; {reranking.names} names, {most} "
        f"candidates of each, painted once, with the seeds {reranking.seed} to {reranking.seed + most - 1}. "
        "The best of n has the highest CLIP score of the first n. The judge, which answers with one of "
        f"{reranking.judge_names} names, shares nothing with painter and CLIP. In brackets: 95 % intervals, "
        "Wilson's of shares, the bootstrap's over names of differences and scores. Shares are of the same "
        "names in every line, so that the difference is surer than the shares.\n"
    )


def points(gain: Estimate) -> str:
    """A difference of shares: "+8.0 (+2.5 to +13.5)"."""
    return f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def plotter() -> type["Figure"]:
    """What plots are drawn on. Raises LimnerError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LimnerError(
            'a plot needs matplotlib, which is not installed: pip install "limner[eval]"'
        ) from error
    return Figure


def plot(reranking: Reranking) -> "Figure":
    """Recognition by sample size, with intervals, above what guessing reaches."""
    figure = plotter()(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    sizes = [sample.n for sample in reranking.samples]
    # A little to each side, or one's interval would hide the other's.
    for name, colour, aside in (("top5", "tab:orange", 1.03), ("top1", "tab:blue", 0.97)):
        found: list[Estimate] = [getattr(sample.recognised, name) for sample in reranking.samples]
        chance = getattr(reranking.samples[0].recognised, name.replace("top", "chance"))
        places, told = [aside * n for n in sizes], name.replace("top", "top-")
        axes.plot(places, [100 * one.value for one in found], "o-", color=colour, label=told)
        low, high = [100 * one.low for one in found], [100 * one.high for one in found]
        axes.vlines(places, low, high, color=colour, linewidth=1.2)
        axes.axhline(100 * chance, color=colour, linestyle=":", label=f"{told}, guessing")
    axes.set_xscale("log", base=4)
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("candidates, of which CLIP keeps the best")
    axes.set_ylabel("recognised, %")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def sheet(choices: Sequence[Choice]) -> Image.Image:
    """A row for each name, the best of 1, 4, 16 and 64 side by side with their scores below."""
    width, height = CELL + GAP, CELL + GAP + LINE
    laid = Image.new("RGB", (MARGIN + len(SAMPLES) * width, LINE + GAP + len(choices) * height), "white")
    pen, font = ImageDraw.Draw(laid), ImageFont.load_default(size=FONT_SIZE)
    for column, n in enumerate(SAMPLES):
        pen.text((MARGIN + column * width, GAP // 2), f"best of {n}", fill="black", font=font)
    for row, choice in enumerate(choices):
        top = LINE + GAP + row * height
        prompt = "\n".join(textwrap.wrap(choice.asked.prompt, 20, max_lines=4, placeholder="…"))
        pen.multiline_text((GAP, top), prompt, fill="black", font=font)
        for column, (picture, score) in enumerate(zip(choice.pictures, choice.scores, strict=True)):
            left = MARGIN + column * width
            laid.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (left, top))
            pen.text((left, top + CELL), f"{score:.3f}", fill=(60, 60, 60), font=font)
    return laid


def write(reranking: Reranking, choices: Sequence[Choice], out: Path) -> Path:
    """All four files in `out`; the path of the table."""
    described = json.dumps(dataclasses.asdict(reranking), indent=2, ensure_ascii=False) + "\n"
    curve, pictures = io.BytesIO(), io.BytesIO()
    plot(reranking).savefig(curve, format="png")
    sheet(choices[:SHOWN]).save(pictures, format="PNG", optimize=True)
    replaced(out / f"{NAME}.json", described.encode())
    replaced(out / f"{NAME}.png", curve.getvalue())
    replaced(out / f"{NAME}_sheet.png", pictures.getvalue())
    replaced(out / f"{NAME}.md", text(reranking).encode())
    return out / f"{NAME}.md"
