"""What a prior imagines of a gallery's captions, computed once: what a decoder will be told one day."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limner import checkpoint
from limner.clip import Clip
from limner.dalle2.objective import clip_reader
from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.data.loader import Gallery
from limner.diffusion.process import denoiser
from limner.diffusion.samplers import ddim, last
from limner.draws import Draws, mix
from limner.recipes.codes import finished
from limner.recipes.embeddings import kept_of_captions
from limner.recipes.pictures import fingerprint
from limner.recipes.prior import tokenizer_of

# Few steps: it is a sample that is wanted, by tens of thousands, and four make one at no loss that was seen.
STEPS = 4


def load_prior(folder: Path, reader: Clip, device: str | None) -> Prior:
    """A finished prior, frozen; ValueError for one of another CLIP's kind."""
    prior = finished(Prior, PriorConfig, folder, device)
    config, text = prior.config, reader.config.text
    if (config.embedding, config.text_width) != (reader.config.embedding, text.width):
        raise ValueError(
            f"prior is '{folder}': it imagines {config.embedding} numbers of captions of {config.text_width} "
            f"a token, and CLIP here has {reader.config.embedding} and {text.width}; give the prior that was "
            "trained on this CLIP"
        )
    return prior


@torch.inference_mode()
def imagined(prior: Prior, reader: Clip, gallery: Gallery, *, weights: str, out: Path) -> NDArray[np.float16]:
    """Unit embeddings, one for each kept caption of every picture on each ground, (N, grounds, KEPT, d).

    Kept in the folder `out` in half precision. `weights`: the `checkpoint.digest` of the prior. Without
    guidance, whose exaggeration is a matter of taste and of the day.
    """
    read, tokenizer, context = clip_reader(reader), tokenizer_of(reader), reader.config.text.context
    config, device = prior.config, prior.query.device
    levels = config.diffusion.levels()

    def imagine(captions: list[str]) -> Tensor:
        tokens, caption, mask = read(tokenizer(captions, context).to(device))
        denoise = denoiser(
            partial(prior, tokens=tokens, caption=caption, mask=mask), levels, config.diffusion.prediction
        )
        draws = Draws([mix("imagined", weights, one) for one in captions], device=device)
        noise = draws.normal(config.embedding)
        return prior.embeddings(last(ddim(denoise, noise, levels.respace(STEPS))))

    cache = out / f"imagined_{weights}_{fingerprint(gallery)}.npy"
    return kept_of_captions(gallery, cache, config.embedding, imagine, "imagining what captions say")


def told_of(
    reader: Clip, gallery: Gallery, prior: Path, *, out: Path, device: str | None
) -> NDArray[np.float16]:
    """`imagined` by the prior in a folder."""
    model = load_prior(prior, reader, device)
    return imagined(model, reader, gallery, weights=checkpoint.digest(prior), out=out)
