"""Everybody's checkpoints: recognised by their tensors, read without running anything, and written again.

One file for each format says how to know it, which of its tensors stands where, and what weights alone do not
tell. Nothing is unpickled but by names that are on a list (`pickles`).
"""

from limner.formats import guided_diffusion, huggingface_clip, openai_clip, openai_dvae, rudalle, taming
from limner.formats.format import Assumptions, Format, Opened, Part
from limner.formats.opening import FORMATS, convert, network, opened, self_check, usable

__all__ = [
    "FORMATS",
    "Assumptions",
    "Format",
    "Opened",
    "Part",
    "convert",
    "guided_diffusion",
    "huggingface_clip",
    "network",
    "openai_clip",
    "openai_dvae",
    "opened",
    "rudalle",
    "self_check",
    "taming",
    "usable",
]
