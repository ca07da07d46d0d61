"""What training tells people: its cost before it starts, a bar while it runs, a verdict on its health."""

import json
import math
import os
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress_bar(console: Console, *, disable: bool) -> Progress:
    """The bar of a run: name, steps, pictures a second, loss, time gone and time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=disable,
    )


def in_words(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@dataclass
class History:
    """The losses, baselines, clipped steps and last values of a run, and the file they are appended to."""

    path: Path
    losses: list[float] = field(default_factory=list)
    clipped: list[bool] = field(default_factory=list)
    last: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=50))
    baseline: float = math.nan

    def rewind(self, step: int, *, clip_norm: float) -> None:
        """Go back to how things stood before `step`, in memory and in the file.

        A killed run has written lines, the last perhaps half, about steps that are now taken again.
        """
        self.losses, self.clipped, kept = [], [], []
        self.last.clear()
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                row = json.loads(line)
            except ValueError:
                break
            if row["step"] >= step:
                break
            kept.append(line + "\n")
            self.losses.append(row["loss"])
            self.last.append(row)
            self.clipped.append(row["gradient"] > clip_norm)
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, self.path)

    def add(self, step: int, values: Mapping[str, float], *, baseline: float, clipped: bool) -> None:
        """Remember one step, and write it as a line of JSON."""
        self.losses.append(values["loss"])
        self.last.append(values)
        self.clipped.append(clipped)
        self.baseline = baseline
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n")

    def recent(self, name: str = "loss") -> float:
        """The median of the last values of that name, which one odd batch does not move."""
        return statistics.median(values[name] for values in self.last if name in values)


def verdict(history: History, warning: str | None = None, *, rivals: bool = False) -> str:
    """One line on how a run is doing, and what to try if it is not doing well.

    `warning`: what the objective says of the model itself, which the loss may not show; it comes first.
    `rivals`: the loss is of a game, and stands still where neither side gains on the other.
    """
    if not history.losses:
        return "no step taken yet"
    loss, baseline = history.recent(), history.baseline
    share = statistics.mean(history.clipped)
    early = statistics.median(history.losses[: max(1, len(history.losses) // 10)])
    found = f"loss {loss:.4g} against {baseline:.4g} for a model that knows nothing"
    for name in history.last[-1]:
        mean = f"{name}_of_mean"
        if mean in history.last[-1]:
            found += f", {name} {history.recent(name):.3f} against {history.recent(mean):.3f} for the mean"
    if warning is not None:
        return f"{warning}; {found}"
    if len(history.losses) < 100:
        return f"too early to say: {found}"
    if share > 0.5:
        return f"UNSTEADY: {found}; {share:.0%} of steps were clipped: try half the learning rate"
    if loss > 0.98 * baseline:
        return f"NOT LEARNING: {found}: check captions and pictures, or raise the learning rate"
    if not rivals and len(history.losses) > 200 and loss > 0.98 * early:
        return f"STALLED: {found}, and {early:.4g} early on: try another learning rate or a larger model"
    return f"healthy: {found}; {share:.0%} of steps clipped"
