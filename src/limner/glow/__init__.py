"""Glow: one invertible network between pictures and noise, whose exact density it therefore knows.

Many small steps that can be undone: scale and shift each channel, mix the channels, and move one half of
them as the other half says. At each level half of what has been made is told apart as noise and the rest goes
on at half the resolution. Diffusion's flow is one long smooth step of the same kind.
Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions".
"""

from limner.glow.model import Encoded, Glow, GlowConfig, paper
from limner.glow.objective import Pictures, bits_per_dimension, glow_objective

__all__ = [
    "Encoded",
    "Glow",
    "GlowConfig",
    "Pictures",
    "bits_per_dimension",
    "glow_objective",
    "paper",
]
