"""dVAE: DALL-E 1's tokenizer, which writes a picture as a small grid of words and paints it back.

The encoder says how well each word of a learned vocabulary names each place. In training the words are mixed,
by a Gumbel-softmax that grows hard as it cools; in use the likeliest word is the token.
Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation", sections 2.1 and A.
"""

from limner.dvae.begin import begin_with
from limner.dvae.likelihood import EPSILON, drawn_in, drawn_out, logit_laplace_nll
from limner.dvae.model import DVae, DVaeConfig, Relaxed
from limner.dvae.objective import PicturesAtStep, dvae_objective
from limner.dvae.schedule import Ramp

__all__ = [
    "EPSILON",
    "DVae",
    "DVaeConfig",
    "PicturesAtStep",
    "Ramp",
    "Relaxed",
    "begin_with",
    "drawn_in",
    "drawn_out",
    "dvae_objective",
    "logit_laplace_nll",
]
