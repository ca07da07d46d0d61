"""The bar of a painting, which appears when there is somebody to see it and something to wait for."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limner.pipelines.progress import Tick

PATIENCE = 2.0


@contextmanager
def progress() -> Iterator[Callable[["Tick"], None]]:
    """A bar on stderr, if that is a terminal and the work takes more than two seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    began = time.monotonic()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    # Standard output is for paths alone, so rich must not take it over.
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=False)
    task = bar.add_task("")

    def on_tick(tick: "Tick") -> None:
        bar.update(task, description=tick.doing, completed=tick.done, total=tick.total)
        if console.is_terminal and time.monotonic() - began > PATIENCE:
            bar.start()

    try:
        yield on_tick
    finally:
        # Stopping a bar that never started would print an empty line.
        if bar.live.is_started:
            bar.stop()
