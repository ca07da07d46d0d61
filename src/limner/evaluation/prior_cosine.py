"""Does the prior imagine the right picture? The cosine between what it imagines and CLIP's view of the truth.

A cosine alone says little, since CLIP's pictures all lie in one cone. So it stands beside what comes without
a prior: the mean of all training pictures, which knows nothing of the words; the words' own embedding, which
is no picture (the gap that unCLIP's prior is there to cross); and the prior's answer to another caption.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.clip import Clip
from limner.data.loader import open_gallery
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.retrieval import embedded, read, styled
from limner.text import ClipTokenizer

# At most so many training pictures are averaged.
AVERAGED = 2000

# Captions → the prior's unit picture embeddings, (n, d), one for each caption.
Imagine = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, kw_only=True)
class PriorCosine:
    """Mean cosine with the true picture's embedding, of the prior and of what needs no prior."""

    prior: Estimate
    mean_picture: Estimate
    caption: Estimate
    other_caption: Estimate


def prior_cosine(
    imagine: Imagine, clip: Clip, tokenizer: ClipTokenizer, folder: Path, *, split: str, seed: int = 0
) -> PriorCosine:
    """Measure on the pictures of a held-out `split` of a folder: "pair" or "concept".

    Captions say name and style. Pictures lie on white, and skin tones are left out.
    """
    side = clip.config.vision.resolution
    held_out, trained = (open_gallery([folder], size=side, splits=(name,)) for name in (split, "train"))
    rows = [i for i, record in enumerate(held_out.records) if not record.facts.get("skin_tone")]
    captions = [styled(held_out, row) for row in rows]
    return compared(
        truth=embedded(clip, held_out, rows),
        prior=imagine(captions),
        mean_picture=embedded(clip, trained, every(len(trained), AVERAGED)).mean(dim=0),
        captions=read(clip, tokenizer, captions),
        concepts=[str(held_out.records[row].facts.get("hexcode", row)) for row in rows],
        seed=seed,
    )


def compared(
    *,
    truth: Float[Tensor, "n d"],
    prior: Float[Tensor, "n d"],
    mean_picture: Float[Tensor, "d"],
    captions: Float[Tensor, "n d"],
    concepts: Sequence[str],
    seed: int,
) -> PriorCosine:
    """The mean cosines; "another caption" is the next one in a shuffled ring, never its own.

    For intervals, rows of one of the `concepts` stay together.
    """
    n = len(truth)
    if n < 2:
        raise ValueError(f"truth: {n} rows, at least two are needed for one to be another's")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    other = torch.empty(n, dtype=torch.int64)
    other[order] = order.roll(1)
    prior = prior.float().cpu()

    def mean(answers: Float[Tensor, "n d"]) -> Estimate:
        return bootstrap(cosines(truth, answers).tolist(), concepts, seed=seed)

    return PriorCosine(
        prior=mean(prior),
        mean_picture=mean(mean_picture.expand(n, -1)),
        caption=mean(captions),
        other_caption=mean(prior[other]),
    )


def cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """Row by row."""
    return F.cosine_similarity(a.double(), b.double(), dim=1)


def every(total: int, most: int) -> list[int]:
    """At most `most` of `total` row numbers, evenly spaced."""
    return list(range(0, total, -(-total // most)))
