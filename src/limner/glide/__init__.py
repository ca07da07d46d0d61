"""GLIDE: a U-Net that paints from noise while reading the caption at every attention block.

The caption is read once, by a transformer of its own that sees all of it at once; its last position joins the
time, and all positions stand among the keys of every attention block. With some captions empty in training,
guidance needs no classifier. DALL-E 2's decoder is this network with a CLIP embedding besides.
Nichol et al. 2021, "GLIDE: Towards Photorealistic Image Generation and Editing with Text-Guided Diffusion
Models".
"""

from limner.glide.clip_guidance import agreement, toward_caption
from limner.glide.masks import erased
from limner.glide.model import (
    Caption,
    Glide,
    GlideConfig,
    Known,
    filtered,
    filtered_upsampler,
    mending,
    paper,
)
from limner.glide.objective import PicturesAndCaptions, glide_objective, read_ids
from limner.glide.text import TextEncoder, TextEncoderConfig

__all__ = [
    "Caption",
    "Glide",
    "GlideConfig",
    "Known",
    "PicturesAndCaptions",
    "TextEncoder",
    "TextEncoderConfig",
    "agreement",
    "erased",
    "filtered",
    "filtered_upsampler",
    "glide_objective",
    "mending",
    "paper",
    "read_ids",
    "toward_caption",
]
