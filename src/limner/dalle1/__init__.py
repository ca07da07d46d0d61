"""DALL-E 1: a caption and a picture are one sequence of tokens, and a transformer learns how it goes on.

A dVAE has turned the picture into a grid of codes; the transformer knows only token ids. Text comes first,
so to go on from a caption is to paint it, and to go on from a caption and the top of a picture is to finish
it. Attention within the image is sparse: rows, columns, and one convolution at the end.
`rudalle` is the same as it was published in Russian.
Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation".
"""

from limner.dalle1.caches import cache_bytes
from limner.dalle1.decoding import sample, stream
from limner.dalle1.masks import published_order
from limner.dalle1.model import NOTHING, Dalle1, Dalle1Config, Logits
from limner.dalle1.objective import CaptionedTokens, token_objective

__all__ = [
    "NOTHING",
    "CaptionedTokens",
    "Dalle1",
    "Dalle1Config",
    "Logits",
    "cache_bytes",
    "published_order",
    "sample",
    "stream",
    "token_objective",
]
