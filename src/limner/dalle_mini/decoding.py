"""Captions to image tokens."""

import math
from collections.abc import Iterator

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from limner.autoregression import ClassifierFree, DenseCache, Reader, Sampling, decode
from limner.dalle_mini.model import DalleMini
from limner.draws import Draws


class ImageReader:
    """The model in the middle of its images; the caption is read when it is made."""

    def __init__(self, model: DalleMini, text: Int[Tensor, "b l"]) -> None:
        config, like = model.config, model.decoder.head.weight
        self.model = model
        self.start = model.starts(len(text))
        with torch.no_grad():
            self.caption = model.read(text)
        self.caches = [
            DenseCache(
                batch=len(text),
                heads=config.heads,
                length=config.image,
                size=config.width // config.heads,
                dtype=like.dtype,
                device=like.device,
            )
            for _ in range(config.decoder_layers)
        ]

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b c"]:
        """Read n more image tokens; logits of the code after them, no other token's among them."""
        past = self.caches[0].past
        ids = ids if past else torch.cat([self.start, ids], dim=1)
        attends = [cache.attend for cache in self.caches]
        logits = self.model.decoder(ids, self.caption, past=past, attends=attends)
        return logits[:, -1, : self.model.config.codes]


def guided_reader(
    model: DalleMini, text: Int[Tensor, "b l"], nothing: Int[Tensor, "l"], guidance: float
) -> Reader:
    """A reader whose every token is guided away from what the model says to an empty caption."""
    if not math.isfinite(guidance):
        raise ValueError(f"guidance: {guidance}; give a finite number (1: none)")
    empty = repeat(nothing, "l -> b l", b=len(text))
    if guidance == 1:
        return ImageReader(model, text)
    if guidance == 0:
        return ImageReader(model, empty)
    return ClassifierFree(ImageReader(model, torch.cat([text, empty])), guidance)


def stream(
    model: DalleMini,
    text: Int[Tensor, "b l"],
    *,
    nothing: Int[Tensor, "l"],
    draws: Draws,
    sampling: Sampling,
    guidance: float,
) -> Iterator[Int[Tensor, "b"]]:
    """Image tokens for captions (B, context), one of each picture at a time, in raster order.

    `nothing`: an empty caption, beginning and end alone. One random stream a picture. `guidance` is what they
    call super-conditioning, 10 in DALL-E mini and 16 in min-dalle; 1 is none.
    """
    config = model.config
    if int(text.max()) >= config.text_vocabulary or int(text.min()) < 0:
        raise ValueError(
            f"text: ids {int(text.min())} to {int(text.max())}, but this model knows "
            f"0 to {config.text_vocabulary - 1}"
        )
    return decode(
        guided_reader(model, text, nothing, guidance),
        prefix=torch.zeros(len(text), 0, dtype=torch.int64, device=text.device),
        length=config.image,
        draws=draws,
        sampling=sampling,
    )


def sample(
    model: DalleMini,
    text: Int[Tensor, "b l"],
    *,
    nothing: Int[Tensor, "l"],
    draws: Draws,
    sampling: Sampling,
    guidance: float,
) -> Int[Tensor, "b w w"]:
    """All codes of the pictures; as `stream`, but at once."""
    columns = stream(model, text, nothing=nothing, draws=draws, sampling=sampling, guidance=guidance)
    return rearrange(torch.stack(list(columns), dim=1), "b (r w) -> b r w", w=model.config.grid)
