"""A tokenizer of one's own captions: nothing is unknown, nothing is lost, and dropout can be had again."""

import pickle
import random
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.dalle1 import NOTHING
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.text import PADDING, CaptionTokenizer, CutCaptionWarning, clean
from limner.text.trained import merged, spaced

SRC = Path(__file__).parents[2] / "src"
WORDS = [
    "a",
    "the",
    "red",
    "Apple,",
    "Noto style",
    "it's",
    "42",
    "&amp;",
    "café",
    "日本語",
    "தமிழ்",
    "👩🏽\u200d🚀",
    "\xa0",
]
TEXTS = st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join)


@cache
def captions() -> tuple[str, ...]:
    return tuple(caption for record in read(sample_dir()).records for caption in record.captions)


@cache
def tokenizer(vocab_size: int = 600) -> CaptionTokenizer:
    return CaptionTokenizer.train(captions(), vocab_size)


@given(text=TEXTS, vocab_size=st.sampled_from([256, 300, 600]))
def test_nothing_is_unknown_and_nothing_is_lost(text, vocab_size):
    ids = tokenizer(vocab_size).encode(text)
    assert all(0 <= index < vocab_size for index in ids)
    assert tokenizer(vocab_size).decode(ids) == clean(text)


@given(text=TEXTS, dropout=st.floats(0, 1), seed=st.integers(0, 2**63 - 1))
def test_dropout_loses_nothing_and_can_be_had_again(text, dropout, seed):
    ids = tokenizer().encode(text, dropout=dropout, seed=seed)
    assert tokenizer().decode(ids) == clean(text)
    assert tokenizer().encode(text, dropout=dropout, seed=seed) == ids


@given(text=TEXTS)
def test_of_all_merges_passed_over_bytes_remain(text):
    assert tokenizer().encode(text, dropout=1.0) == CaptionTokenizer([]).encode(text)


@given(text=TEXTS | st.sampled_from(captions()))
def test_without_dropout_merging_is_the_librarys(text):
    ours = tokenizer()
    words = ours._bpe.pre_tokenizer.pre_tokenize_str(spaced(text))
    chance = random.Random(0)
    pieces = [p for word, _ in words for p in merged(list(word), ours._ranks, dropout=0.0, chance=chance)]
    assert [ours._ids[piece] for piece in pieces] == ours.encode(text)


def test_a_merge_is_passed_over_as_often_as_dropout_says():
    """One merge, one chance: a word of two letters stays apart with probability p."""
    pair = CaptionTokenizer([("a", "b")])
    apart = sum(len(pair.encode("1ab", dropout=0.3, seed=seed)) == 4 for seed in range(4000))
    assert apart / 4000 == pytest.approx(0.3, abs=0.03)


def test_what_is_frequent_is_one_token_wherever_it_stands():
    ours = tokenizer()
    (apple,) = ours.encode("apple")
    assert ours.encode("a red apple")[-1] == apple
    assert ours.encode("Apple  APPLE") == [apple, apple]


def test_the_first_merge_is_of_the_pair_met_most_often():
    # "a b" four times, a space before "a" three times.
    learned = CaptionTokenizer.train(["ab", "ab", "ab", "xbab"], 257)
    assert learned.decode([256]) == "ab"


def test_training_ends_where_no_pair_is_met_twice():
    assert CaptionTokenizer.train([], 300).vocab_size == 256
    assert CaptionTokenizer.train(["ab"], 300).vocab_size == 256
    assert CaptionTokenizer.train(["ab", "ab"], 300).vocab_size == 258


def test_training_is_the_same_in_another_process(tmp_path):
    """Where strings hash differently, and threads share the counting as they like."""
    code = (
        f"import sys; sys.path.insert(0, {str(SRC)!r})\n"
        "from pathlib import Path\n"
        "from limner.data.folder import read\n"
        "from limner.data.sample import sample_dir\n"
        "from limner.text import CaptionTokenizer\n"
        "captions = [c for record in read(sample_dir()).records for c in record.captions]\n"
        f"CaptionTokenizer.train(captions, 600).save(Path({str(tmp_path / 'other.json')!r}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    tokenizer().save(tmp_path / "ours.json")
    assert (tmp_path / "other.json").read_bytes() == (tmp_path / "ours.json").read_bytes()


def test_it_is_kept_in_a_file_and_crosses_to_another_process(tmp_path):
    path = tmp_path / "new" / "bpe.json"
    tokenizer().save(path)
    assert [file.name for file in path.parent.iterdir()] == ["bpe.json"]
    for again in (CaptionTokenizer.load(path), pickle.loads(pickle.dumps(tokenizer()))):
        assert again.vocab_size == tokenizer().vocab_size == 600
        for caption in captions()[:50]:
            assert again.encode(caption) == tokenizer().encode(caption)
            assert again.encode(caption, dropout=0.5, seed=3) == tokenizer().encode(
                caption, dropout=0.5, seed=3
            )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"merges": 3}',
        '{"merges": [3]}',
        '{"merges": ["ab"]}',
        '{"merges": ["a b", "q abc"]}',
    ],
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "bpe.json"
    path.write_text(content)
    with pytest.raises(LimnerError, match=r"bpe\.json is not a vocabulary"):
        CaptionTokenizer.load(path)


def test_a_missing_file_and_one_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(LimnerError, match=r"cannot read the vocabulary .*bpe\.json"):
        CaptionTokenizer.load(tmp_path / "bpe.json")
    (tmp_path / "file").touch()
    with pytest.raises(LimnerError, match="cannot write the vocabulary"):
        tokenizer().save(tmp_path / "file" / "bpe.json")


def test_rows_are_ids_then_padding():
    assert PADDING == NOTHING
    rows = tokenizer()(["a red apple", ""], 5)
    assert rows.dtype == torch.int64
    ids = tokenizer().encode("a red apple")
    assert rows.tolist() == [[*ids, *[PADDING] * (5 - len(ids))], [PADDING] * 5]
    assert tokenizer().decode(rows[0].tolist()) == "a red apple"
    assert tokenizer()([], 5).shape == (0, 5)


@given(texts=st.lists(st.sampled_from(captions()), max_size=4), length=st.integers(1, 20))
def test_long_rows_are_cut_and_say_so_once(texts, length):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = tokenizer()(texts, length)
    long = [text for text in texts if len(tokenizer().encode(text)) > length]
    assert len(caught) == bool(long)
    assert all(item.category is CutCaptionWarning for item in caught)
    for text, row in zip(texts, rows.tolist(), strict=True):
        kept = tokenizer().encode(text)[:length]
        assert row == kept + [PADDING] * (length - len(kept))


def test_the_warning_names_what_was_cut():
    with pytest.warns(CutCaptionWarning, match="1 of 2 texts cut to 2 tokens; the first lost 'apple'"):
        tokenizer()(["a red apple", "a"], 2)


@given(text=st.sampled_from(captions()), seed=st.integers(0, 1000), room=st.integers(0, 10))
def test_rows_with_dropout_have_their_own_seeds_and_are_never_cut_for_it(text, seed, room):
    length = len(tokenizer().encode(text)) + room
    (row,) = tokenizer()([text], length, dropout=0.5, seeds=[seed]).tolist()
    dropped = tokenizer().encode(text, dropout=0.5, seed=seed)
    kept = dropped if len(dropped) <= length else tokenizer().encode(text)
    assert row == kept + [PADDING] * (length - len(kept))


def test_impossible_calls():
    with pytest.raises(ValueError, match="vocab_size is 255"):
        CaptionTokenizer.train(["a"], 255)
    with pytest.raises(ValueError, match="give a list of strings"):
        CaptionTokenizer.train("a red apple", 300)
    with pytest.raises(ValueError, match="give a list of strings"):
        tokenizer()("a red apple", 5)
    with pytest.raises(ValueError, match="length is 0"):
        tokenizer()(["a"], 0)
    with pytest.raises(ValueError, match=r"dropout is 1\.5"):
        tokenizer().encode("a", dropout=1.5)
    with pytest.raises(ValueError, match="seeds is missing: with dropout give 2"):
        tokenizer()(["a", "b"], 5, dropout=0.1)
    with pytest.raises(ValueError, match="seeds is 1 numbers: with dropout give 2"):
        tokenizer()(["a", "b"], 5, dropout=0.1, seeds=[1])
    with pytest.raises(ValueError, match="neither a byte nor made before"):
        CaptionTokenizer([("a", "bc")])
