"""Pictures at their addresses: for a while, and nothing else of the file system."""

import os
import subprocess
import sys

import pytest

from limner.server.folder import LIVES, PREFIX, Folder
from limner.server.gallery import Gallery


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def gallery(clock, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gallery = Gallery(lifetime=100.0, most=1000, now=clock)
    yield gallery
    gallery.close()


def test_a_picture_is_there_until_its_time_is_up(gallery, clock):
    name = gallery.add(b"png")
    (path,) = gallery.folder.glob("*.png")
    assert gallery.get(name) == b"png"
    clock.time = 99
    later = gallery.add(b"later")
    assert gallery.get(name) == b"png"
    clock.time = 101
    assert gallery.get(name) is None
    assert not path.exists()
    assert gallery.get(later) == b"later"


def test_names_are_long_and_never_the_same(gallery):
    names = {gallery.add(b"png") for _ in range(50)}
    assert len(names) == 50
    assert all(len(name) >= 32 + len(".png") for name in names)


def test_past_its_bytes_the_oldest_go_and_the_newest_stays(gallery):
    names = [gallery.add(bytes(400)) for _ in range(3)]
    assert [gallery.get(name) is not None for name in names] == [False, True, True]
    large = gallery.add(bytes(5000))
    assert len(gallery) == 1
    assert gallery.get(large) is not None


@pytest.mark.parametrize(
    "name", ["../secret", "..", ".", "", "/etc/passwd", "x.png", "a/../b.png", "\0", "*"]
)
def test_what_was_not_given_away_is_not_there(gallery, name):
    (gallery.folder.parent / "secret").write_bytes(b"secret")
    (gallery.folder / "x.png").write_bytes(b"put here by somebody else")
    assert gallery.get(name) is None


def test_it_leaves_nothing(clock):
    gallery = Gallery(lifetime=100.0, most=1000, now=clock)
    name = gallery.add(b"png")
    folder = gallery.folder
    gallery.close()
    assert not folder.exists()
    assert gallery.get(name) is None


@pytest.mark.skipif(sys.platform == "win32", reason="nobody tells there who is dead")
def test_what_a_killed_server_left_is_taken_away_and_nothing_else(tmp_path):
    alive = Folder(tmp_path)
    # One that is being made, one of somebody who means it otherwise, and one that only looks so.
    for name in ("unfinished", "elsewhere"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / LIVES).write_bytes(b"")
    (tmp_path / f"{PREFIX}linked").symlink_to(kept)
    script = (
        "import os, pathlib, sys; from limner.server.folder import Folder; "
        "folder = Folder(pathlib.Path(sys.argv[1])); (folder.path / 'picture.png').write_bytes(b'png'); "
        "print(folder.path, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == -9
    killed = tmp_path / os.path.basename(done.stdout.strip())
    assert (killed / "picture.png").exists()
    another = Folder(tmp_path)
    assert not killed.exists()
    left = {path.name for path in tmp_path.iterdir()}
    others = {f"{PREFIX}{name}" for name in ("unfinished", "elsewhere", "linked")}
    assert left == {alive.path.name, another.path.name, "kept", *others}
    assert (kept / LIVES).exists()
    for folder in (alive, another):
        folder.close()
        assert not folder.path.exists()
