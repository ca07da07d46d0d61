"""Short lists that people keep in text files: an entry a line; empty lines and outer spaces do not count."""

from pathlib import Path

from limner.errors import LimnerError


def lines_of(path: Path, option: str) -> list[str]:
    """The entries of a UTF-8 file. LimnerError, naming the option that it was given to, for any other."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise LimnerError(
            f"{option} is '{path}', which cannot be read ({error.strerror}): give a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise LimnerError(
            f"{option} is '{path}', which is not UTF-8 (byte {error.start} is "
            f"{error.object[error.start]:#04x}): save it as UTF-8"
        ) from error
    return [entry for line in text.splitlines() if (entry := line.strip())]
