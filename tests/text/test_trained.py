"""The BPE that is trained on captions: what comes back, what is learned, what chance does to it."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.text import PADDING, CaptionTokenizer, CutCaptionWarning, clean

CAPTIONS = [caption for record in read(sample_dir()).records for caption in record.captions]
TRAINED = CaptionTokenizer.train(CAPTIONS, 700)


@given(st.text())
def test_any_text_comes_back_as_it_was_cleaned(text):
    assert TRAINED.decode(TRAINED.encode(text)) == clean(text).strip()


@given(st.text(), st.floats(0, 1, exclude_min=True), st.integers(0, 99))
def test_any_text_comes_back_whatever_was_dropped(text, dropout, seed):
    ids = TRAINED.encode(text, dropout=dropout, chance=random.Random(seed))
    assert TRAINED.decode(ids) == clean(text).strip()
    assert len(ids) >= len(TRAINED.encode(text))


@given(st.one_of(st.text(), st.sampled_from(CAPTIONS)))
def test_with_next_to_no_dropout_our_merging_is_the_librarys(text):
    assert TRAINED.encode(text, dropout=1e-12, chance=random.Random(0)) == TRAINED.encode(text)


def test_with_all_merges_dropped_only_bytes_are_left():
    ids = TRAINED.encode("a red apple", dropout=1.0, chance=random.Random(0))
    assert len(ids) == len(" a red apple")


def test_dropout_is_the_rate_of_merges_passed_over():
    """A word of two letters that are one token is left in two with just that probability."""
    tokenizer = CaptionTokenizer.train(["ab"] * 9, 257 + 1)
    chance = random.Random(5)
    split = sum(len(tokenizer.encode("ab", dropout=0.1, chance=chance)) > 1 for _ in range(4000)) / 4000
    # " ab" is two merges, of which the second can only follow the first: both happen 0.9² of the time.
    assert split == pytest.approx(1 - 0.9**2, abs=0.03)


def test_what_is_often_said_is_one_token():
    assert len(TRAINED.encode("a red apple")) == 3
    assert len(TRAINED.encode("zyxwvut")) > 3


def test_training_twice_gives_the_same(tmp_path):
    for name in ("one.json", "two.json"):
        CaptionTokenizer.train(CAPTIONS, 500).save(tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_saved_and_loaded_it_is_the_same(tmp_path):
    TRAINED.save(tmp_path / "bpe.json")
    again = CaptionTokenizer.load(tmp_path / "bpe.json")
    assert again.vocab_size == TRAINED.vocab_size == 700
    assert all(again.encode(caption) == TRAINED.encode(caption) for caption in CAPTIONS)


def test_what_is_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(LimnerError, match="no tokenizer at"):
        CaptionTokenizer.load(tmp_path / "nothing.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(LimnerError, match=r"bad\.json is no tokenizer"):
        CaptionTokenizer.load(tmp_path / "bad.json")


def test_captions_are_padded_and_cut_with_a_word_about_it():
    rows = TRAINED(["a red apple", ""], 8)
    assert rows.tolist()[1] == [PADDING] * 8
    assert rows[0, :3].tolist() == TRAINED.encode("a red apple")
    assert (rows[0, 3:] == PADDING).all()
    with pytest.warns(CutCaptionWarning, match="1 of 2 texts cut to 2 tokens; the first lost 'apple'"):
        cut = TRAINED(["a red apple", "a"], 2)
    assert torch.equal(cut[0], rows[0, :2])


def test_dropout_of_a_batch_is_a_function_of_its_seeds():
    text = ["a birthday cake in the Noto style"] * 3
    first = TRAINED(text, 40, dropout=0.5, seeds=[1, 2, 1])
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="vocab_size is 255"):
        CaptionTokenizer.train(CAPTIONS, 255)
    with pytest.raises(ValueError, match="chance is None"):
        TRAINED.encode("a", dropout=0.1)
    with pytest.raises(ValueError, match="texts is one string"):
        TRAINED("a red apple", 8)
    with pytest.raises(ValueError, match="length is 0"):
        TRAINED(["a"], 0)
