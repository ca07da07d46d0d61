"""GLIDE: a U-Net that paints from noise while reading the caption at every attention block.

What stands here is its text encoder, which DALL-E 2's decoder shares.
Nichol et al. 2021, "GLIDE: Towards Photorealistic Image Generation and Editing with Text-Guided Diffusion
Models".
"""

from limner.glide.text import TextEncoder, TextEncoderConfig

__all__ = ["TextEncoder", "TextEncoderConfig"]
