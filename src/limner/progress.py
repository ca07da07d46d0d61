"""One bar for everything that takes a while: on stderr, and only where somebody is looking."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def watched(items: Iterable[T], doing: str, *, total: int | None = None) -> Iterator[T]:
    """The items, with a bar that says what is being `doing` and vanishes at the end."""
    console = Console(stderr=True)
    quiet = not console.is_terminal
    yield from track(items, doing, total=total, console=console, transient=True, disable=quiet)
