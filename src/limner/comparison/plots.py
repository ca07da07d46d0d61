"""Two plots: every measure with its intervals, and what blur makes of distance and score."""

import io
from typing import TYPE_CHECKING

from limner.comparison.found import Comparison
from limner.comparison.scores import MEASURES
from limner.evaluation.reranking import plotter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 3
REAL = "0.45"


def measures(of: Comparison) -> "Figure":
    """A panel for each measure: a point and its interval for everybody, the best on the right."""
    rows = of.rows()
    there = [one for one in MEASURES if any(one.key in row.numbers for row in rows)]
    down = -(-len(there) // ACROSS)
    height = 0.75 + (0.27 * len(rows) + 0.55) * down
    figure = plotter()(figsize=(11, height), dpi=150, layout="constrained")
    grid = figure.subplots(down, ACROSS, squeeze=False, sharey=True)
    for number, axes in enumerate(grid.flat):
        if number >= len(there):
            axes.set_visible(False)
            continue
        measure = there[number]
        for place, row in enumerate(rows):
            if (found := row.numbers.get(measure.key)) is None:
                continue
            value, low, high = (measure.factor * end for end in (found.value, found.low, found.high))
            colour = REAL if row is of.real else f"C{place}"
            ends = [[max(0.0, value - low)], [max(0.0, high - value)]]
            axes.errorbar([value], [place], xerr=ends, fmt="o", color=colour, capsize=3, markersize=5)
        axes.set_title(measure.title, fontsize=9)
        axes.set_yticks(range(len(rows)), [row.title for row in rows], fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.grid(alpha=0.3)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        if not measure.more:
            axes.invert_xaxis()
    return figure


def blurring(of: Comparison) -> "Figure | None":
    """Distance and score by radius, a line for everybody; None where nothing was blurred."""
    if not any(radius for row in of.scores for radius in row.blurred):
        return None
    keys = {"frechet": "Fréchet distance", "score": "Inception-style score"}
    there = [key for key in keys if any(key in row.blurred[0.0] for row in of.scores)]
    figure = plotter()(figsize=(5.5 * len(there), 3.8), dpi=150, layout="constrained")
    for axes, key in zip(figure.subplots(1, len(there), squeeze=False).flat, there, strict=True):
        for place, row in enumerate(of.rows()):
            radii = sorted(radius for radius, numbers in row.blurred.items() if key in numbers)
            found = [row.blurred[radius][key] for radius in radii]
            colour = REAL if row is of.real else f"C{place}"
            label = row.title if key == there[0] else None
            axes.plot(radii, [one.value for one in found], "o-", color=colour, label=label, markersize=4)
            low, high = [one.low for one in found], [one.high for one in found]
            axes.fill_between(radii, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xlabel("radius of the blur, in pixels of a picture of 256")
        axes.set_ylabel(keys[key])
        axes.ticklabel_format(useOffset=False)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def png(figure: "Figure") -> bytes:
    """Its file."""
    packed = io.BytesIO()
    figure.savefig(packed, format="png")
    return packed.getvalue()
