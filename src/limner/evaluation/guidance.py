"""Guided further, are pictures better and less varied? Both guidances, scale by scale.

Fidelity: recognition by the judge, and the score of a CLIP that did not guide. Diversity: recall of real
drawings, and the distance between pictures of one prompt. Nichol et al. 2021, figure 6 and section 5.1, found
classifier-free guidance better at the same diversity, but for what CLIP itself says, where CLIP's is.
"""

import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from rich.console import Console
from rich.markdown import Markdown

from limner.clip import Clip, ClipConfig
from limner.evaluation.intervals import Estimate, bootstrap
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
from limner.pipelines.embedding import clip_folder
from limner.pipelines.loading import loaded
from limner.pipelines.png import contact_sheet
from limner.pipelines.ranking import cosines
from limner.pipelines.settings import GlideSettings
from limner.text import ClipTokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from limner.pipelines import Glide

NAME = "guidance"
COUNT = 4
CLASSIFIER_FREE = (1.0, 2.0, 3.0, 5.0, 8.0)
CLIP = (1.0, 2.0, 5.0, 10.0, 20.0)
SHOWN = 3
HEADER = (
    "guidance",
    "scale",
    "recognised, top-1",
    "top-5",
    "CLIP score",
    "Fréchet distance",
    "precision",
    "recall",
    "distance within a prompt",
)


@dataclass(frozen=True, kw_only=True)
class Guided:
    """A scale of one kind of guidance, and what came of it."""

    trial: Trial
    score: Estimate
    variety: Variety


def ways() -> list[Way[GlideSettings]]:
    """Every scale of both kinds."""
    free = [Way("classifier-free", scale, GlideSettings(guidance=scale)) for scale in CLASSIFIER_FREE]
    clip = [Way("CLIP", scale, GlideSettings(guidance_kind="clip", clip_guidance=scale)) for scale in CLIP]
    return [*free, *clip]


def run(painter: "Glide", data: Path, judge: Path, out: Path, *, names: int = 300, seed: int = 0) -> Path:
    """Paint four pictures of each of `names` names at every scale; `out`/guidance.md, which it returns.

    Beside it .json, the plot .png, and a sheet. Raises LimnerError as `solvers.run` does.
    """
    plotter()
    task = set_task(data, judge, names=names, device=str(painter.device))
    labels = [one.name for one in task.names for _ in range(COUNT)]
    prompts = [one.prompt for one in task.names]
    clip = loaded(clip_folder(None), ClipConfig, Clip, painter.device)

    def paint(asked: Sequence[str], settings: GlideSettings) -> list[Image.Image]:
        return painter.paint(asked, count=COUNT, size=painter.sizes[0], seed=seed, settings=settings)

    found = painted(paint, task.judge, prompts, ways())
    real = real_features(task, painter.sizes[0])
    guided = [
        Guided(
            trial=judged(one, task, real, labels, seed=seed),
            score=bootstrap(scores(clip, prompts, one), labels, seed=seed),
            variety=variety(one, real, labels, count=COUNT, seed=seed),
        )
        for one in found
    ]
    said = text(painter, guided, names=len(prompts), seed=seed)
    Console().print(Markdown(said))
    curve, laid = io.BytesIO(), io.BytesIO()
    plot(guided).savefig(curve, format="png")
    sheet(found, prompts).save(laid, format="PNG", optimize=True)
    kept = {
        "weights": painter.digest,
        "precision": painter.precision,
        "names": len(prompts),
        "seed": seed,
        "guided": [dataclasses.asdict(one) for one in guided],
    }
    replaced(out / f"{NAME}.json", (json.dumps(kept, indent=2) + "\n").encode())
    replaced(out / f"{NAME}.png", curve.getvalue())
    replaced(out / f"{NAME}_sheet.png", laid.getvalue())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


def scores(clip: Clip, prompts: Sequence[str], found: Painted) -> list[float]:
    """The cosine of each picture with its prompt."""
    tokenizer = ClipTokenizer(clip.config.text.vocabulary)
    parts = [
        cosines(clip, tokenizer, prompt, found.pictures[COUNT * row : COUNT * (row + 1)])
        for row, prompt in enumerate(prompts)
    ]
    return [float(one) for one in torch.cat(parts)]


def text(painter: "Glide", guided: Sequence[Guided], *, names: int, seed: int) -> str:
    """The table and what it means, as Markdown."""
    weights = f"weights {painter.digest} in {painter.precision}"
    rows = [
        (
            one.trial.line,
            f"{one.trial.place:g}",
            one.trial.recognised.top1.percent(),
            one.trial.recognised.top5.percent(),
            one.score.decimal(),
            f"{one.trial.frechet:.1f}",
            f"{one.variety.precision:.2f}",
            f"{one.variety.recall:.2f}",
            one.variety.spread.decimal(),
        )
        for one in guided
    ]
    return (
        f"{table(HEADER, rows)}\n\nGLIDE's base, {weights}; {names} names, {COUNT} pictures of each, "
        f"from the seeds {seed} to {seed + COUNT - 1}, the same in every row. CLIP's guidance acts on the "
        "network that reads the words, at classifier-free scale 1. The score is by the CLIP of DALL-E 2, "
        "which does not guide here but was trained on the same pictures. Precision and recall: Kynkäänniemi "
        "et al. 2019, k = 3, between these pictures (for recall one of each name) and real drawings of these "
        "names; the last column is "
        "the mean cosine distance, in the judge's features, of pictures of one prompt. In brackets: 95 % "
        "intervals.\n"
    )


def plot(guided: Sequence[Guided]) -> "Figure":
    """Each measure of fidelity against each of diversity; a line is a kind, its points are scales."""
    figure = plotter()(figsize=(9, 7), dpi=150, layout="constrained")
    grid = figure.subplots(2, 2)
    fidelity = {
        "recognised among five, %": [100 * one.trial.recognised.top5.value for one in guided],
        "CLIP score": [one.score.value for one in guided],
    }
    diversity = {
        "recall": [one.variety.recall for one in guided],
        "distance within a prompt": [one.variety.spread.value for one in guided],
    }
    kinds = [one.trial.line for one in guided]
    for row, (good, heights) in zip(grid, fidelity.items(), strict=True):
        for axes, (wide, places) in zip(row, diversity.items(), strict=True):
            for number, kind in enumerate(dict.fromkeys(kinds)):
                mine = [i for i, each in enumerate(kinds) if each == kind]
                x, y = [places[i] for i in mine], [heights[i] for i in mine]
                axes.plot(x, y, "o-", color=f"C{number}", label=kind if axes is grid[0][0] else None)
                for i in mine:
                    at = (places[i], heights[i])
                    axes.annotate(f" {guided[i].trial.place:g}", at, fontsize=8, color=f"C{number}")
            axes.set_xlabel(wide)
            axes.set_ylabel(good)
            axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def sheet(found: Sequence[Painted], prompts: Sequence[str]) -> Image.Image:
    """The first prompts, a row for each scale."""
    shown = COUNT * min(SHOWN, len(prompts))
    pictures = [picture for one in found for picture in one.pictures[:shown]]
    captions = [f"{one.line} {one.place:g}: {prompts[i // COUNT]}" for one in found for i in range(shown)]
    return contact_sheet(pictures, captions, columns=shown)
