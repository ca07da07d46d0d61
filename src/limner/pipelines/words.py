"""Prompts as their reader will find them: not empty after cleaning, and of what it cannot know, a word."""

import warnings
from collections.abc import Sequence

from limner.text import CaptionTokenizer, ClipTokenizer, Gpt2Tokenizer, UnknownCharacterWarning, clean


def checked_words(prompts: str | Sequence[str], name: str = "prompt") -> None:
    """Raise ValueError, calling it `name`, for a prompt of which the cleaning of readers leaves nothing."""
    for prompt in [prompts] if isinstance(prompts, str) else prompts:
        if not clean(prompt):
            raise ValueError(f'{name} is {prompt[:20]!r}, without a word: give some, such as "a red apple"')


def told_of_unknown(
    tokenizer: CaptionTokenizer | ClipTokenizer | Gpt2Tokenizer, prompts: Sequence[str]
) -> None:
    """Warn, once for all prompts, of characters that this reader has no token for."""
    if unknown := "".join(dict.fromkeys(c for prompt in prompts for c in tokenizer.unknown(prompt))):
        warnings.warn(
            f"no word of this model holds {' '.join(unknown)}: it sees bytes that tell it nothing",
            UnknownCharacterWarning,
            stacklevel=2,
        )
