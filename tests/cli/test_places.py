"""Where pictures go, and what they are called there."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.cli.places import Place, named, place, slug, try_writing
from limner.errors import LimnerError
from limner.pipelines.settings import Commission


@given(st.text(min_size=1, max_size=1000))
def test_any_words_make_a_name_that_any_file_system_takes(words):
    name = slug(words)
    assert name
    assert len((named(Commission(words, 2**63), 64) + "-999.png").encode()) <= 255
    assert not set(name) & set('/\\:*?"<>|.\0\n\t ')
    assert not name.startswith("-")
    assert slug(name) == name


def test_names_stay_readable():
    assert slug("A red apple, 3D style!") == "a-red-apple-3d-style"
    assert slug("ஒரு ஆப்பிள்") == "ஒரு-ஆப்பிள்"
    assert slug("🍎") == slug("...") == "picture"
    assert slug("word " * 40) == "-".join(["word"] * 12)
    assert len(slug("x" * 500)) == 60
    assert named(Commission("a pear", 7), 2) == "a-pear-seed7-2"


def test_out_is_read_as_a_file_or_a_folder(tmp_path):
    assert place(tmp_path / "a.png", files=1) == Place(tmp_path, "a.png")
    assert place(tmp_path / "a.PNG", files=1) == Place(tmp_path, "a.PNG")
    assert place(tmp_path / "new", files=3) == Place(tmp_path / "new", None)
    assert place(tmp_path / "v1.2", files=3) == Place(tmp_path / "v1.2", None)
    (tmp_path / "dir.png").mkdir()
    assert place(tmp_path / "dir.png", files=2) == Place(tmp_path / "dir.png", None)
    for bad, files in (("a.png", 2), ("a.jpg", 1), ("A.JPEG", 1)):
        with pytest.raises(ValueError, match=r"^out is '.*a\.(png|jpe?g)'") as caught:
            place(tmp_path / bad.lower(), files=files)
        assert "folder" in str(caught.value)


def test_trying_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "there").mkdir()
    try_writing(tmp_path / "there")
    try_writing(tmp_path / "not" / "yet" / "there")
    assert os.listdir(tmp_path) == ["there"]
    assert os.listdir(tmp_path / "there") == []
    (tmp_path / "file").touch()
    with pytest.raises(LimnerError, match=r"^cannot write into .*file/below: "):
        try_writing(tmp_path / "file" / "below")
    with pytest.raises(LimnerError, match=r"; give another --sheet$"):
        try_writing(tmp_path / "file" / "below", "--sheet")
    assert sorted(os.listdir(tmp_path)) == ["file", "there"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_is_forbidden(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(LimnerError, match=r"^cannot write into .*shut: Permission denied"):
        try_writing(tmp_path / "shut")


def test_in_a_folder_nothing_is_lost_and_nothing_is_doubled(tmp_path):
    where = Place(tmp_path, None)
    assert where.save(b"one", "pear") == tmp_path / "pear.png"
    assert where.save(b"two", "pear") == tmp_path / "pear-2.png"
    assert where.save(b"one", "pear") == tmp_path / "pear.png"
    assert where.save(b"two", "pear") == tmp_path / "pear-2.png"
    assert where.save(b"three", "pear") == tmp_path / "pear-3.png"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "pear.png": b"one",
        "pear-2.png": b"two",
        "pear-3.png": b"three",
    }


def test_a_given_name_is_replaced(tmp_path):
    where = Place(tmp_path, "mine.png")
    assert where.save(b"one", "pear") == where.save(b"two", "pear") == tmp_path / "mine.png"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"two"]


def test_a_place_is_relative_to_where_one_stands():
    assert place(Path("a.png"), files=1) == Place(Path("."), "a.png")
