"""The packages that pictures and names come from: pinned, fetched by name through npm, checked by hash."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from limner.errors import LimnerError

NPM_TIMEOUT = 600.0
"""Seconds one package may take to arrive."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One published package, pinned to a version and to the SHA-512 of its tarball.

    `integrity` is written as npm writes it: `sha512-` and the digest in base 64.
    """

    name: str
    version: str
    integrity: str
    licence: str
    credit: str
    home: str

    @property
    def spec(self) -> str:
        """What npm is asked for: `name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def tarball(self) -> str:
        """The file name npm gives the package."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


EMOJIBASE = Package(
    name="emojibase-data",
    version="17.0.0",
    integrity="sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    licence="MIT",
    credit="Miles Johnson",
    home="https://emojibase.dev",
)
CLDR = Package(
    name="cldr-annotations-full",
    version="48.2.0",
    integrity="sha512-DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGHO5Q1dRwzBoBnVrHWp804JP7/QJdEc66iHmx3+zLWVIMCFLm0lW7PUQ==",
    licence="Unicode-3.0",
    credit="The Unicode Consortium",
    home="https://cldr.unicode.org",
)

PICTURES: dict[str, Package] = {
    "noto": Package(
        name="@iconify-json/noto",
        version="1.2.9",
        integrity="sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        licence="Apache-2.0",
        credit="Noto Emoji, Google Inc.",
        home="https://github.com/googlefonts/noto-emoji",
    ),
    "twemoji": Package(
        name="@iconify-json/twemoji",
        version="1.2.5",
        integrity="sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        licence="CC-BY-4.0",
        credit="Twemoji, Twitter, Inc. and other contributors",
        home="https://github.com/jdecked/twemoji",
    ),
    "fluent-3d": Package(
        name="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        integrity="sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        licence="MIT",
        credit="Fluent Emoji, Microsoft Corporation (packaged by LobeHub)",
        home="https://github.com/microsoft/fluentui-emoji",
    ),
    "fluent-flat": Package(
        name="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        integrity="sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        licence="MIT",
        credit="Fluent Emoji, Microsoft Corporation",
        home="https://github.com/microsoft/fluentui-emoji",
    ),
    "fluent-color": Package(
        name="@lobehub/fluent-emoji-modern",
        version="1.0.0",
        integrity="sha512-YdZEgLC/vh29uDEl440q3W2vN50FdUFarQoKUHH9Clzx61/wW6mImLJywVBMKQPa3+GL59j3NvOlTLhH4rxleA==",
        licence="MIT",
        credit="Fluent Emoji, Microsoft Corporation (packaged by LobeHub)",
        home="https://github.com/microsoft/fluentui-emoji",
    ),
    "openmoji": Package(
        name="openmoji",
        version="17.0.0",
        integrity="sha512-EBnYrNGdcdw+OSXmENeNE1yBNRu6tOraTmoOyUbJkTmvT/+XETp8RZLSJFzD3lrPc5N9CzsyPnRTk0Vp4UaI9w==",
        licence="CC-BY-SA-4.0",
        credit="OpenMoji, HfG Schwäbisch Gmünd",
        home="https://openmoji.org",
    ),
    "emojione": Package(
        name="@iconify-json/emojione",
        version="1.2.3",
        integrity="sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        licence="CC-BY-4.0",
        credit="EmojiOne 2, Emoji One (kept by EmojiTwo)",
        home="https://github.com/EmojiTwo/emojitwo",
    ),
    "emojione-v1": Package(
        name="@iconify-json/emojione-v1",
        version="1.2.3",
        integrity="sha512-UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww==",
        licence="CC-BY-SA-4.0",
        credit="EmojiOne 1, Emoji One",
        home="https://github.com/joypixels/emojione-legacy",
    ),
    "streamline": Package(
        name="@iconify-json/streamline-emojis",
        version="1.2.4",
        integrity="sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
        licence="CC-BY-4.0",
        credit="Streamline Emojis, Streamline (Webalys)",
        home="https://github.com/webalys-hq/streamline-vectors",
    ),
}

GENERATOR_SETS: tuple[str, ...] = ("noto", "twemoji", "fluent-3d", "fluent-flat", "fluent-color")
"""Permissively licensed sets: what the painters learn from."""

VECTOR_SETS: tuple[str, ...] = ("noto", "twemoji", "fluent-flat", "fluent-color")
"""Those of the permissive sets that are drawn in vectors, so that what they show at 1024 pixels is real."""

JUDGE_SETS: tuple[str, ...] = ("openmoji", "emojione", "emojione-v1", "streamline")
"""Sets kept from every painter, so that the recogniser judges with eyes of its own."""


def cache_dir() -> Path:
    """Where tarballs wait between fetches: `$XDG_CACHE_HOME/limner/npm` or `~/.cache/limner/npm`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "limner" / "npm"


def integrity(path: Path) -> str:
    """The SHA-512 of a file as npm writes it."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha512").digest()
    return "sha512-" + base64.b64encode(digest).decode()


def obtain(packages: Sequence[Package], cache: Path) -> dict[str, Path]:
    """Every package's tarball, by package name: taken from `cache` when it is whole, else fetched by npm.

    Raises `LimnerError` when npm is missing, the registry cannot be reached or a hash does not agree.
    """
    missing = [p for p in packages if not _whole(p, cache)]
    if missing and shutil.which("npm") is None:
        names = ", ".join(p.tarball for p in missing)
        raise LimnerError(
            "npm is needed to fetch the emoji packages and is not on PATH: install Node.js (it brings npm), "
            f"or put these files into {cache}: {names}"
        )
    for package in missing:
        _fetch(package, cache)
    return {p.name: cache / p.tarball for p in packages}


def _whole(package: Package, cache: Path) -> bool:
    path = cache / package.tarball
    return path.is_file() and integrity(path) == package.integrity


def _fetch(package: Package, cache: Path) -> None:
    remedy = (
        f"check the network and npm's registry setting, or put {package.tarball} into {cache}, and run again"
    )
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LimnerError(f"cannot write the cache folder {cache}: {error.strerror}") from error
    with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as scratch:
        # Run from the scratch folder, so that no project's own npm settings or files take part.
        command = ["npm", "pack", package.spec, "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=NPM_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise LimnerError(
                f"npm did not deliver {package.spec} in {NPM_TIMEOUT:.0f} s: {remedy}"
            ) from error
        arrived = Path(scratch) / package.tarball
        if done.returncode != 0 or not arrived.is_file():
            code = re.search(r"npm (?:error|ERR!) code (\w+)", done.stderr)
            reason = code.group(1) if code else "no reason given"
            raise LimnerError(f"npm could not fetch {package.spec} ({reason}): {remedy}")
        if integrity(arrived) != package.integrity:
            raise LimnerError(
                f"{package.spec} arrived with another SHA-512 than the pinned one; it was thrown away"
            )
        os.replace(arrived, cache / package.tarball)


def members(tarball: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """The files of a package whose path begins with `prefix`, as (path inside the package, bytes)."""
    with tarfile.open(tarball, "r:gz") as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            if member.isfile() and name.startswith(prefix):
                stream = archive.extractfile(member)
                if stream is not None:
                    yield name, stream.read()


def member(tarball: Path, path: str) -> bytes:
    """One file of a package; `LimnerError` when the package has no such file."""
    for name, content in members(tarball, path):
        if name == path:
            return content
    raise LimnerError(f"{tarball.name} holds no {path}: remove it and run again")
