"""CLIP's byte-level BPE: cleaning, splitting into words, and merging bytes in the order CLIP learned."""

import gzip
import html
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources

import ftfy
import torch
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

CLIP_VOCAB_SIZE = 49_408
END_OF_WORD = "</w>"
# Letters of what was cut that a warning names.
TOLD = 80

# Every byte, alone and at the end of a word, then the two specials: what remains without a single merge.
SMALLEST_VOCAB_SIZE = 256 + 256 + 2

# English clitics, runs of letters, single digits, runs of anything else. CLIP matches without regard to case,
# which after lowering still admits one more character: the long s.
WORDS = r"'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class CutCaptionWarning(UserWarning):
    """A caption was longer than the context and lost its end."""


class UnknownCharacterWarning(UserWarning):
    """A caption holds characters that its reader has no token for, and spells in bytes."""


def spelled(text: str, pieces: Callable[[str], list[str]]) -> str:
    """The characters of `text` that no single piece holds; `pieces` are a word's tokens in byte letters.

    Each once, such as "🦄": a vocabulary joins the bytes of what it has met often enough, alone or with the
    letters beside it. Marks that join or change other characters do not count.
    """
    found: dict[str, None] = {}
    for word in clean(text).split():
        holder = [number for number, piece in enumerate(pieces(word)) for _ in piece]
        start = 0
        for character in word:
            end = start + len(character.encode())
            mark = unicodedata.category(character)[0] in "MC"
            if end - start > 1 and len(set(holder[start:end])) > 1 and not mark:
                found[character] = None
            start = end
    return "".join(found)


def quoted(words: str) -> str:
    """Words in quotes, with an ellipsis in place of what is too long to be told."""
    return repr(words if len(words) <= TOLD else words[: TOLD - 1] + "…")


def clean(text: str) -> str:
    """Repair broken Unicode and HTML entities, collapse white space, lower the case: CLIP's cleaning."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    packed = resources.files("limner.text").joinpath("clip_bpe.txt.gz").read_bytes()
    pairs = (line.split(" ") for line in gzip.decompress(packed).decode().splitlines())
    return tuple((left, right) for left, right in pairs)


def byte_letters() -> list[str]:
    """The 256 printable letters that stand for bytes, in CLIP's order: those that print as they are first."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    hidden = len(set(range(256)) - set(printable))
    return [chr(code) for code in [*printable, *range(256, 256 + hidden)]]


class ClipTokenizer:
    """CLIP's tokenizer: text to ids below `vocab_size`, with the same merges in the same order.

    A smaller `vocab_size` keeps only the first `vocab_size - 514` merges, so a small model needs a small
    embedding table; with 49,408 (the default) the ids equal CLIP's. The two specials are always the largest
    ids: `sot` = vocab_size - 2 and `eot` = vocab_size - 1, so `ids.argmax(-1)` finds [EOT].

    Text that spells a special token is read as plain text. Radford et al. 2021, section 2.4.
    """

    def __init__(self, vocab_size: int = CLIP_VOCAB_SIZE) -> None:
        if not SMALLEST_VOCAB_SIZE <= vocab_size <= CLIP_VOCAB_SIZE:
            raise ValueError(
                f"vocab_size is {vocab_size}: give {SMALLEST_VOCAB_SIZE} (bytes) to {CLIP_VOCAB_SIZE} (all)"
            )
        self.vocab_size = vocab_size
        self.sot = vocab_size - 2
        self.eot = vocab_size - 1

        vocab, merges = self.tables()
        self._bpe = Tokenizer(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix=END_OF_WORD))
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._bpe.decoder = decoders.ByteLevel()

    def tables(self) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """All pieces by their ids but the two specials, and the merges in order, in byte letters."""
        merges = list(_merges()[: self.vocab_size - SMALLEST_VOCAB_SIZE])
        letters = byte_letters()
        pieces = [*letters, *(letter + END_OF_WORD for letter in letters), *(a + b for a, b in merges)]
        return {piece: index for index, piece in enumerate(pieces)}, merges

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without [SOT] and [EOT]; an empty list for an empty text."""
        # One text at a time: the batch call starts a pool of threads, which a data loader's fork would break.
        ids: list[int] = self._bpe.encode(clean(text)).ids
        return ids

    def unknown(self, text: str) -> str:
        """The characters of `text` that no token stands for, each once; see `spelled`."""
        return spelled(
            text, lambda word: [piece.removesuffix(END_OF_WORD) for piece in self._bpe.encode(word).tokens]
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, words separated by one space. Stops at [EOT], so a padded row may be given."""
        ids = list(ids)
        if self.eot in ids:
            ids = ids[: ids.index(self.eot)]
        text: str = self._bpe.decode([index for index in ids if index != self.sot])
        return text.replace(END_OF_WORD, " ").strip()

    def __call__(self, texts: Sequence[str], context: int) -> Int[Tensor, "b l"]:
        """[SOT], ids, [EOT], zeros: (B, `context`), int64.

        A text of more than `context - 2` ids loses its end, never its [EOT], and one `CutCaptionWarning` for
        the whole call says so.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is one string, {texts[:40]!r}: give a list of strings")
        if context < 2:
            raise ValueError(f"context is {context}: [SOT] and [EOT] alone need 2")
        room = context - 2
        encoded = [self.encode(text) for text in texts]
        if long := [ids for ids in encoded if len(ids) > room]:
            lost = self.decode(long[0][room:])
            warnings.warn(
                f"{len(long)} of {len(texts)} texts cut to {room} tokens; the first lost {quoted(lost)}",
                CutCaptionWarning,
                stacklevel=2,
            )
        rows = torch.zeros(len(texts), context, dtype=torch.int64)
        for row, ids in zip(rows, encoded, strict=True):
            kept = [self.sot, *ids[:room], self.eot]
            row[: len(kept)] = torch.tensor(kept)
        return rows
