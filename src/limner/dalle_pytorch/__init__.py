"""DALLE-pytorch: the replication of DALL-E 1 that most open models of its kind were trained with.

One sequence of caption and image, as in DALL-E 1, in a transformer of another make: gated units, branches
that begin small, places as turns, rows that take parts of their neighbours'. Its own autoencoder is here too.
Nothing here trains them: they are for the checkpoints that there are.
P. Wang 2021, `dalle-pytorch`.
"""

from limner.dalle_pytorch.autoencoder import ConvolutionalVae, ConvolutionalVaeConfig
from limner.dalle_pytorch.decoding import ImageReader
from limner.dalle_pytorch.model import DallePytorch, DallePytorchConfig, Logits

__all__ = [
    "ConvolutionalVae",
    "ConvolutionalVaeConfig",
    "DallePytorch",
    "DallePytorchConfig",
    "ImageReader",
    "Logits",
]
