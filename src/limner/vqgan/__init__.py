"""VQGAN: VQ-VAE's grid of codes, from a deeper network that a discriminator has taught to paint sharply.

What others' weights are: every code stands for 16×16 pixels, or 8×8, and pictures come back crisp though not
exact. There is no training of it here; `limner.formats.taming` opens what has been published.
Esser, Rombach & Ommer 2021, "Taming Transformers for High-Resolution Image Synthesis".
"""

from limner.vqgan.model import Decoder, Encoder, Reconstruction, VqGan, VqGanConfig

__all__ = ["Decoder", "Encoder", "Reconstruction", "VqGan", "VqGanConfig"]
