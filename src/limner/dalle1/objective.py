"""Cross-entropy of text and image tokens, 1/8 and 7/8."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.dalle1.model import NOTHING, Dalle1, Logits
from limner.draws import Draws
from limner.objective import Loss, Objective, unwrapped

TEXT_SHARE = 1 / 8


@dataclass(frozen=True)
class CaptionedTokens:
    """Caption ids (B, caption), `NOTHING` behind their ends, and image ids (B, W²)."""

    text: Tensor
    image: Tensor


def cross_entropies(
    logits: Logits, text: Int[Tensor, "b l"], image: Int[Tensor, "b n"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean nats per text token and per image token; what lies behind a caption's end is no token."""
    # Without a single caption in the batch the sum is 0, and so is the mean.
    tokens = (text != NOTHING).sum().clamp(min=1)
    of_text, of_image = (rearrange(of, "b n v -> (b n) v").float() for of in logits)
    in_text = F.cross_entropy(of_text, text.flatten(), ignore_index=NOTHING, reduction="sum") / tokens
    return in_text, F.cross_entropy(of_image, image.flatten())


def uniform_loss(text_vocabulary: int, image_vocabulary: int) -> float:
    """The loss of a model to which all tokens are alike; ln(16384)/8 + 7 ln(8192)/8 at the paper's size."""
    return TEXT_SHARE * math.log(text_vocabulary) + (1 - TEXT_SHARE) * math.log(image_vocabulary)


def token_objective(*, drop_caption: float, baseline: float | None = None) -> Objective[CaptionedTokens]:
    """1/8 of the mean over text tokens plus 7/8 of the mean over image tokens (section 2.2 of the paper).

    `drop_caption`: how often a caption is all padding, so that guidance has something to lead away from.
    `baseline`: the loss of something that has only counted tokens, where known; else all tokens alike.
    """

    def objective(model: nn.Module, batch: CaptionedTokens, draws: Draws) -> Loss:
        config = unwrapped(model, Dalle1).config
        dropped = rearrange(draws.bernoulli(drop_caption), "b -> b 1")
        text = batch.text.masked_fill(dropped, NOTHING)
        in_text, in_image = cross_entropies(model(text, batch.image), text, batch.image)
        total = TEXT_SHARE * in_text + (1 - TEXT_SHARE) * in_image
        to_beat = (
            uniform_loss(config.text_vocabulary, config.image_vocabulary) if baseline is None else baseline
        )
        with torch.no_grad():
            report = {"text bits": in_text / math.log(2), "image bits": in_image / math.log(2)}
        return Loss(total=total, report=report, baseline=to_beat)

    return objective
