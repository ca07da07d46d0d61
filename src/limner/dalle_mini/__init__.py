"""DALL-E mini and mega: the first open answer to DALL-E, a BART from words to the codes of a VQGAN.

A caption is read by an encoder that sees all of it, and the image is written token by token by a decoder that
looks at it in every block. Both are NormFormers without biases. Guidance, which they call super-conditioning,
needs no training: the empty caption is one that the model knows.
Dayma et al. 2021, "DALL·E Mini".
"""

from limner.dalle_mini.decoding import ImageReader, sample, stream
from limner.dalle_mini.model import DalleMini, DalleMiniConfig, mega, mini
from limner.dalle_mini.words import WORDS, DalleMiniWords

__all__ = [
    "WORDS",
    "DalleMini",
    "DalleMiniConfig",
    "DalleMiniWords",
    "ImageReader",
    "mega",
    "mini",
    "sample",
    "stream",
]
