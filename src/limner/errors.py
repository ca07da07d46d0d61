"""The one exception that is meant for people: a message that says what is wrong and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LimnerError(Exception):
    """Something outside the program's reach is missing or broken; the message names it and the remedy.

    The command prints the message as one line and exits with status 2.
    """


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Whatever the system refuses within, such as to look into a folder, as a LimnerError that names it."""
    try:
        yield
    except OSError as error:
        raise LimnerError(refused(error, path)) from error


def refused(error: OSError, path: Path | None = None) -> str:
    """What the system refused, in one line; `path` where it does not say of which file."""
    where = error.filename if error.filename is not None else path
    said = error.strerror or str(error) or type(error).__name__
    return said if where is None else f"cannot use {where}: {said}"


def printable(text: str) -> str:
    """A text of somebody else's in one line, and what would command a terminal spelled out."""
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
