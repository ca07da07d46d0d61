"""A learning curve as SVG, which is sharp at any size and takes its colours from the page."""

import math
from collections.abc import Sequence
from html import escape
from statistics import median

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34
# A point stands for so many steps that there are at most this many; each is the median of its steps.
POINTS = 160
TICKS = 4


def thinned(rows: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The same curve of few points, which one odd batch does not move."""
    each = max(1, math.ceil(len(rows) / POINTS))
    parts = [rows[start : start + each] for start in range(0, len(rows), each)]
    return [(part[-1][0], median(loss for _, loss in part)) for part in parts]


def curve(rows: Sequence[tuple[int, float]], name: str) -> str:
    """The loss over the steps of a part called `name`. ValueError for no steps."""
    if not rows:
        raise ValueError("rows is empty: a curve has at least one step")
    points = thinned(rows)
    last, low, high = max(1, points[-1][0]), min(y for _, y in points), max(y for _, y in points)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5

    def place(step: int | float, loss: int | float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        return across, TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / (high - low)

    line = " ".join(
        f"{'L' if number else 'M'}{x:.1f} {y:.1f}"
        for number, (x, y) in enumerate(place(*point) for point in points)
    )
    marks = []
    for number in range(TICKS + 1):
        loss = low + (high - low) * number / TICKS
        _, y = place(0, loss)
        marks.append(
            f'<line class="lm-axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(loss)}</text>'
        )
    for number in range(TICKS + 1):
        step = last * number / TICKS
        x, _ = place(step, low)
        anchor = "end" if number == TICKS else "start" if number == 0 else "middle"
        marks.append(f'<text x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="{anchor}">{step:.0f}</text>')
    told = f"{name}: loss {_short(points[0][1])} at first, {_short(points[-1][1])} at step {points[-1][0]}"
    return (
        f'<figure class="lm-curve-of"><svg class="lm-curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(told)}">{"".join(marks)}<path d="{line}"/></svg>'
        f"<figcaption>{escape(told)}</figcaption></figure>"
    )


def _short(loss: int | float) -> str:
    """A loss in as few digits as tell it from its neighbours."""
    return f"{loss:,.0f}" if abs(loss) >= 1000 else f"{loss:.3g}"
