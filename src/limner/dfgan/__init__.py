"""DF-GAN: one generator that hears the sentence in every block, and one judge of both picture and match.

A GAN paints in a single pass. Words scale and shift the channels of every block of the generator; the
discriminator says in one number whether a picture is real and is what the sentence says, and is kept smooth
around real pictures with their own sentences, where the generator shall come to rest.
Tao et al. 2020, "DF-GAN: A Simple and Effective Baseline for Text-to-Image Synthesis". It is what DALL-E 1
was compared with.
"""

from limner.dfgan.discriminator import Discriminator
from limner.dfgan.generator import DfGanConfig, Generator, noise
from limner.dfgan.model import DfGan, Scores, paper
from limner.dfgan.objective import (
    CaptionedPictures,
    adversarial_objective,
    gradient_penalty,
    hinge,
    hinge_of_false,
)
from limner.dfgan.sentence import SentenceConfig, SentenceReader, published_reader

__all__ = [
    "CaptionedPictures",
    "DfGan",
    "DfGanConfig",
    "Discriminator",
    "Generator",
    "Scores",
    "SentenceConfig",
    "SentenceReader",
    "adversarial_objective",
    "gradient_penalty",
    "hinge",
    "hinge_of_false",
    "noise",
    "paper",
    "published_reader",
]
