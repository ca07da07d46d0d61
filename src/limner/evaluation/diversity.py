"""Does unCLIP stay varied where GLIDE does not, as guidance rises? The same prompts, scale by scale.

Ramesh et al. 2022, section 5.2 and figures 9 and 10: guided, GLIDE's pictures of a prompt grow alike, for
guidance acts on what they are of as well; unCLIP's do not, for that is settled in z_i before the decoder is
guided. As there, the prior's embeddings are held, and the decoder's scale alone changes.
"""

import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console
from rich.markdown import Markdown

from limner.errors import LimnerError
from limner.evaluation.coverage import spread
from limner.evaluation.intervals import Estimate, ratio
from limner.evaluation.report import set_task
from limner.evaluation.reranking import plotter
from limner.evaluation.table import replaced
from limner.evaluation.trials import (
    Painted,
    Trial,
    Variety,
    Way,
    judged,
    painted,
    real_features,
    table,
    variety,
)
from limner.pipelines.png import contact_sheet
from limner.pipelines.settings import GlideSettings, PaintSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from limner.pipelines import Dalle2, Glide

NAME = "diversity"
COUNT = 4
SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
UNCLIP, GLIDE = "unCLIP", "GLIDE"
SHOWN = 2
HEADER = (
    "painter",
    "guidance",
    "recognised, top-1",
    "top-5",
    "Fréchet distance",
    "precision",
    "recall",
    "distance within a prompt",
)


@dataclass(frozen=True, kw_only=True)
class Guided:
    """A painter at one scale."""

    trial: Trial
    variety: Variety


def run(
    dalle2: "Dalle2", glide: "Glide", data: Path, judge: Path, out: Path, *, names: int = 300, seed: int = 0
) -> Path:
    """Four pictures of each of `names` names by both at every scale; `out`/diversity.md, which it returns.

    Beside it .json, the plot .png, and a sheet. Raises LimnerError as `solvers.run` does, and for painters
    of different sizes.
    """
    plotter()
    if dalle2.sizes[0] != glide.sizes[0]:
        raise LimnerError(
            f"dalle2 paints {dalle2.sizes[0]} pixels at first and glide {glide.sizes[0]}: give lines of one "
            "resolution"
        )
    task = set_task(data, judge, names=names, device=str(dalle2.device))
    prompts = [one.prompt for one in task.names]
    labels = [one.name for one in task.names for _ in range(COUNT)]

    def by_unclip(asked: Sequence[str], settings: PaintSettings) -> list[Image.Image]:
        return dalle2.paint(asked, count=COUNT, size=dalle2.sizes[0], seed=seed, settings=settings)

    def by_glide(asked: Sequence[str], settings: GlideSettings) -> list[Image.Image]:
        return glide.paint(asked, count=COUNT, size=glide.sizes[0], seed=seed, settings=settings)

    ours = [Way(UNCLIP, scale, PaintSettings(guidance=scale)) for scale in SCALES]
    theirs = [Way(GLIDE, scale, GlideSettings(guidance=scale)) for scale in SCALES]
    found = painted(by_unclip, task.judge, prompts, ours) + painted(by_glide, task.judge, prompts, theirs)
    real = real_features(task, dalle2.sizes[0])
    guided = [
        Guided(
            trial=judged(one, task, real, labels, seed=seed),
            variety=variety(one, real, labels, count=COUNT, seed=seed),
        )
        for one in found
    ]
    kept = {line: left(found, line, labels, seed=seed) for line in (UNCLIP, GLIDE)}
    said = text(dalle2, glide, guided, kept, names=len(prompts), seed=seed)
    Console().print(Markdown(said))
    curve, laid = io.BytesIO(), io.BytesIO()
    plot(guided).savefig(curve, format="png")
    sheet(found, prompts).save(laid, format="PNG", optimize=True)
    known = {
        "weights": {UNCLIP: dalle2.digest, GLIDE: glide.digest},
        "precision": dalle2.precision,
        "names": len(prompts),
        "seed": seed,
        "guided": [dataclasses.asdict(one) for one in guided],
        "left": {line: one and dataclasses.asdict(one) for line, one in kept.items()},
    }
    replaced(out / f"{NAME}.json", (json.dumps(known, indent=2) + "\n").encode())
    replaced(out / f"{NAME}.png", curve.getvalue())
    replaced(out / f"{NAME}_sheet.png", laid.getvalue())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


def left(found: Sequence[Painted], line: str, names: Sequence[str], *, seed: int) -> Estimate | None:
    """What is left, at the largest scale, of the distance within a prompt at the smallest; None of none."""
    mine = [one for one in found if one.line == line]
    first, last = (spread(one.features, names) for one in (mine[0], mine[-1]))
    return ratio(last, first, list(dict.fromkeys(names)), seed=seed) if any(first) else None


def text(
    dalle2: "Dalle2",
    glide: "Glide",
    guided: Sequence[Guided],
    kept: dict[str, Estimate | None],
    *,
    names: int,
    seed: int,
) -> str:
    """The table and what it means, as Markdown."""
    rows = [
        (
            one.trial.line,
            f"{one.trial.place:g}",
            one.trial.recognised.top1.percent(),
            one.trial.recognised.top5.percent(),
            f"{one.trial.frechet:.1f}",
            f"{one.variety.precision:.2f}",
            f"{one.variety.recall:.2f}",
            one.variety.spread.decimal(),
        )
        for one in guided
    ]
    remains = " and ".join(
        f"{'none' if one is None else one.percent()} of {line}'s" for line, one in kept.items()
    )
    return (
        f"{table(HEADER, rows)}\n\nFrom guidance {SCALES[0]:g} to {SCALES[-1]:g} there is left of the "
        f"distance within a prompt {remains}. unCLIP, weights {dalle2.digest}, and GLIDE's base, weights "
        f"{glide.digest}, in {dalle2.precision}; {names} names, {COUNT} pictures of each from the seeds "
        f"{seed} to {seed + COUNT - 1}, the same in every row; unCLIP's prior as it is by default. Precision "
        "and recall: Kynkäänniemi et al. 2019, k = 3, between these pictures (for recall one of each name) "
        "and real drawings of these names; the last column is the mean cosine distance, in the judge's "
        "features, of pictures of one prompt. In brackets: 95 % intervals.\n"
    )


def plot(guided: Sequence[Guided]) -> "Figure":
    """Diversity by guidance, and fidelity by diversity in two measures of each; a line is a painter."""
    figure = plotter()(figsize=(12, 3.9), dpi=150, layout="constrained")
    rising, recognised, covering = figure.subplots(1, 3)
    for number, line in enumerate((UNCLIP, GLIDE)):
        mine = [one for one in guided if one.trial.line == line]
        colour, scales = f"C{number}", [one.trial.place for one in mine]
        apart = [one.variety.spread for one in mine]
        wide = [one.value for one in apart]
        top5 = [100 * one.trial.recognised.top5.value for one in mine]
        recall, precision = ([getattr(one.variety, name) for one in mine] for name in ("recall", "precision"))
        rising.plot(scales, wide, "o-", color=colour, label=line)
        rising.fill_between(
            scales, [one.low for one in apart], [one.high for one in apart], color=colour, alpha=0.15
        )
        for axes, x, y in ((recognised, wide, top5), (covering, recall, precision)):
            axes.plot(x, y, "o-", color=colour)
            for scale, *at in zip(scales, x, y, strict=True):
                axes.annotate(f" {scale:g}", tuple(at), fontsize=8, color=colour)
    for axes, across, up in (
        (rising, "guidance", "distance within a prompt"),
        (recognised, "distance within a prompt", "recognised among five, %"),
        (covering, "recall", "precision"),
    ):
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(alpha=0.3)
    rising.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def sheet(found: Sequence[Painted], prompts: Sequence[str]) -> Image.Image:
    """The first prompts, a row for each painter and scale."""
    shown = COUNT * min(SHOWN, len(prompts))
    pictures = [picture for one in found for picture in one.pictures[:shown]]
    captions = [f"{one.line} {one.place:g}: {prompts[i // COUNT]}" for one in found for i in range(shown)]
    return contact_sheet(pictures, captions, columns=shown)
