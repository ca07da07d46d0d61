"""ADM: the U-Net of "Diffusion Models Beat GANs", told of a class, alone or above a small picture.

What guided-diffusion published: networks that paint ImageNet's thousand classes, some that paint one kind of
thing, two that enlarge, and classifiers of noised pictures whose gradients guide. limner opens them
(`limner.formats.guided_diffusion`) and walks with its own samplers; it does not train them.
Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis".
"""

from limner.adm.classifier import ClassifierConfig, NoisedClassifier
from limner.adm.model import Adm, AdmConfig

__all__ = ["Adm", "AdmConfig", "ClassifierConfig", "NoisedClassifier"]
