"""How well does DALL-E 1 foresee what it has never seen? Bits per token of held-out captions and pictures.

Fewer bits are better, and they are honest: no way of sampling and no judge comes between. They stand beside
the bits of somebody who has only counted how often each token occurs in the training split (a unigram model).
A picture's bits are of its tokens, given its caption; what the dVAE lost before is not in them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from limner.dalle1 import NOTHING, CaptionedTokens, Dalle1
from limner.data.loader import Gallery, open_gallery
from limner.dvae import DVae
from limner.evaluation.intervals import Estimate, ratio
from limner.evaluation.prior_cosine import every
from limner.evaluation.retrieval import styled
from limner.progress import watched
from limner.text import CaptionTokenizer

CHUNK = 32
# At most so many training pictures are counted.
COUNTED = 4000


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Mean bits per text token and per image token: the model's, and those of counted frequencies."""

    text: Estimate
    text_unigram: Estimate
    image: Estimate
    image_unigram: Estimate


def likelihood(
    model: Dalle1, tokenizer: CaptionTokenizer, dvae: DVae, folder: Path, *, split: str, seed: int = 0
) -> Likelihood:
    """Measure on the pictures of a held-out `split` of a folder: "pair" or "concept".

    Captions say name and style. Pictures lie on white, and skin tones are left out. Raises ValueError for a
    tokenizer or dVAE that is not this model's.
    """
    config = model.config
    if (dvae.config.grid, dvae.config.vocabulary) != (config.grid, config.image_vocabulary):
        raise ValueError(
            f"dvae: {dvae.config.grid}² tokens of {dvae.config.vocabulary}, but this model writes "
            f"{config.grid}² of {config.image_vocabulary}; give the one it was trained with"
        )
    if tokenizer.vocab_size > config.text_vocabulary:
        raise ValueError(
            f"tokenizer: {tokenizer.vocab_size} tokens, but this model knows {config.text_vocabulary}; give "
            "the one it was trained with"
        )
    held_out, trained = (
        open_gallery([folder], size=dvae.config.resolution, splits=(name,)) for name in (split, "train")
    )
    rows = plain(held_out)
    tokens = read(tokenizer, dvae, held_out, rows, length=config.caption)
    known = plain(trained)
    counted = [known[i] for i in every(len(known), COUNTED)]
    seen = read(tokenizer, dvae, trained, counted, length=config.caption)
    return compared(
        model_bits(model, tokens),
        unigram_bits(seen, tokens, config.text_vocabulary, config.image_vocabulary),
        tokens,
        concepts=[str(held_out.records[row].facts.get("hexcode", row)) for row in rows],
        seed=seed,
    )


@dataclass(frozen=True)
class Bits:
    """Of every token: `text` (n, l), 0 behind a caption's end, and `image` (n, W²)."""

    text: Tensor
    image: Tensor


def compared(
    model: Bits, unigram: Bits, tokens: CaptionedTokens, *, concepts: Sequence[str], seed: int
) -> Likelihood:
    """Means over all tokens; for intervals, rows of one of the `concepts` stay together."""
    words = (tokens.text != NOTHING).sum(dim=1).double().tolist()
    places = [float(tokens.image.shape[1])] * len(tokens.image)

    def mean(bits: Float[Tensor, "n l"], of: list[float]) -> Estimate:
        return ratio(bits.double().sum(dim=1).tolist(), of, concepts, seed=seed)

    return Likelihood(
        text=mean(model.text, words),
        text_unigram=mean(unigram.text, words),
        image=mean(model.image, places),
        image_unigram=mean(unigram.image, places),
    )


@torch.inference_mode()
def model_bits(model: Dalle1, tokens: CaptionedTokens) -> Bits:
    """What each token costs the model, given those before it."""
    device = model.head.weight.device
    text, image = [], []
    chunks = list(zip(tokens.text.split(CHUNK), tokens.image.split(CHUNK), strict=True))
    for words, places in watched(chunks, "foreseeing"):
        logits = model(words.to(device), places.to(device))
        text.append(bits(logits.text.cpu(), words))
        image.append(bits(logits.image.cpu(), places))
    return Bits(torch.cat(text), torch.cat(image))


def unigram_bits(
    seen: CaptionedTokens, tokens: CaptionedTokens, text_vocabulary: int, image_vocabulary: int
) -> Bits:
    """What each of the `tokens` costs somebody who has counted those `seen`."""
    words = -unigram(seen.text, text_vocabulary) / math.log(2)
    places = -unigram(seen.image, image_vocabulary) / math.log(2)
    return Bits(words[tokens.text].masked_fill(tokens.text == NOTHING, 0), places[tokens.image])


def unigram(ids: Int[Tensor, "*n"], vocabulary: int) -> Float[Tensor, "v"]:
    """ln of each token's share among these, `NOTHING` not counted; one more of each, so that none is zero.

    Laplace's rule of succession.
    """
    counts = torch.bincount(ids[ids != NOTHING], minlength=vocabulary).double() + 1
    return (counts / counts.sum()).log()


def bits(logits: Float[Tensor, "n l v"], ids: Int[Tensor, "n l"]) -> Float[Tensor, "n l"]:
    """−log₂ of each token's probability; 0 for `NOTHING`."""
    logits = rearrange(logits.float(), "n l v -> n v l")
    return F.cross_entropy(logits, ids, ignore_index=NOTHING, reduction="none") / math.log(2)


def plain(gallery: Gallery) -> list[int]:
    """The numbers of pictures that are of no particular skin tone."""
    return [row for row, record in enumerate(gallery.records) if not record.facts.get("skin_tone")]


@torch.inference_mode()
def read(
    tokenizer: CaptionTokenizer, dvae: DVae, gallery: Gallery, rows: Sequence[int], *, length: int
) -> CaptionedTokens:
    """Captions and pictures on white as tokens, on the CPU."""
    device = dvae.encoder.out.weight.device
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    grids = [
        dvae.tokens(gallery.composited(chunk, [0] * len(chunk)).to(device)).cpu()
        for chunk in watched(chunks, "writing pictures as tokens")
    ]
    text = tokenizer([styled(gallery, row) for row in rows], length)
    return CaptionedTokens(text, rearrange(torch.cat(grids), "n h w -> n (h w)"))
