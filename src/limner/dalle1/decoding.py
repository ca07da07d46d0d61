"""Captions to image tokens: from nothing, or going on from the top of a picture."""

import math
from collections.abc import Callable, Iterator

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from limner.autoregression import CachedStack, ClassifierFree, Reader, Sampling, decode, product
from limner.dalle1.caches import caches
from limner.dalle1.model import NOTHING, Dalle1
from limner.draws import Draws


class ImageReader:
    """The model in the middle of its images: captions are read with the first tokens, in one pass."""

    def __init__(self, model: Dalle1, text: Int[Tensor, "b l"]) -> None:
        self.model = model
        self.text = text
        self.past: int | None = None
        self.stack = CachedStack(model.transformer, caches(model, len(text)))
        with torch.no_grad():
            self.places = model.places()
        self.embed = model.embed_image.weight
        self.norm = (model.norm.weight, model.norm.bias)
        split = [model.config.text_vocabulary]
        self.head = (model.head.weight.tensor_split(split)[1], model.head.bias.tensor_split(split)[1])

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """Read n more image tokens: any number the first time, one each time after."""
        if self.past is None:
            x = torch.cat([self.model.text_rows(self.text), self.model.image_rows(ids)], dim=1)
            x = self.stack.read(x)[:, -1]
            self.past = ids.shape[1]
        elif ids.shape[1] == 1:
            x = torch.nn.functional.embedding(ids[:, 0], self.embed) + self.places[self.past]
            x = self.stack.step(x)
            self.past += 1
        else:
            raise ValueError(f"ids: {ids.shape[1]} tokens after the first {self.past}; go on one by one")
        x = torch.nn.functional.layer_norm(x, x.shape[1:], *self.norm, self.model.norm.eps)
        return product(x, *self.head)


def guided_reader(model: Dalle1, text: Int[Tensor, "b l"], guidance: float) -> Reader:
    """A reader whose every token is guided away from what the model says to an empty caption."""
    if not math.isfinite(guidance):
        raise ValueError(f"guidance: {guidance}; give a finite number (1: none)")
    nothing = torch.full_like(text, NOTHING)
    if guidance == 1:
        return ImageReader(model, text)
    if guidance == 0:
        return ImageReader(model, nothing)
    return ClassifierFree(ImageReader(model, torch.cat([text, nothing])), guidance)


class Overheard:
    """A reader whose logits somebody else sees too."""

    def __init__(self, reader: Reader, overhear: Callable[[Tensor], None]) -> None:
        self.reader = reader
        self.overhear = overhear

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """Read n more tokens; the logits of the token after them."""
        logits = self.reader.read(ids)
        self.overhear(logits)
        return logits


def stream(
    model: Dalle1,
    text: Int[Tensor, "b l"],
    *,
    draws: Draws,
    sampling: Sampling,
    guidance: float,
    prefix: Int[Tensor, "b2 rows w2"] | None = None,
    overhear: Callable[[Tensor], None] | None = None,
) -> Iterator[Int[Tensor, "b"]]:
    """Image tokens for captions (B, caption), one of each picture at a time, in raster order.

    `prefix`: rows of tokens that are kept as the top of the pictures; the stream begins below them. One
    random stream a picture, so a picture is the same alone and among others. `guidance` 1 is none, and needs
    a model trained with dropped captions to be anything else. `overhear` is told the logits (B, K) that each
    token is drawn from, guidance and all.
    """
    config = model.config
    if text.ndim != 2 or text.shape[1] != config.caption:
        raise ValueError(
            f"text: shape {tuple(text.shape)}, but this model reads (pictures, {config.caption})"
        )
    if int(text.max()) >= config.text_vocabulary:
        raise ValueError(f"text: id {int(text.max())}, but this model knows {config.text_vocabulary} tokens")
    if prefix is None:
        prefix = torch.zeros(len(text), 0, config.grid, dtype=torch.int64, device=text.device)
    if prefix.ndim != 3 or prefix.shape[0] != len(text) or prefix.shape[2] != config.grid:
        raise ValueError(
            f"prefix: shape {tuple(prefix.shape)}; give ({len(text)}, rows, {config.grid}): one for each "
            f"caption, and whole rows of this model's {config.grid} tokens"
        )
    if prefix.shape[1] >= config.grid:
        raise ValueError(
            f"prefix: {prefix.shape[1]} rows of a picture of {config.grid} leave nothing to paint; give fewer"
        )
    if prefix.numel() and not 0 <= int(prefix.min()) <= int(prefix.max()) < config.image_vocabulary:
        raise ValueError(
            f"prefix: ids {int(prefix.min())} to {int(prefix.max())}, but this model knows "
            f"0 to {config.image_vocabulary - 1}"
        )
    reader = guided_reader(model, text, guidance)
    return decode(
        reader if overhear is None else Overheard(reader, overhear),
        prefix=rearrange(prefix, "b r w -> b (r w)"),
        length=config.image,
        draws=draws,
        sampling=sampling,
    )


def sample(
    model: Dalle1,
    text: Int[Tensor, "b l"],
    *,
    draws: Draws,
    sampling: Sampling,
    guidance: float,
    prefix: Int[Tensor, "b2 rows w2"] | None = None,
) -> Int[Tensor, "b w w"]:
    """All tokens of the pictures, with the prefix at the top; as `stream`, but at once."""
    columns = stream(model, text, draws=draws, sampling=sampling, guidance=guidance, prefix=prefix)
    painted = rearrange(torch.stack(list(columns), dim=1), "b (r w) -> b r w", w=model.config.grid)
    return painted if prefix is None else torch.cat([prefix, painted], dim=1)
