"""Packages come whole or not at all, and when they cannot come the message says what to do."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from limner.data.sources import (
    CLDR,
    EMOJIBASE,
    GENERATOR_SETS,
    JUDGE_SETS,
    PICTURES,
    Package,
    cache_dir,
    integrity,
    member,
    members,
    obtain,
)
from limner.errors import LimnerError

PERMISSIVE = {"MIT", "Apache-2.0", "CC-BY-4.0"}


def npm_that(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called npm, and nothing else of that name, on PATH."""
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_every_package_is_pinned() -> None:
    for package in [*PICTURES.values(), EMOJIBASE, CLDR]:
        assert package.integrity.startswith("sha512-")
        assert len(package.integrity) == 7 + 88
        assert package.version.count(".") == 2
    assert set(GENERATOR_SETS) | set(JUDGE_SETS) == set(PICTURES)
    assert not set(GENERATOR_SETS) & set(JUDGE_SETS)
    assert {PICTURES[name].licence for name in GENERATOR_SETS} <= PERMISSIVE


def test_tarballs_are_named_as_npm_names_them() -> None:
    assert PICTURES["noto"].tarball == "iconify-json-noto-1.2.9.tgz"
    assert PICTURES["openmoji"].spec == "openmoji@17.0.0"


def test_integrity_is_npms(press) -> None:
    package = press.pack("thing", {"a": "b"})
    path = press.folder / package.tarball
    said = subprocess.run(["openssl", "dgst", "-sha512", "-binary", path], capture_output=True, check=False)
    if said.returncode:
        pytest.skip("openssl is missing")
    assert integrity(path) == "sha512-" + base64.b64encode(said.stdout).decode()


def test_a_whole_tarball_in_the_cache_needs_no_npm(press, monkeypatch) -> None:
    package = press.pack("thing", {"deep/a.txt": "hello", "b.txt": "bye"})
    monkeypatch.setenv("PATH", "")
    found = obtain([package], press.folder)
    assert found == {"thing": press.folder / "thing-1.0.0.tgz"}
    assert member(found["thing"], "deep/a.txt") == b"hello"
    assert dict(members(found["thing"], "")) == {"deep/a.txt": b"hello", "b.txt": b"bye"}
    with pytest.raises(LimnerError, match=r"holds no c\.txt"):
        member(found["thing"], "c.txt")


def test_without_npm_the_message_says_what_to_install_and_nothing_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cache = tmp_path / "cache"
    with pytest.raises(LimnerError, match=r"install Node\.js.*iconify-json-noto-1\.2\.9\.tgz") as caught:
        obtain([PICTURES["noto"]], cache)
    assert str(cache) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; exit 1", "ENOTFOUND"),
        ("exit 0", "no reason given"),
        ("echo rubbish > thing-1.0.0.tgz", "SHA-512"),
        ("echo half > thing-1.0.0.tgz; exit 1", "check the network"),
    ],
)
def test_when_npm_fails_nothing_is_kept(tmp_path, press, monkeypatch, script, said) -> None:
    package = press.pack("thing", {"a": "b"})
    (press.folder / package.tarball).unlink()
    npm_that(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(LimnerError, match=said) as caught:
        obtain([package], press.folder)
    assert "thing@1.0.0" in str(caught.value)
    assert leftovers(press.folder) == []


def test_a_damaged_tarball_is_fetched_again(tmp_path, press, monkeypatch) -> None:
    package = press.pack("thing", {"a": "b"})
    path = press.folder / package.tarball
    whole = path.read_bytes()
    (tmp_path / "good.tgz").write_bytes(whole)
    path.write_bytes(whole[:-10])
    npm_that(tmp_path / "bin", monkeypatch, f"cp {tmp_path / 'good.tgz'} {package.tarball}")
    obtain([package], press.folder)
    assert path.read_bytes() == whole
    assert leftovers(press.folder) == [package.tarball]


def test_the_cache_follows_the_desktop_rule(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "limner" / "npm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "limner" / "npm"


def test_npm_delivers_what_is_pinned(tmp_path) -> None:
    package: Package = PICTURES["streamline"]
    if shutil.which("npm") is None:
        pytest.skip("npm is missing")
    try:
        found = obtain([package], tmp_path)
    except LimnerError as error:
        if "check the network" in str(error):
            pytest.skip(f"no network: {error}")
        raise
    icons = json.loads(member(found[package.name], "icons.json"))["icons"]
    assert len(icons) == 787
