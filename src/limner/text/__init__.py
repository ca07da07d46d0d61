"""Words to numbers: byte pair encoding, as CLIP does it, and as DALL-E 1 does, learned from captions.

Frequent words become one token, rare ones a few pieces, and anything at all (a typo, an emoji, Tamil) falls
back to its bytes, so nothing is ever unknown.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; Radford et al. 2021.
"""

from limner.text.bpe import CLIP_VOCAB_SIZE, ClipTokenizer, CutCaptionWarning, UnknownCharacterWarning, clean
from limner.text.gpt2 import GPT2_VOCAB_SIZE, Gpt2Tokenizer
from limner.text.trained import PADDING, CaptionTokenizer

__all__ = [
    "CLIP_VOCAB_SIZE",
    "GPT2_VOCAB_SIZE",
    "PADDING",
    "CaptionTokenizer",
    "ClipTokenizer",
    "CutCaptionWarning",
    "Gpt2Tokenizer",
    "UnknownCharacterWarning",
    "clean",
]
