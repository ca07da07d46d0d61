"""A byte-level BPE of one's own captions, as DALL-E 1 has one, and its dropout."""

import json
import os
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from limner import __version__
from limner.errors import LimnerError
from limner.text.bpe import CutCaptionWarning, byte_letters, clean, quoted, spelled

# Every byte: what remains without a single merge.
BYTES = 256
# Behind a caption's end; no token has this id.
PADDING = -1
# A pair that was met once says nothing about captions to come.
LEAST_FREQUENCY = 2


class CaptionTokenizer:
    """Text to ids below `vocab_size`, by merges that were learned from captions: none is ever unknown.

    Texts are cleaned as CLIP's are, in lower case, and split into words as GPT-2 splits them, each with the
    space before it; the first word gets one too, so that it is the same word there as anywhere. There are no
    special tokens. Ramesh et al. 2021, section 2.2 and appendix B; Provilkov et al. 2020, "BPE-Dropout".
    """

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        """`merges`: pairs of pieces of byte letters, in the order in which they are merged.

        Raises ValueError for a piece that is neither a byte nor made by a merge before.
        """
        # Two merges may make the same piece, which then has one id; a dict keeps the order.
        pieces = dict.fromkeys(byte_letters())
        for pair in merges:
            if any(piece not in pieces for piece in pair):
                raise ValueError(f"merges: {pair} joins a piece that is neither a byte nor made before")
            pieces["".join(pair)] = None
        self.vocab_size = len(pieces)
        self._ids = {piece: index for index, piece in enumerate(pieces)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._bpe = gpt2_split(models.BPE(vocab=self._ids, merges=list(merges)))

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int) -> "CaptionTokenizer":
        """Merge the pairs that the captions hold most often, until there are `vocab_size` pieces.

        Fewer where no pair is left that is met twice. The same captions make the same merges.
        """
        if isinstance(captions, str):
            raise ValueError(f"captions is one string, {captions[:40]!r}: give a list of strings")
        if vocab_size < BYTES:
            raise ValueError(f"vocab_size is {vocab_size}: the {BYTES} bytes alone need as many")
        learner = gpt2_split(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=LEAST_FREQUENCY,
            initial_alphabet=byte_letters(),
            show_progress=False,
        )
        learner.train_from_iterator((spaced(caption) for caption in captions), trainer)
        return cls([(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]])

    def save(self, path: Path) -> None:
        """Write the merges as one JSON file, in place of what was there."""
        content = {"limner": __version__, "merges": [f"{left} {right}" for left, right in self._ranks]}
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # several processes may come here
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise LimnerError(f"cannot write the vocabulary {path}: {error}; give another folder") from error

    @classmethod
    def load(cls, path: Path) -> "CaptionTokenizer":
        """Read what `save` wrote; LimnerError, naming the file, where that cannot be."""
        try:
            merges = json.loads(path.read_text(encoding="utf-8"))["merges"]
            return cls([(left, right) for left, right in (pair.split(" ") for pair in merges)])
        except OSError as error:
            raise LimnerError(
                f"cannot read the vocabulary {path}: {error.strerror}; it belongs to the weights beside it, "
                "so copy it from where that came from"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LimnerError(
                f"{path} is not a vocabulary of limner's, or is damaged: copy it again from its source"
            ) from error

    def same(self, other: "CaptionTokenizer") -> bool:
        """Whether both make the same ids of every text."""
        return list(self._ranks) == list(other._ranks)

    def encode(self, text: str, *, dropout: float = 0.0, seed: int = 0) -> list[int]:
        """The ids of `text`; an empty list for an empty text.

        `dropout`: how often a merge is passed over each time it could be made, 10 % in DALL-E 1's training;
        `seed` decides which.
        """
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}: give a probability, 0 to 1")
        text = spaced(text)
        if not dropout:
            # One text at a time: the batch call starts a pool of threads, which a fork would break.
            ids: list[int] = self._bpe.encode(text).ids
            return ids
        # Not the library's own dropout, which draws from a stream that cannot be seeded.
        chance = random.Random(seed)
        words = self._bpe.pre_tokenizer.pre_tokenize_str(text)
        return [
            self._ids[piece]
            for word, _ in words
            for piece in merged(list(word), self._ranks, dropout=dropout, chance=chance)
        ]

    def unknown(self, text: str) -> str:
        """The characters of `text` that no token stands for, each once; see `spelled`."""

        def pieces(word: str) -> list[str]:
            first, *rest = self._bpe.encode(f" {word}").tokens
            # Without the letter of the space before it, which may stand alone.
            return [first[1:], *rest]

        return spelled(text, pieces)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, exactly as it was when clean. Padding is passed over, so a row may be given."""
        text: str = self._bpe.decode([index for index in ids if index != PADDING])
        return text.removeprefix(" ")

    def __call__(
        self, texts: Sequence[str], length: int, *, dropout: float = 0.0, seeds: Sequence[int] | None = None
    ) -> Int[Tensor, "b l"]:
        """Ids, then `PADDING`: (B, `length`), int64.

        A text of more than `length` ids loses its end, and one `CutCaptionWarning` for the whole call says
        so. With `dropout` each text has one of the `seeds`; those that would be cut for it are spared it.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is one string, {texts[:40]!r}: give a list of strings")
        if length < 1:
            raise ValueError(f"length is {length}: give at least 1")
        if dropout and (seeds is None or len(seeds) != len(texts)):
            given = "missing" if seeds is None else f"{len(seeds)} numbers"
            raise ValueError(f"seeds is {given}: with dropout give {len(texts)}, one for each text")
        encoded = [self.encode(text) for text in texts]
        if dropout and seeds is not None:
            dropped = [self.encode(t, dropout=dropout, seed=s) for t, s in zip(texts, seeds, strict=True)]
            encoded = [d if len(d) <= length else e for d, e in zip(dropped, encoded, strict=True)]
        return padded(encoded, length, self.decode)


def padded(
    encoded: Sequence[list[int]], length: int, decode: Callable[[Sequence[int]], str]
) -> Int[Tensor, "b l"]:
    """Rows of ids, `PADDING` behind their ends; one `CutCaptionWarning` for all that were too long.

    To be called by what its user calls, so that the warning points there.
    """
    if long := [ids for ids in encoded if len(ids) > length]:
        lost = decode(long[0][length:])
        warnings.warn(
            f"{len(long)} of {len(encoded)} texts cut to {length} tokens; the first lost {quoted(lost)}",
            CutCaptionWarning,
            stacklevel=3,
        )
    rows = torch.full((len(encoded), length), PADDING, dtype=torch.int64)
    for row, ids in zip(rows, encoded, strict=True):
        kept = ids[:length]
        row[: len(kept)] = torch.tensor(kept, dtype=torch.int64)
    return rows


def spaced(text: str) -> str:
    """The text clean, with a space before its first word as there is before every other."""
    text = clean(text)
    return f" {text}" if text else ""


def merged(
    pieces: list[str], ranks: Mapping[tuple[str, str], int], *, dropout: float, chance: random.Random
) -> list[str]:
    """Merge a word's pieces by rank, the first of equals first; in each round some merges are passed over.

    Provilkov et al. 2020, algorithm 1: it ends when a round leaves no merge. Dropout 0 is plain BPE.
    """
    while found := [
        (ranks[pair], i)
        for i, pair in enumerate(pairwise(pieces))
        if pair in ranks and chance.random() >= dropout
    ]:
        _, i = min(found)
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]
    return pieces


def gpt2_split(model: models.BPE) -> Tokenizer:
    """A tokenizer of bytes that splits text into words as GPT-2 does, each with the space before it."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
