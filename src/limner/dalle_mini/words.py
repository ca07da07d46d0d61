"""Captions to DALL-E mini's ids, by the files that lie beside its weights."""

import json
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from limner.errors import LimnerError
from limner.text import CutCaptionWarning, clean

WHOLE, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
# As Hugging Face's library keeps them, or as BART's own does, in two files.
WORDS = (WHOLE, VOCABULARY, MERGES)
BEGIN, PADDING, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"


class DalleMiniWords:
    """BART's way to cut words into ids, with the vocabulary that DALL-E mini learned for itself.

    Captions are cleaned and lowered, accents are taken off, and what is no ASCII then is left out, much as
    min-dalle does; the longer list of rules that the model was trained with (commas for all punctuation,
    hashtags cut into words) is not applied.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.begin, self.padding, self.end = (self._id(name) for name in (BEGIN, PADDING, END))

    @classmethod
    def beside(cls, folder: Path) -> "DalleMiniWords":
        """From `tokenizer.json`, or from `vocab.json` and `merges.txt`.

        LimnerError where they are missing or broken.
        """
        try:
            if (folder / WHOLE).is_file():
                return cls(Tokenizer.from_file(str(folder / WHOLE)))
            vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
            lines = (folder / MERGES).read_text(encoding="utf-8").splitlines()
            pairs = (line.split(" ") for line in lines if line and not line.startswith("#version"))
            merges = [(left, right) for left, right in pairs]
            tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=UNKNOWN))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
            return cls(tokenizer)
        except FileNotFoundError as error:
            raise LimnerError(
                f"{folder} lacks {Path(error.filename).name}: DALL-E mini's words are in {WHOLE}, or in "
                f"{VOCABULARY} and {MERGES} (of the same model: mini's and mega's differ)"
            ) from error
        except Exception as error:  # The library raises nothing narrower for a file that it cannot read.
            raise LimnerError(f"the words in {folder} cannot be read ({error}): copy them again") from error

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without beginning and end."""
        plain = _plain(clean(text))
        ids: list[int] = self.tokenizer.encode(" ".join(plain.split()), add_special_tokens=False).ids
        return ids

    def unknown(self, text: str) -> str:
        """The characters of `text` that are left out, each once."""
        return "".join(dict.fromkeys(c for c in clean(text) if not _plain(c)))

    @property
    def vocab_size(self) -> int:
        """One more than the largest id that there is a piece for."""
        return 1 + max(self.tokenizer.get_vocab().values())

    def __call__(self, texts: Sequence[str], context: int) -> Int[Tensor, "b l"]:
        """Beginning, ids, end, padding: (B, `context`), int64. A text that is too long loses its end."""
        if isinstance(texts, str):
            raise ValueError(f"texts is one string, {texts[:40]!r}: give a list of strings")
        rows = torch.full((len(texts), context), self.padding, dtype=torch.int64)
        encoded = [self.encode(text) for text in texts]
        room = context - 2
        if long := sum(len(ids) > room for ids in encoded):
            warnings.warn(
                f"{long} of {len(texts)} texts cut to {room} tokens", CutCaptionWarning, stacklevel=2
            )
        for row, ids in zip(rows, encoded, strict=True):
            kept = [self.begin, *ids[:room], self.end]
            row[: len(kept)] = torch.tensor(kept)
        return rows

    def nothing(self, context: int) -> Int[Tensor, "l"]:
        """An empty caption, for guidance."""
        return self([""], context)[0]

    def _id(self, name: str) -> int:
        found = self.tokenizer.token_to_id(name)
        if found is None:
            raise LimnerError(f"they have no {name!r}")
        return int(found)


def _plain(text: str) -> str:
    """Without accents, and without what is no ASCII then."""
    return unicodedata.normalize("NFKD", text).encode("ascii", errors="ignore").decode()
