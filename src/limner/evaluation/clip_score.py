"""How well pictures go with their words, by CLIP's angle between them.

Two scales of one cosine: 100 · cos, as GLIDE has it (Nichol et al. 2021, section 5: CLIP's own logit), and
CLIPScore, 2.5 · max(cos, 0) (Hessel et al. 2021, equation 1). To score with the CLIP that guided, chose or
was painted from is to ask the painter.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.evaluation.intervals import Estimate, bootstrap

LOGIT_SCALE = 100.0
HESSEL = 2.5


def cosines(pictures: Float[Tensor, "n d"], captions: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """Of each picture's embedding with that of its own caption, whatever their lengths."""
    return F.cosine_similarity(pictures.double(), captions.double(), dim=1)


def clip_score(
    pictures: Float[Tensor, "n d"], captions: Float[Tensor, "n d"], groups: Sequence[str], *, seed: int
) -> Estimate:
    """The mean of 100 · cos, and the bootstrap's interval over groups."""
    return bootstrap((LOGIT_SCALE * cosines(pictures, captions)).tolist(), groups, seed=seed)


def hessel_score(
    pictures: Float[Tensor, "n d"], captions: Float[Tensor, "n d"], groups: Sequence[str], *, seed: int
) -> Estimate:
    """The mean of 2.5 · max(cos, 0), and its interval."""
    return bootstrap((HESSEL * cosines(pictures, captions).clamp(min=0)).tolist(), groups, seed=seed)
