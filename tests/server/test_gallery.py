"""Pictures at their addresses: for a while, and nothing else of the file system."""

import pytest

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
    (path,) = gallery.folder.iterdir()
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
