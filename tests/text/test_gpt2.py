"""The ids are GPT-2's: by golden numbers, and by merging one pair at a time, by hand."""

import hashlib
import warnings
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.text import GPT2_VOCAB_SIZE, PADDING, CutCaptionWarning, Gpt2Tokenizer
from limner.text.bpe import byte_letters
from limner.text.gpt2 import _merges

GOLDEN = {
    "hello world": [31373, 995],
    "hello world!": [31373, 995, 0],
    " a": [257],
    "a photo of a cat": [64, 4590, 286, 257, 3797],
    "an oil painting of a corgi": [272, 3056, 12036, 286, 257, 1162, 12397],
    "a corgi in a field": [64, 1162, 12397, 287, 257, 2214],
    "A teddybear on a skateboard in Times Square.": [
        *(64, 256, 21874, 33227, 319, 257, 22647, 3526, 287, 1661, 6616, 13)
    ],
    "": [],
}
# Words whose pieces are many, among any text: it falls into its bytes.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=30) | st.lists(
    st.sampled_from(
        ["a", "It'S", "don't", "42", "3d", "  ", "\n", "café", "日本語", "🍎", "!!", "corgis", "\xa0"]
    )
).map(" ".join)


@cache
def tokenizer() -> Gpt2Tokenizer:
    return Gpt2Tokenizer()


@pytest.mark.parametrize("text", GOLDEN)
def test_golden_ids(text):
    assert tokenizer().encode(text) == GOLDEN[text]


def test_the_whole_vocabulary_is_gpt2s():
    """Bytes, merges, and one word that no text makes; encoder.json, sorted by id, has this digest."""
    pieces = [*byte_letters(), *("".join(pair) for pair in _merges()), "<|endoftext|>"]
    assert len(set(pieces)) == len(pieces) == GPT2_VOCAB_SIZE
    assert hashlib.sha256("\n".join(pieces).encode()).hexdigest().startswith("e35a33a0b2250c93")
    assert max(tokenizer().encode("<|endoftext|>")) < GPT2_VOCAB_SIZE - 1


def by_hand(text: str) -> list[int]:
    """GPT-2's own algorithm: of all neighbours the earliest merge, everywhere, until there is none."""
    regex = pytest.importorskip("regex")
    letters, ranks = byte_letters(), {pair: rank for rank, pair in enumerate(_merges())}
    byte_of = sorted(range(256), key=lambda b: not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255))
    letter_of = dict(zip(byte_of, letters, strict=True))
    ids = {piece: i for i, piece in enumerate([*letters, *("".join(pair) for pair in _merges())])}
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    found = []
    for word in regex.findall(pattern, text.lower()):
        pieces = [letter_of[byte] for byte in word.encode()]
        while pairs := [pair for pair in pairwise(pieces) if pair in ranks]:
            left, right = min(pairs, key=ranks.__getitem__)
            merged, rest = [], pieces
            while rest:
                if rest[:2] == [left, right]:
                    merged, rest = [*merged, left + right], rest[2:]
                else:
                    merged, rest = [*merged, rest[0]], rest[1:]
            pieces = merged
        found += [ids[piece] for piece in pieces]
    return found


@given(text=TEXTS)
def test_ids_are_those_of_merging_by_hand(text):
    assert tokenizer().encode(text) == by_hand(text)


@given(text=TEXTS)
def test_any_text_comes_back_in_lower_case(text):
    assert tokenizer().decode(tokenizer().encode(text)) == text.lower()


@given(texts=st.lists(TEXTS, max_size=3), length=st.integers(1, 12))
def test_rows_are_ids_and_padding_and_say_what_was_cut(texts, length):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = tokenizer()(texts, length)
    assert rows.shape == (len(texts), length)
    assert rows.dtype == torch.int64
    encoded = [tokenizer().encode(text) for text in texts]
    for row, ids in zip(rows.tolist(), encoded, strict=True):
        assert row == (ids + [PADDING] * length)[:length]
    assert [item.category for item in caught] == [CutCaptionWarning] * any(
        len(ids) > length for ids in encoded
    )


def test_what_it_spells_in_bytes_is_known():
    assert tokenizer().unknown("a 🦄 and a café") == "🦄"


def test_impossible_calls():
    with pytest.raises(ValueError, match="give a list of strings"):
        tokenizer()("a cat", 8)
    with pytest.raises(ValueError, match="length is 0"):
        tokenizer()(["a cat"], 0)
