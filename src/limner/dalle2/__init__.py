"""DALL-E 2 (unCLIP): a caption becomes a CLIP picture embedding, and that becomes the picture.

The prior guesses the embedding, the decoder paints 64×64 pixels from it and the caption, the upsampler makes
them 256×256. What CLIP does not care about, the decoder is free to vary.
Ramesh et al. 2022, "Hierarchical Text-Conditional Image Generation with CLIP Latents".
"""

from limner.dalle2.decoder import ClipTextConfig, ClipTokens, Decoder, DecoderConfig, TokenIds
from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig
from limner.diffusion.spec import DiffusionSpec

__all__ = [
    "ClipTextConfig",
    "ClipTokens",
    "Decoder",
    "DecoderConfig",
    "DiffusionSpec",
    "Prior",
    "PriorConfig",
    "TokenIds",
    "Upsampler",
    "UpsamplerConfig",
]
