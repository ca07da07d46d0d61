"""Before it paints, a GLIDE may learn to read from a decoder of unCLIP that paints already.

A decoder is told of a picture by CLIP: a condition, tokens, a canvas. GLIDE's encoder is taught to foretell
these from the caption alone, which is regression and paints nothing meanwhile; with the decoder's U-Net
behind it, it then paints from its first step. No paper does so; it saves training that a CPU has not got, and
`limner train glide-base` works without.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from einops import rearrange
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from limner import checkpoint
from limner.dalle2.decoder import ClipTextConfig, Decoder, DecoderConfig
from limner.dalle2.objective import Reader, clip_reader
from limner.data.loader import Gallery, open_gallery
from limner.draws import Draws
from limner.glide import Glide, TextEncoderConfig, read_ids
from limner.layers.patch_transformer import PatchTransformerConfig
from limner.objective import Loss, Objective
from limner.pipelines.loading import loaded
from limner.recipes.begin import same_source
from limner.recipes.decoder import embeddings_of
from limner.recipes.embeddings import load_clip
from limner.recipes.prior import tokenizer_of
from limner.text import PADDING, CaptionTokenizer, ClipTokenizer
from limner.training import TrainConfig, train


class Told(NamedTuple):
    """Captions' ids for GLIDE and for CLIP, and the pictures' CLIP embeddings, (B, d), of length 1."""

    ids: Tensor
    clip_ids: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class ToldBatches:
    """(step, rows) → captions and what CLIP sees in their pictures."""

    gallery: Gallery
    embeddings: NDArray[np.float32]
    tokenizer: CaptionTokenizer
    context: int
    clip_tokenizer: ClipTokenizer
    clip_context: int
    seed: int

    def __call__(self, step: int, rows: range) -> Told:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        return Told(
            self.tokenizer(drawn.captions, self.context),
            self.clip_tokenizer(drawn.captions, self.clip_context),
            torch.from_numpy(self.embeddings[drawn.pictures, drawn.grounds]),
        )


class Reading(nn.Module):
    """The part of a GLIDE that reads: ids → condition, the rows that stand for picture tokens, canvas."""

    def __init__(self, glide: Glide, *, tokens: int) -> None:
        super().__init__()
        self.text = glide.text
        self.to_canvas = glide.to_canvas
        self.tokens = tokens

    def forward(self, ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> list[Tensor]:
        """Each as one row of numbers a caption; without a canvas two."""
        rows, condition = self.text(ids, mask)
        said = [condition, rearrange(rows[:, -1 - self.tokens : -1], "b n d -> b (n d)")]
        return said if self.to_canvas is None else [*said, self.to_canvas(rows[:, -1])]


def reading_objective(decoder: Decoder, read: Reader, *, drop_caption: float) -> Objective[Told]:
    """How much of what the decoder is told is missed: shares of variance, mean of condition, tokens, canvas.

    The decoder's picture tokens are those of GLIDE's last rows but one, which short captions leave to
    padding. A dropped caption foretells the mean. Whoever always says the mean misses all: 1.
    """

    def objective(model: nn.Module, batch: Told, draws: Draws) -> Loss:
        with torch.no_grad():
            z = batch.embeddings * decoder.config.embedding**0.5
            caption = read(batch.clip_ids)
            _, pooled = decoder.text(caption)
            wanted = [
                decoder.to_condition(z) + pooled,
                decoder.to_tokens(z),
                *([] if decoder.to_canvas is None else [decoder.to_canvas(z)]),
            ]
        dropped = rearrange(draws.bernoulli(drop_caption), "b -> b 1")
        said = model(*read_ids(batch.ids.masked_fill(dropped, PADDING)))
        missed = [share(one, other) for one, other in zip(said, wanted, strict=True)]
        total = torch.stack(missed).mean()
        names = ("condition", "tokens", "canvas")
        report = {name: value.detach() for name, value in zip(names, missed, strict=False)}
        return Loss(total=total, report=report, baseline=1.0)

    return objective


def share(said: Float[Tensor, "b n"], wanted: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Mean squared error over the variance of what was wanted."""
    variance = (wanted - wanted.mean(dim=0)).square().mean()
    return (said.float() - wanted).square().mean() / variance


def taught(
    network: Glide,
    decoder_folder: Path,
    clip_folder: Path,
    tokenizer: CaptionTokenizer,
    config: TrainConfig,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    drop_caption: float,
) -> None:
    """Give `network` the U-Net of the decoder, and teach its encoder to read, in `out`.

    Raises ValueError for a decoder that this network cannot begin from, and for another decoder or CLIP than
    the run that is to go on began with.
    """
    lend(network, decoder_folder)
    reader = load_clip(clip_folder, device)
    decoder = loaded(decoder_folder, DecoderConfig, Decoder, next(reader.parameters()).device)
    gallery = open_gallery(folders, size=network.config.resolution, share=share)
    same_source("clip", clip_folder, out=out, resume=resume)
    same_source("decoder", decoder_folder, out=out, resume=resume)
    weights = checkpoint.digest(clip_folder)
    batches = ToldBatches(
        gallery,
        embeddings_of(reader, gallery, folders, share, weights=weights, out=out),
        tokenizer,
        network.config.text.context,
        tokenizer_of(reader),
        reader.config.text.context,
        config.seed,
    )
    reading = Reading(network, tokens=decoder.config.picture_tokens)
    train(
        reading,
        reading_objective(decoder, clip_reader(reader), drop_caption=drop_caption),
        batches,
        name="glide that reads",
        model_config=network.config.text,
        config=config,
        out=out,
        resume=resume,
        device=device,
    )
    PartialState().wait_for_everyone()  # what one process writes the others read
    _, state = checkpoint.load(out / "model", TextEncoderConfig)
    checkpoint.load_into(reading, state)  # and so into the network, whose parts these are


def lend(model: Glide, folder: Path) -> None:
    """Give `model` the U-Net of the decoder in `folder`; what foretells a variance begins at zero.

    Raises ValueError for a decoder whose U-Net is another, or that reads captions by itself.
    """
    config, state = checkpoint.load(folder, DecoderConfig)
    ours = model.config.backbone
    if not isinstance(config.text, ClipTextConfig):
        raise ValueError(
            f"decoder is '{folder}', which reads captions by itself: give one that reads them through CLIP"
        )
    if (
        isinstance(ours, PatchTransformerConfig)
        or config.diffusion.learned_variance
        or ours != replace(config.unet, out_channels=ours.out_channels)
    ):
        raise ValueError(
            f"decoder is '{folder}', whose U-Net is another ({config.unet}): give one that was trained at "
            "this --size"
        )
    lent = {name.removeprefix("unet."): value for name, value in state.items() if name.startswith("unet.")}
    for name in ("head.weight", "head.bias"):
        whole = torch.zeros_like(model.backbone.state_dict()[name])
        whole[: len(lent[name])] = lent[name]
        lent[name] = whole
    checkpoint.load_into(model.backbone, lent)
