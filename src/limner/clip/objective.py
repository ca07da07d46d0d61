"""CLIP's symmetric contrastive loss, over the batch of all processes; and that of what stands on a CLIP."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limner.clip.classifiers import Pooled, Tokens
from limner.clip.model import MAX_SCALE, Clip, Pair, TextTower, trimmed, unit
from limner.diffusion.objective import noised
from limner.diffusion.spec import DiffusionSpec
from limner.distributed import averaged, gathered, rank
from limner.draws import Draws
from limner.objective import Loss, Objective, unwrapped


@dataclass(frozen=True)
class CaptionedPictures:
    """Pictures in [-1, 1], (B, 3, H, W), and their captions' token ids, (B, L)."""

    pictures: Tensor
    ids: Tensor


@dataclass(frozen=True)
class SeenAndCaptioned:
    """Unit embeddings of pictures, (B, d), and their captions' token ids, (B, L)."""

    images: Tensor
    ids: Tensor


@dataclass(frozen=True)
class LabelledPairs:
    """What CLIP makes of pictures and captions, and the numbers (B,) of what they are together."""

    pairs: Pooled | Tokens
    labels: Tensor


def contrastive_loss(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    same: Int[Tensor, "n"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of picture → caption and caption → picture cross-entropies (Radford et al. 2021, figure 3).

    `images`, `texts`: this process's unit embeddings; negatives come from every process. `same`: one integer
    per row of the whole batch; rows that share it say the same thing and are not each other's negatives
    (two pictures captioned "a red apple" in one batch would otherwise be pushed apart).
    A model that knows nothing scores ln(batch).
    """
    all_images, all_texts = gathered(images), gathered(texts)
    rows = numbers(images)
    # Cosines times a hundred need more than the eight bits that autocast would leave them.
    with torch.autocast(images.device.type, enabled=False):
        by_image = scale * images @ all_texts.T
        by_text = scale * texts @ all_images.T
    if same is not None:
        twin = same[rows, None] == same[None, :]
        twin[torch.arange(len(rows)), rows] = False
        by_image, by_text = by_image.masked_fill(twin, -torch.inf), by_text.masked_fill(twin, -torch.inf)
    return (F.cross_entropy(by_image, rows) + F.cross_entropy(by_text, rows)) / 2


def numbers(local: Float[Tensor, "b d"]) -> Int[Tensor, "b"]:
    """Where this process's rows stand in the whole batch."""
    return torch.arange(len(local), device=local.device) + rank() * len(local)


def forgotten(thumbnails: Float[Tensor, "b 3 s s"], pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Share of the pictures' variance, at the thumbnails' size, that they miss; 1 for their mean.

    The variance is that of the pictures of all processes, so that their average is what one would find.
    """
    small = F.adaptive_avg_pool2d(pictures.float(), thumbnails.shape[-1])
    mean = averaged(small.mean(dim=0))
    variance = averaged((small - mean).square().mean())
    return (thumbnails.float() - small).square().mean() / variance.clamp(min=1e-6)


def contrastive_objective(
    chunk: int | None = None, *, recall_weight: float = 1.0, noise: DiffusionSpec | None = None
) -> Objective[CaptionedPictures]:
    """The training objective: contrastive loss, and the share of rows that find their partner.

    `chunk`: rows at a time through the towers, for batches larger than memory (see `Clip.forward`).
    `recall_weight`: of the thumbnails' error, where the model has a head for them. `noise`: the diffusion
    whose noised pictures a noised CLIP reads, each row at a level of its own (Nichol et al. 2021, 2.3).
    """

    def objective(model: torch.nn.Module, batch: CaptionedPictures, draws: Draws) -> Loss:
        clip = unwrapped(model, Clip)
        with torch.no_grad():  # as published: the temperature is clamped between steps, not in the graph
            clip.log_scale.clamp_(0, math.log(MAX_SCALE))
        pictures, t = batch.pictures, None
        if noise is not None:
            n = noised(noise, pictures, draws)
            pictures, t = n.x_t, n.t
        pair: Pair = model(pictures, batch.ids, chunk=chunk, t=t)
        images, texts = pair.images.float(), pair.texts.float()
        # Each process cuts the padding that its own rows share; to be gathered they need one length.
        missing = clip.config.text.context - batch.ids.shape[1]
        same = caption_groups(gathered(F.pad(batch.ids, (0, missing)).float()))
        loss = contrastive_loss(images, texts, pair.scale, same)
        with torch.no_grad():
            found = ((images @ gathered(texts).T).argmax(dim=1) == numbers(images)).float().mean()
        report = {"retrieval": found, "scale": pair.scale.detach()}
        baseline = math.log(len(same))
        if pair.thumbnails is not None:
            missed = forgotten(pair.thumbnails, batch.pictures)
            report["forgotten"] = missed.detach()
            loss, baseline = loss + recall_weight * missed, baseline + recall_weight
        return Loss(total=loss, report=report, baseline=baseline)

    return objective


def locked_objective(scale: float) -> Objective[SeenAndCaptioned]:
    """The contrastive loss of a text tower alone, before pictures that a finished tower has seen.

    Locked-image tuning (Zhai et al. 2022): the pictures' embeddings stay where they are, so what stands on
    them stays right, and a step costs the captions only. `scale`: of their cosine, which stays as well.
    """

    def objective(model: torch.nn.Module, batch: SeenAndCaptioned, _draws: Draws) -> Loss:
        context = unwrapped(model, TextTower).config.context
        ids = trimmed(batch.ids)
        texts = unit(model(ids).pooled.float())
        same = caption_groups(gathered(F.pad(ids, (0, context - ids.shape[1])).float()))
        loss = contrastive_loss(batch.images, texts, torch.tensor(scale, device=texts.device), same)
        with torch.no_grad():
            found = ((batch.images @ gathered(texts).T).argmax(dim=1) == numbers(texts)).float().mean()
        return Loss(total=loss, report={"retrieval": found}, baseline=math.log(len(same)))

    return objective


def caption_groups(ids: Float[Tensor, "b l"]) -> Int[Tensor, "b"]:
    """Number the distinct captions of a batch; equal captions share a number."""
    return torch.unique(ids, dim=0, return_inverse=True)[1]


def classifying_objective() -> Objective[LabelledPairs]:
    """Cross-entropy of a classifier's answers, and the share that is right; guessing scores ln(classes)."""

    def objective(model: torch.nn.Module, batch: LabelledPairs, _draws: Draws) -> Loss:
        logits: Tensor = model(batch.pairs)
        right = (logits.argmax(dim=1) == batch.labels).float().mean()
        loss = F.cross_entropy(logits.float(), batch.labels)
        return Loss(total=loss, report={"right": right.detach()}, baseline=math.log(logits.shape[1]))

    return objective
