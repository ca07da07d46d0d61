"""The losses of DALL-E 2's networks. Each is diffusion's one idea: noise, predict, compare."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.clip import Clip, TextWithProjection, spoken, trimmed, unit
from limner.dalle2.decoder import Caption, ClipTokens, Decoder
from limner.dalle2.prior_autoregressive import AutoregressivePrior
from limner.dalle2.prior_diffusion import Prior
from limner.dalle2.sketch import Sketch
from limner.dalle2.upsampler import Upsampler
from limner.diffusion.objective import diffusion_loss, noised
from limner.diffusion.process import simple_loss
from limner.distributed import averaged
from limner.draws import Draws
from limner.layers.trunk import Whitening
from limner.objective import Loss, Objective, unwrapped


class EmbeddingsAndCaptions(NamedTuple):
    """For the prior: CLIP's unit picture embeddings (B, d) and the captions' token ids (B, L)."""

    embeddings: Tensor
    ids: Tensor


class EmbeddingsOfBoth(NamedTuple):
    """For the prior's trunk: CLIP's unit embeddings of pictures and of their captions, (B, d) each."""

    embeddings: Tensor
    captions: Tensor


class PicturesAndCaptions(NamedTuple):
    """For the decoder: pictures in [-1, 1], their unit CLIP embeddings, and the captions' token ids."""

    pictures: Tensor
    embeddings: Tensor
    ids: Tensor


class SeenPictures(NamedTuple):
    """For the sketch: pictures in [-1, 1], and their and their captions' unit CLIP embeddings, (B, d) each.

    The captions' are None where it does not read them.
    """

    pictures: Tensor
    embeddings: Tensor
    captions: Tensor | None = None


class Pictures(NamedTuple):
    """For an upsampler: high-resolution pictures in [-1, 1], whole or cropped."""

    pictures: Tensor


_READ_APART = 4
# Frozen reader of token ids; what it makes of them is the networks' caption input.
Reader = Callable[[Int[Tensor, "b l"]], ClipTokens]


def clip_reader(clip: Clip | TextWithProjection, *, raw: bool = False) -> Reader:
    """Captions as a frozen CLIP reads them: text tokens, embedding, and which tokens are caption.

    The embedding is unit, unless it is wanted `raw`.
    """

    @torch.no_grad()
    def read(ids: Int[Tensor, "b l"]) -> ClipTokens:
        ids = trimmed(ids)
        pooled, tokens = clip.encode_text(ids)
        embedding = pooled.float() if raw else unit(pooled.float())
        return ClipTokens(tokens=tokens, embedding=embedding, mask=spoken(ids))

    return read


def with_drops(ids: Int[Tensor, "b l"], empty: Int[Tensor, "l"], drops: Tensor) -> Int[Tensor, "b l"]:
    """Put the empty caption where `drops` is True: guidance needs a model that has seen no caption."""
    return torch.where(rearrange(drops, "b -> b 1"), empty.to(ids.device), ids)


def prior_objective(
    read: Reader, *, empty: Int[Tensor, "l"], drop_caption: float, lean: float = 0.0
) -> Objective[EmbeddingsAndCaptions]:
    """Mean squared error of the predicted, scaled embedding; 10 % of captions empty in the paper.

    `lean` to noisy levels (`noised`): where little noise is left an embedding gives away which one it is, and
    the words are not asked.

    Reports the cosine between prediction and truth over all noise levels. A model that knows nothing
    predicts the mean of the embeddings, and `cosine_of_mean` is what that one has.
    """

    def objective(model: nn.Module, batch: EmbeddingsAndCaptions, draws: Draws) -> Loss:
        prior = unwrapped(model, Prior)
        ids = with_drops(batch.ids, empty, draws.bernoulli(drop_caption))
        z = prior.spoken(batch.embeddings)
        n = noised(prior.config.diffusion, z, draws, lean=lean)
        # Short captions apart from long ones: most have far fewer tokens than the longest.
        order = ids.argmax(dim=1).argsort()
        parts = []
        for rows in order.chunk(_READ_APART):
            tokens, caption, mask = read(ids[rows])
            parts.append(model(n.x_t[rows], n.t[rows], tokens=tokens, caption=caption, mask=mask))
        predicted = torch.cat(parts)[order.argsort()].float()
        loss = simple_loss(predicted, z).mean()
        mean = rearrange(averaged(z.mean(dim=0)), "d -> 1 d")
        found, middle = prior.embeddings(predicted.detach()), prior.embeddings(mean)
        report = {
            "cosine": torch.cosine_similarity(found, batch.embeddings).mean(),
            "cosine_of_mean": torch.cosine_similarity(middle, batch.embeddings).mean(),
        }
        return Loss(total=loss, report=report, baseline=float(averaged((z - mean).square().mean())))

    return objective


def by_heart_objective(
    prior: Prior, *, empty: Float[Tensor, "d"], drop_caption: float, lean: float = 0.0
) -> Objective[EmbeddingsOfBoth]:
    """The same for the trunk alone; `empty`: the embedding of the empty caption.

    `prior` says what is spoken of, and is not called.
    """

    def objective(model: nn.Module, batch: EmbeddingsOfBoth, draws: Draws) -> Loss:
        dropped = rearrange(draws.bernoulli(drop_caption), "b -> b 1")
        captions = torch.where(dropped, empty.to(batch.captions), batch.captions)
        z = prior.spoken(batch.embeddings)
        n = noised(prior.config.diffusion, z, draws, lean=lean)
        loss = simple_loss(model(n.x_t, n.t, captions).float(), z).mean()
        mean = rearrange(averaged(z.mean(dim=0)), "d -> 1 d")
        return Loss(total=loss, report={}, baseline=float(averaged((z - mean).square().mean())))

    return objective


def autoregressive_prior_objective(
    read: Reader, *, empty: Int[Tensor, "l"], drop_caption: float
) -> Objective[EmbeddingsAndCaptions]:
    """Cross-entropy of an embedding's codes, in nats a code; 10 % of captions empty in the paper.

    The dot product is that with the true caption, also where the model is given the empty one: sampling shows
    both sides of guidance the same token. A model that knows nothing takes every bucket for as likely.
    Reports bits a code, and those of the first eight components.
    """

    def objective(model: nn.Module, batch: EmbeddingsAndCaptions, draws: Draws) -> Loss:
        prior = unwrapped(model, AutoregressivePrior)
        dots = prior.dot_tokens(batch.embeddings, read(batch.ids).embedding)
        tokens, caption, mask = read(with_drops(batch.ids, empty, draws.bernoulli(drop_caption)))
        codes = prior.pca.encode(batch.embeddings)
        logits = model(codes, dots, tokens=tokens, caption=caption, mask=mask).float()
        losses = F.cross_entropy(rearrange(logits, "b k v -> b v k"), codes, reduction="none")
        report = {"bits": losses.mean() / math.log(2), "bits_first": losses[:, :8].mean() / math.log(2)}
        return Loss(
            total=losses.mean(),
            report={name: value.detach() for name, value in report.items()},
            baseline=math.log(prior.config.buckets),
        )

    return objective


def decoder_objective(
    read: Callable[[Int[Tensor, "b l"]], Caption],
    *,
    empty: Int[Tensor, "l"],
    drop_picture: float,
    drop_caption: float,
    blur_picture: float,
    max_weight: float | None,
) -> Objective[PicturesAndCaptions]:
    """Diffusion loss of pictures given z_i and caption, dropped independently (10 % and 50 % in the paper).

    `blur_picture`: see `imprecise`; 0 in the paper.

    `max_weight`: for x₀-prediction, weigh each row by min(1/(1 − ᾱ), this); None weighs evenly. It is near 1
    where all is noise, so that the layout is learned too; the signal-to-noise ratio would be near 0 there.
    """

    def objective(model: nn.Module, batch: PicturesAndCaptions, draws: Draws) -> Loss:
        decoder = unwrapped(model, Decoder)
        config = decoder.config
        if config.raw:
            raise ValueError("raw is True: decoders are trained here on unit embeddings, so leave it out")
        keep_picture = ~draws.bernoulli(drop_picture)
        caption = read(with_drops(batch.ids, empty, draws.bernoulli(drop_caption)))
        picture = decoder.told(batch.embeddings)
        if blur_picture:
            picture = blurred(decoder, batch.embeddings, blur_picture * draws.uniform(), draws)
        n = noised(config.diffusion, batch.pictures, draws)
        output = model(
            n.x_t,
            n.t,
            picture=picture,
            keep_picture=keep_picture,
            caption=caption,
        )
        return diffusion_loss(config.diffusion, batch.pictures, n, output, max_weight=max_weight)

    return objective


def blurred(
    decoder: Decoder, embeddings: Float[Tensor, "b d"], blur: Float[Tensor, "b"], draws: Draws
) -> Float[Tensor, "b d"]:
    """What the decoder is told, as imprecise as a prior: `shaken` where it has a sketch, else `imprecise`."""
    if decoder.sketch is None:
        noise = draws.normal(decoder.config.embedding)
        return decoder.told(imprecise(embeddings, blur, noise))
    return shaken(decoder.sketch.sphere, decoder.told(embeddings), blur, draws)


def imprecise(
    embeddings: Float[Tensor, "b d"], blur: Float[Tensor, "b"], noise: Float[Tensor, "b d"]
) -> Float[Tensor, "b d"]:
    """Unit embeddings with noise of about `blur` times their length: at cosine 1/√(1 + blur²) to before.

    A small prior's embeddings are off by about that much. A decoder that has only seen exact ones takes every
    error for a detail; it is the cascade's remedy (Ho et al. 2021, section 4, conditioning augmentation) one
    stage earlier.
    """
    return unit(embeddings + rearrange(blur, "b -> b 1") * noise / embeddings.shape[1] ** 0.5)


def shaken(
    sphere: Whitening, picture: Float[Tensor, "b d"], blur: Float[Tensor, "b"], draws: Draws
) -> Float[Tensor, "b d"]:
    """Embeddings with noise of deviation `blur` in all directions of the sphere, where each varies by one.

    A prior that speaks of the sphere errs by about as much in all of them.
    """
    noise = draws.normal(picture.shape[1])
    return sphere.inverse(sphere(picture) + rearrange(blur, "b -> b 1") * noise)


def sketch_objective(
    told: float,
    *,
    drop_picture: float,
    blur_picture: float,
    empty: Float[Tensor, "d"] | None = None,
    drop_caption: float = 0.0,
) -> Objective[SeenPictures]:
    """Squared error of a sketch from the picture's embedding times `told`, `shaken` and sometimes dropped.

    Where it reads captions, `drop_caption` of them are replaced by `empty`, the embedding of the empty one,
    and independently of the pictures'. The baseline is the error of the mean picture; `seen` is that of those
    whose picture's embedding is not dropped. Raises ValueError for captions to drop and no `empty` one.
    """
    if drop_caption and empty is None:
        raise ValueError(f"drop_caption is {drop_caption}: give the empty caption's embedding as empty")

    def objective(model: nn.Module, batch: SeenPictures, draws: Draws) -> Loss:
        sketch = unwrapped(model, Sketch)
        picture = shaken(sketch.sphere, batch.embeddings * told, blur_picture * draws.uniform(), draws)
        dropped = draws.bernoulli(drop_picture)
        picture = picture.masked_fill(rearrange(dropped, "b -> b 1"), 0.0)
        captions = batch.captions
        if captions is not None and empty is not None:
            unsaid = rearrange(draws.bernoulli(drop_caption), "b -> b 1")
            captions = torch.where(unsaid, empty.to(captions), captions)
        error = simple_loss(model(picture, captions), batch.pictures)
        seen = (error * ~dropped).sum() / (~dropped).sum().clamp(min=1)
        middle = averaged(batch.pictures.mean(dim=0))
        baseline = averaged((batch.pictures - middle).square().mean())
        return Loss(total=error.mean(), report={"seen": seen.detach()}, baseline=float(baseline))

    return objective


def upsampler_objective(
    corrupt: Callable[[Tensor, Draws], Tensor], *, max_weight: float | None
) -> Objective[Pictures]:
    """Diffusion loss of high-resolution crops given their area-averaged reduction, corrupted.

    `corrupt`: what small pictures (B, 3, H, W) go through, in the paper blur before the first upsampler and
    BSR's degradations before the second; see `limner.layers.corruptions`.
    """

    def objective(model: nn.Module, batch: Pictures, draws: Draws) -> Loss:
        config = unwrapped(model, Upsampler).config
        low = corrupt(reduced(batch.pictures, config.high // config.low), draws)
        n = noised(config.diffusion, batch.pictures, draws)
        output = model(n.x_t, n.t, low=low)
        return diffusion_loss(config.diffusion, batch.pictures, n, output, max_weight=max_weight)

    return objective


def reduced(pictures: Float[Tensor, "b 3 h w"], factor: int) -> Float[Tensor, "b 3 h2 w2"]:
    """Area average over factor × factor pixels."""
    return nn.functional.avg_pool2d(pictures, factor)
