"""How many evaluations does a picture need? Each sampler at several numbers of them, on trained weights.

Recognition and Fréchet distance against evaluations of the base network, from the same seeds, beside 250
ancestral steps, which is what GLIDE's figures were computed with. `benchmarks/solvers.py` measures the
solvers' own error, where the answer is known.
"""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console
from rich.markdown import Markdown

from limner.evaluation.intervals import Estimate
from limner.evaluation.report import set_task
from limner.evaluation.reranking import plotter, points
from limner.evaluation.table import replaced
from limner.evaluation.trials import Painted, Trial, Way, difference, judged, painted, real_features, table
from limner.pipelines.settings import GLIDE_STEPS, SAMPLER, GlideSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from limner.pipelines import Glide

NAME = "solvers"
EVALUATIONS = (5, 10, 20, 40)
# Steps of the sampler that all are compared with.
LONG = 250
HEADER = (
    "sampler",
    "evaluations",
    "recognised, top-1",
    "top-5",
    f"top-5, points above ancestral {LONG}",
    "Fréchet distance",
)


def ways() -> list[Way[GlideSettings]]:
    """Every sampler at every number of evaluations, the long one last."""
    found = []
    for sampler in ("dpm++", "ddim", "heun", "ancestral"):
        for evaluations in EVALUATIONS:
            # Heun asks twice a step, but once in the last.
            steps = (evaluations + 1) // 2 if sampler == "heun" else evaluations
            asked = 2 * steps - 1 if sampler == "heun" else steps
            found.append(Way(sampler, float(asked), GlideSettings(sampler=sampler, steps=steps)))
    return [*found, Way("ancestral", float(LONG), GlideSettings(sampler="ancestral", steps=LONG))]


def run(painter: "Glide", data: Path, judge: Path, out: Path, *, names: int = 300, seed: int = 0) -> Path:
    """Paint each of `names` names in every way; `out`/solvers.md, which it returns, .json and .png.

    Raises LimnerError where data and judge have no names in common or a part or package is missing.
    """
    plotter()
    task = set_task(data, judge, names=names, device=str(painter.device))
    labels = [one.name for one in task.names]

    def paint(prompts: Sequence[str], settings: GlideSettings) -> list[Image.Image]:
        return painter.paint(prompts, size=painter.sizes[0], seed=seed, settings=settings)

    found = painted(paint, task.judge, [one.prompt for one in task.names], ways())
    real = real_features(task, painter.sizes[0])
    trials = [judged(one, task, real, labels, seed=seed) for one in found]
    apart = [difference(one, found[-1], task, labels, seed=seed) for one in found]
    said = text(painter, trials, apart, names=len(labels), seed=seed)
    Console().print(Markdown(said))
    curve = io.BytesIO()
    plot(trials).savefig(curve, format="png")
    kept = {
        "weights": painter.digest,
        "precision": painter.precision,
        "names": len(labels),
        "seed": seed,
        "trials": [dataclasses.asdict(one) for one in trials],
        "above the last": [dataclasses.asdict(one) for one in apart],
    }
    replaced(out / f"{NAME}.json", (json.dumps(kept, indent=2) + "\n").encode())
    replaced(out / f"{NAME}.png", curve.getvalue())
    replaced(out / f"{NAME}.md", said.encode())
    sheet(found, out)
    return out / f"{NAME}.md"


def sheet(found: Sequence[Painted], out: Path, *, shown: int = 10) -> None:
    """The first pictures of every way, a row each."""
    from limner.pipelines.png import contact_sheet

    pictures = [picture for one in found for picture in one.pictures[:shown]]
    captions = [f"{one.line} {one.place:g}" for one in found for _ in one.pictures[:shown]]
    packed = io.BytesIO()
    columns = len(found[0].pictures[:shown])
    contact_sheet(pictures, captions, columns=columns).save(packed, format="PNG", optimize=True)
    replaced(out / f"{NAME}_sheet.png", packed.getvalue())


def text(
    painter: "Glide", trials: Sequence[Trial], apart: Sequence[Estimate], *, names: int, seed: int
) -> str:
    """The table and what it means, as Markdown."""
    weights = f"weights {painter.digest} in {painter.precision}"
    rows = [
        (
            trial.line,
            f"{trial.place:g}",
            trial.recognised.top1.percent(),
            trial.recognised.top5.percent(),
            points(gap),
            f"{trial.frechet:.1f}",
        )
        for trial, gap in zip(trials, apart, strict=True)
    ]
    return (
        f"{table(HEADER, rows)}\n\nGLIDE's base, {weights}; {names} names, one picture of each from "
        f"the seed {seed}, at guidance {GlideSettings().guidance:g}. The default is {SAMPLER} with "
        f"{GLIDE_STEPS}. Guided, the network is asked twice at each evaluation, in one batch. Fréchet "
        "distance: of the judge's features from real drawings of these names at the same size; from so few "
        "pictures it is too large, and alike so in every row. In brackets: 95 % intervals, of the "
        "differences by the bootstrap over names.\n"
    )


def plot(trials: Sequence[Trial]) -> "Figure":
    """Recognition, and Fréchet distance beside it, by evaluations."""
    figure = plotter()(figsize=(9, 3.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, line in enumerate(dict.fromkeys(trial.line for trial in trials)):
        mine = [trial for trial in trials if trial.line == line]
        places = [trial.place for trial in mine]
        colour = f"C{number}"
        top5 = [trial.recognised.top5 for trial in mine]
        aside = [place * (0.97 + 0.02 * number) for place in places]
        left.plot(aside, [100 * one.value for one in top5], "o-", color=colour, label=line)
        left.vlines(
            aside,
            [100 * one.low for one in top5],
            [100 * one.high for one in top5],
            color=colour,
            linewidth=1,
        )
        right.plot(places, [trial.frechet for trial in mine], "o-", color=colour)
    left.axhline(100 * trials[0].recognised.chance5, color="grey", linestyle=":", label="guessing")
    left.set_ylabel("recognised among five, %")
    right.set_ylabel("Fréchet distance")
    left.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks([5, 10, 20, 40, LONG], ["5", "10", "20", "40", str(LONG)])
        axes.minorticks_off()
        axes.set_xlabel("evaluations")
        axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    return figure
