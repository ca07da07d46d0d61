"""VAE: a picture becomes a Gaussian over a few numbers, and numbers drawn from it become the picture again.

The encoder says where in the space of numbers a picture lies and how sure it is; the KL to a standard normal
keeps that space full, so that any draw from it is a picture, and the line between two is a strip of pictures.
Kingma & Welling 2014, "Auto-Encoding Variational Bayes"; β from Higgins et al. 2017, "beta-VAE".
"""

from limner.vae.model import Posterior, Reconstruction, Traversals, Vae, VaeConfig, kl_to_normal
from limner.vae.objective import Pictures, bits_per_dimension, vae_objective

__all__ = [
    "Pictures",
    "Posterior",
    "Reconstruction",
    "Traversals",
    "Vae",
    "VaeConfig",
    "bits_per_dimension",
    "kl_to_normal",
    "vae_objective",
]
