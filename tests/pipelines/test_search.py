"""The index and the search: against brute force, grown against made anew, and of no other CLIP."""

import os
import shutil
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.clip import unit
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.pipelines import find, index, rank, search
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.pictures import open_picture, seen
from limner.pipelines.search import PLACE, nearest, opened


def drawn(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    for number, name in enumerate(("b.png", "a/1.png", "a/b/2.webp", "c.png", ".hidden/d.png", "ä 1.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        drawn(number).save(folder / name)
    (folder / "words.txt").write_text("no picture")
    return folder


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read."""
    names, decode = [], search.looked_at

    def looked_at(clip, files, doing):
        names.extend(sorted(file.name for file in files))
        return decode(clip, files, doing)

    monkeypatch.setattr(search, "looked_at", looked_at)
    return names


# --- nearest -------------------------------------------------------------------------------------


@given(n=st.integers(1, 40), top=st.integers(1, 50), seed=st.integers(0, 99), rows=st.integers(1, 50))
def test_search_is_brute_force(n, top, seed, rows):
    numbers = np.random.default_rng(seed)
    # Few different values, so that there are ties.
    embeddings = numbers.integers(-2, 3, (n, 3)).astype(np.float16)
    wanted = numbers.integers(-2, 3, 3).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ROWS_AT_ONCE", rows)
        scores, found = nearest(embeddings, wanted, top)
    dots = [sum(float(a) * float(b) for a, b in zip(row, wanted, strict=True)) for row in embeddings]
    expected = sorted(range(n), key=lambda number: (-dots[number], number))[:top]
    assert found.tolist() == expected
    assert scores.tolist() == [dots[number] for number in expected]


def test_many_pictures_are_searched_by_numpy_where_faiss_is_not(monkeypatch):
    embeddings, wanted = np.eye(5, dtype=np.float16), np.arange(5, dtype=np.float32)
    monkeypatch.setattr(search, "MOST_BY_NUMPY", 4)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.warns(UserWarning, match=r"5 pictures are searched by numpy.*pip install 'limner\[search\]'"):
        scores, found = nearest(embeddings, wanted, 9)
    assert (scores.tolist(), found.tolist()) == ([4, 3, 2, 1, 0], [4, 3, 2, 1, 0])


@pytest.mark.parametrize("top", [1, 10, 5000])
def test_faiss_finds_what_numpy_finds(monkeypatch, top):
    pytest.importorskip("faiss")
    numbers = np.random.default_rng(0)
    rows = numbers.standard_normal((4000, 64)).astype(np.float32)
    embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    # Of three equal ones each comes in its turn.
    embeddings[[7, 1200]] = embeddings[3999]
    wanted = embeddings[7].astype(np.float32)
    scores, found = nearest(embeddings, wanted, top)
    monkeypatch.setattr(search, "MOST_BY_NUMPY", 3999)
    by_faiss, found_by_faiss = nearest(embeddings, wanted, top)
    assert (by_faiss.dtype, found_by_faiss.dtype) == (scores.dtype, found.dtype)
    np.testing.assert_allclose(by_faiss, scores, atol=1e-6, rtol=0)
    # Where two scores are one and the same to single precision, either may come first.
    places = np.flatnonzero(found_by_faiss != found)
    np.testing.assert_allclose(embeddings[found_by_faiss[places]] @ wanted, scores[places], atol=1e-6, rtol=0)
    assert len(places) < 0.01 * len(found) + 1
    if top == 10:
        assert found_by_faiss[:3].tolist() == [7, 1200, 3999]


# --- the index -----------------------------------------------------------------------------------


def test_an_index_holds_unit_embeddings_of_all_that_is_not_hidden(folder, line):
    made = index(folder, weights=line)
    paths = [one.path for one in made.index.files]
    assert paths == ["a/1.png", "a/b/2.webp", "b.png", "c.png", "ä 1.png"]
    assert (made.read, made.broken, made.path) == (5, {}, folder / PLACE)
    clip = Dalle2.load(line).clip
    pictures = seen([open_picture(folder / path) for path in paths], 16)
    expected = unit(clip.encode_image(pictures).pooled)
    torch.testing.assert_close(torch.tensor(made.index.embeddings).float(), expected, atol=1e-3, rtol=0)
    there = opened(folder)
    assert there.files == made.index.files
    assert np.array_equal(there.embeddings, made.index.embeddings)


def test_a_grown_index_is_one_made_anew_and_reads_only_what_is_new(folder, line, reads):
    index(folder, weights=line)
    reads.clear()
    assert index(folder, weights=line).read == 0
    assert reads == []
    drawn(10).save(folder / "a" / "0.png")  # new
    drawn(11).save(folder / "b.png")  # changed
    os.utime(folder / "b.png", ns=(1, 1))
    (folder / "c.png").unlink()  # gone
    grown = index(folder, weights=line)
    assert reads == ["0.png", "b.png"]
    fresh = index(folder, out=folder.parent / "fresh", weights=line)
    assert grown.index.files == fresh.index.files
    np.testing.assert_allclose(
        grown.index.embeddings.astype(float), fresh.index.embeddings.astype(float), atol=1e-3
    )


def test_a_run_that_is_stopped_goes_on_where_it_last_wrote(folder, line, reads, monkeypatch):
    monkeypatch.setattr("limner.pipelines.embedding.SEEN_AT_ONCE", 1)
    monkeypatch.setattr(search, "KEPT_EVERY", 2)
    keep, kept = search.keep, []

    def kept_once(made, path):
        keep(made, path)
        kept.append(len(made.files))
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(search, "keep", kept_once)
    with pytest.raises(KeyboardInterrupt):
        index(folder, weights=line)
    assert kept == [2, 4]
    reads.clear()
    assert index(folder, weights=line).read == 1
    assert reads == ["ä 1.png"]


def test_pictures_that_cannot_be_read_are_left_out_and_named(folder, line):
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:100])
    made = index(folder, weights=line)
    assert list(made.broken) == [folder / "b.png"]
    assert made.read == 4
    assert "b.png" not in [one.path for one in made.index.files]


def test_another_clip_reads_all_anew_and_cannot_be_asked(folder, line, tiny, tmp_path):
    other = tiny.write(tmp_path / "other", seed=5)
    index(folder, weights=line)
    with pytest.raises(LimnerError, match=r"was indexed with the CLIP \w{12}, and this is \w{12}"):
        find("a pear", folder, weights=other)
    assert index(folder, weights=other).read == 5
    assert find("a pear", folder, weights=other)


def test_folder_and_index_may_move(folder, line, tmp_path):
    index(folder, weights=line)
    index(folder, out=tmp_path / "there" / "my.index", weights=line)
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move(folder, moved / "pictures")
    shutil.move(tmp_path / "there", moved / "there")
    for place in (moved / "pictures", moved / "there" / "my.index"):
        found = find("a pear", place, weights=line)
        assert len(found) == 5
        assert all(one.path.is_file() for one in found)


def test_what_is_no_index_is_refused_and_left_alone(folder, line, tmp_path):
    for place in (folder, tmp_path / "none"):
        with pytest.raises(LimnerError, match=r"there is no index at .*: make one with `limner index DIR`"):
            find("a pear", place, weights=line)
    mine = tmp_path / "mine.txt"
    mine.write_text("my words")
    for ask in (lambda: find("a pear", mine, weights=line), lambda: index(folder, out=mine, weights=line)):
        with pytest.raises(LimnerError, match=r"mine.txt is not a whole index"):
            ask()
    assert mine.read_text() == "my words"
    with pytest.raises(LimnerError, match="is no index of this limner"):
        opened(line / "clip" / "model.safetensors")
    with pytest.raises(ValueError, match="a folder: give the name of a file in it"):
        index(folder, out=tmp_path, weights=line)
    path = index(folder, weights=line).path
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(LimnerError, match="is not a whole index"):
        find("a pear", folder, weights=line)


def test_a_folder_of_nothing_that_can_be_read_is_refused(line, tmp_path):
    with pytest.raises(LimnerError, match="holds no pictures"):
        index(tmp_path, weights=line)
    (tmp_path / "a.png").write_text("words")
    with pytest.raises(LimnerError, match=r"no picture in .* can be read, such as .*a.png"):
        index(tmp_path, weights=line)
    assert not (tmp_path / PLACE).exists()


# --- finding -------------------------------------------------------------------------------------


def test_words_find_what_rank_puts_first(folder, line):
    made = index(folder, weights=line)
    found = find("a pear", folder, top=3, weights=line)
    paths = [folder / one.path for one in made.index.files]
    scores = rank("a pear", [open_picture(path) for path in paths], weights=line)
    best = sorted(zip(scores, paths, strict=True), reverse=True)[:3]
    assert [one.path for one in found] == [path for _, path in best]
    assert [one.score for one in found] == pytest.approx([score for score, _ in best], abs=1e-3)


def test_a_picture_finds_itself_first_and_words_beside_it_count(folder, line):
    index(folder, weights=line)
    picture = open_picture(folder / "c.png")
    alone = find(None, folder, like=[picture], weights=line)
    assert (alone[0].path, len(alone)) == (folder / "c.png", 5)
    assert alone[0].score == pytest.approx(1, abs=1e-3)
    both = find("a pear", folder, like=[picture], weights=line)
    assert [one.score for one in both] != pytest.approx([one.score for one in alone])
    with pytest.raises(ValueError, match="text and like are both missing"):
        find(None, folder, weights=line)
    with pytest.raises(ValueError, match="top is 0"):
        find("a pear", folder, top=0, weights=line)


def test_the_shipped_clip_finds_what_it_has_learned(tmp_path):
    out = tmp_path / "index"
    index(sample_dir() / "noto", out=out)
    for words, code in (("a red apple", "1f34e"), ("a banana", "1f34c"), ("a rocket", "1f680")):
        assert code in [one.path.stem for one in find(words, out, top=5)]
