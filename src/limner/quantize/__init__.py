"""Vectors become one of a few: the bottleneck that lets a picture be written as tokens.

- `codebook`: the nearest of K learned vectors, gradients passed straight through (van den Oord et al. 2017);
- `gumbel`: a draw from logits, relaxed so that gradients flow (Jang et al. 2017, Maddison et al. 2017);
- `product`: several small codebooks side by side, as in wav2vec 2.0 (Baevski et al. 2020).

Vectors come channel-last, (B, ..., d), and leave as a `Quantized`: the chosen vectors, their ids, what the
quantizer wants minimised, and its `Usage`, of which `said` makes a sentence when the codebook has collapsed.
A quantizer knows nothing of the network around it.
"""

from limner.quantize.codebook import Codebook, CodebookConfig, MovingAverage
from limner.quantize.gumbel import (
    GumbelCodebook,
    cosine_annealed,
    exponentially_annealed,
    gumbel_softmax,
    kl_from_uniform,
)
from limner.quantize.product import ProductConfig, ProductQuantizer
from limner.quantize.result import Quantized, Usage, said

__all__ = [
    "Codebook",
    "CodebookConfig",
    "GumbelCodebook",
    "MovingAverage",
    "ProductConfig",
    "ProductQuantizer",
    "Quantized",
    "Usage",
    "cosine_annealed",
    "exponentially_annealed",
    "gumbel_softmax",
    "kl_from_uniform",
    "said",
]
