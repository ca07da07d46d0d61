"""Pictures that are fetched by their address: in a folder, for a while, under names that nobody guesses.

What is handed out is looked up among the names given away, never in the file system, so a path that was
thought up leads nowhere.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from limner.pipelines.png import write
from limner.server.folder import Folder

# Bytes of randomness in a name.
UNGUESSABLE = 24


@dataclass(frozen=True)
class Kept:
    """Where a picture lies, how many bytes it has, and until when it is kept."""

    path: Path
    size: int
    until: float


class Gallery:
    """Pictures with a lifetime in seconds; past `most` bytes the oldest go first.

    `now`: seconds on a clock that never goes back.
    """

    def __init__(self, *, lifetime: float, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.lifetime = lifetime
        self._most = most
        self._now = now
        self._folder = Folder()
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where the pictures lie."""
        return self._folder.path

    def add(self, png: bytes) -> str:
        """Keep a picture; returns its name. LimnerError where it cannot be written."""
        name = f"{secrets.token_urlsafe(UNGUESSABLE)}.png"
        path = self.folder / name
        with self._lock:
            write(path, png)
            self._kept[name] = Kept(path, len(png), self._now() + self.lifetime)
        self.sweep()
        return name

    def get(self, name: str) -> bytes | None:
        """The picture of a name that was given away, while it is kept."""
        self.sweep()
        with self._lock:
            kept = self._kept.get(name)
            try:
                return None if kept is None else kept.path.read_bytes()
            except OSError:  # somebody tidied up
                return None

    def sweep(self) -> None:
        """Let go of pictures whose time is up, and of the oldest where there are too many."""
        with self._lock:
            total = sum(kept.size for kept in self._kept.values())
            # In the order of their age.
            for name, kept in list(self._kept.items()):
                if kept.until > self._now() and (total <= self._most or len(self._kept) == 1):
                    break
                kept.path.unlink(missing_ok=True)
                del self._kept[name]
                total -= kept.size

    def __len__(self) -> int:
        return len(self._kept)

    def close(self) -> None:
        """Let go of everything, the folder too."""
        with self._lock:
            self._kept.clear()
            self._folder.close()
