"""GPT-2's words, as GLIDE reads captions with them."""

import gzip
from collections.abc import Sequence
from functools import cache
from importlib import resources

from jaxtyping import Int
from tokenizers import models
from torch import Tensor

from limner.text.bpe import byte_letters, spelled
from limner.text.trained import PADDING, gpt2_split, padded

GPT2_VOCAB_SIZE = 50_257


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    packed = resources.files("limner.text").joinpath("gpt2_bpe.txt.gz").read_bytes()
    pairs = (line.split(" ") for line in gzip.decompress(packed).decode().splitlines())
    return tuple((left, right) for left, right in pairs)


class Gpt2Tokenizer:
    """GPT-2's byte-level BPE in lower case: the ids of the captions that released GLIDE was trained on.

    Ids are the 256 bytes, then the 50,000 merges in their order. The last of the `vocab_size` words ends a
    text of GPT-2's and stands for padding in GLIDE's own code, where it is masked; here padding is `PADDING`,
    as everywhere. Nothing of a text is cleaned but its case, and a caption has neither a beginning nor an
    end, nor a space before its first word.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2; Nichol et al.
    2021.
    """

    vocab_size = GPT2_VOCAB_SIZE

    def __init__(self) -> None:
        pieces = [*byte_letters(), *("".join(pair) for pair in _merges())]
        vocab = {piece: index for index, piece in enumerate(pieces)}
        self._bpe = gpt2_split(models.BPE(vocab=vocab, merges=list(_merges())))

    def encode(self, text: str) -> list[int]:
        """The ids of `text` in lower case; an empty list for an empty text."""
        # One text at a time: the batch call starts a pool of threads, which a fork would break.
        ids: list[int] = self._bpe.encode(text.lower()).ids
        return ids

    def unknown(self, text: str) -> str:
        """The characters of `text` that no token stands for, each once; see `spelled`."""
        return spelled(text, lambda word: self._bpe.encode(word).tokens)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, as it was in lower case. Padding is passed over, so a row may be given."""
        text: str = self._bpe.decode([index for index in ids if index != PADDING])
        return text

    def __call__(self, texts: Sequence[str], length: int) -> Int[Tensor, "b l"]:
        """Ids, then `PADDING`: (B, `length`), int64.

        A text of more than `length` ids loses its end, and one `CutCaptionWarning` for the whole call says
        so.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is one string, {texts[:40]!r}: give a list of strings")
        if length < 1:
            raise ValueError(f"length is {length}: give at least 1")
        return padded([self.encode(text) for text in texts], length, self.decode)
