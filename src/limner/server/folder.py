"""A folder that goes with its server, however that ends: what a killed one left, the next one takes away."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO

PREFIX = "limner-gallery-"
# A file that is locked while a server lives; the system lets go of the lock with the process.
LIVES = "lives"


class Folder:
    """A folder for temporary files under a name that nobody has. `where`: beside others' temporary files."""

    def __init__(self, where: Path | None = None) -> None:
        """Take away those of servers that are dead, and make one. Raises OSError where none can be made."""
        place = Path(tempfile.gettempdir()) if where is None else where
        for folder in place.glob(f"{PREFIX}*"):
            if _dead(folder):
                shutil.rmtree(folder, ignore_errors=True)
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, dir=place)
        self._lock = _locked(self.path)

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self._folder.name)

    def close(self) -> None:
        """Let go of it and of all that lies in it."""
        self._folder.cleanup()
        self._lock.close()


def _locked(folder: Path) -> IO[bytes]:
    """The open file that says that a server lives, locked before it has the name by which it is found."""
    file = (folder / f".{LIVES}").open("wb")
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        (folder / f".{LIVES}").rename(folder / LIVES)
    return file


def _dead(folder: Path) -> bool:
    """Whether a folder was a server's of this user, and that server is no more."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
            return False
        with (folder / LIVES).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # It is held, or was never finished.
        return False
    return True
