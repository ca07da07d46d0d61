"""unCLIP's diffusion prior: caption → CLIP picture embedding.

Paper: Ramesh et al. 2022, section 2.2 and table 3. A model of vectors, hence cheap: the pictures are read by
CLIP once.

    limner train prior --size small --data data/emoji data/scenes --share 7 3 --out runs/small/prior
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor

from limner import checkpoint
from limner.clip import Clip
from limner.dalle2 import prior_diffusion
from limner.dalle2.objective import (
    EmbeddingsAndCaptions,
    EmbeddingsOfBoth,
    Reader,
    by_heart_objective,
    clip_reader,
    prior_objective,
)
from limner.dalle2.prior_autoregressive import AutoregressivePriorConfig
from limner.dalle2.prior_diffusion import ByHeart, Prior, PriorConfig
from limner.data.loader import Gallery, open_gallery
from limner.diffusion.analytic import squared_errors
from limner.diffusion.process import denoiser
from limner.diffusion.spec import DiffusionSpec
from limner.distributed import rank
from limner.draws import Draws, mix
from limner.layers.trunk import TrunkConfig
from limner.progress import watched
from limner.recipes.begin import begun, checked_start, same_source
from limner.recipes.codes import finished
from limner.recipes.embeddings import FLOOR, embedded, load_clip, said, seen
from limner.text import ClipTokenizer
from limner.training import TrainConfig, train

# Per dimension, what the paper's 17.2 is for 1024 dimensions.
SCALE_PER_DIMENSION = 17.2 / 1024**0.5
# Of how many pictures the finished prior's error is measured, at each noise level.
LOOKED_AT = 128
# How many captions are read to whiten theirs. A caption's embedding is exact, so the floor is near none.
CAPTIONS_READ = 8192
FLOOR_OF_CAPTIONS = 1e-4


@dataclass(frozen=True, kw_only=True)
class PriorRecipe:
    """`drop_caption`: how often the caption is empty, 10 % in the paper.

    `lean`: to noisy levels, 0 in the paper (`prior_objective`). `by_heart`: how the trunk is trained by
    itself, first; None where there is none, or it learns with the rest alone.
    """

    model: PriorConfig
    train: TrainConfig
    drop_caption: float
    lean: float = 0.0
    by_heart: TrainConfig | None = None


def toy() -> PriorRecipe:
    """A minute on two cores, after the toy CLIP.

    By Muon 400 steps reach a cosine of 0.933 over their last forty; by AdamW 600 reached 0.927.
    """
    model = PriorConfig(
        embedding=96,
        text_width=96,
        context=64,
        width=128,
        layers=3,
        heads=4,
        scale=SCALE_PER_DIMENSION * 96**0.5,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
    )
    training = TrainConfig(
        steps=400,
        batch=64,
        learning_rate=1.5e-3,
        warmup=30,
        betas=(0.9, 0.96),
        eps=1e-6,
        weight_decay=0.06,
        clip_norm=1.0,
        ema=0.99,
        precision="fp32",
        seed=1,
        save_every=200,
        sample_every=400,
        rule="muon",
    )
    return PriorRecipe(model=model, train=training, drop_caption=0.1)


def small() -> PriorRecipe:
    """10.5 M parameters, most of them in the trunk."""
    model = PriorConfig(
        embedding=256,
        text_width=192,
        context=48,
        width=192,
        layers=2,
        heads=6,
        scale=SCALE_PER_DIMENSION * 256**0.5,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
        trunk=TrunkConfig(width=640, layers=5),
        sphered=True,
    )
    training = TrainConfig(
        steps=3000,
        batch=128,
        learning_rate=5e-4,
        warmup=100,
        betas=(0.9, 0.96),
        eps=1e-6,
        weight_decay=0.02,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=1,
        save_every=500,
        sample_every=1000,
    )
    by_heart = replace(
        training, steps=60_000, batch=128, learning_rate=2e-3, seed=7, ema=0.999, save_every=1000
    )
    return PriorRecipe(model=model, train=training, drop_caption=0.1, lean=1.0, by_heart=by_heart)


def paper() -> PriorRecipe:
    """Table 3 of the paper: 600 000 steps of batch 4096; 1,225,925,632 parameters."""
    training = TrainConfig(
        steps=600_000,
        batch=4096,
        learning_rate=1.1e-4,
        warmup=1000,
        betas=(0.9, 0.96),
        eps=1e-6,
        weight_decay=6e-2,
        clip_norm=1.0,
        ema=0.9999,
        precision="bf16",
        seed=0,
        save_every=1000,
        sample_every=1000,
    )
    return PriorRecipe(model=prior_diffusion.paper(), train=training, drop_caption=0.1)


@dataclass(frozen=True)
class KeptBatches:
    """(step, rows) → kept embeddings of pictures and captions."""

    gallery: Gallery
    embeddings: NDArray[np.float32]
    captions: NDArray[np.float16]
    seed: int

    def __call__(self, step: int, rows: range) -> EmbeddingsOfBoth:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        kept = self.captions.shape[2]
        which = [mix("kept", self.seed, step, row) % kept for row in rows]
        z = torch.from_numpy(self.embeddings[drawn.pictures, drawn.grounds])
        captions = torch.from_numpy(self.captions[drawn.pictures, drawn.grounds, which])
        return EmbeddingsOfBoth(z, captions.float())


@dataclass(frozen=True)
class EmbeddingBatches:
    """(step, rows) → kept embeddings and token ids."""

    gallery: Gallery
    embeddings: NDArray[np.float32]
    tokenizer: ClipTokenizer
    context: int
    seed: int

    def __call__(self, step: int, rows: range) -> EmbeddingsAndCaptions:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        z = torch.from_numpy(self.embeddings[drawn.pictures, drawn.grounds])
        return EmbeddingsAndCaptions(z, self.tokenizer(drawn.captions, self.context))


def tokenizer_of(clip: Clip) -> ClipTokenizer:
    """The tokenizer a CLIP was trained with."""
    return ClipTokenizer(clip.config.text.vocabulary)


def reader_for(model: PriorConfig | AutoregressivePriorConfig, clip: Path, device: str | None) -> Clip:
    """The CLIP in a folder, frozen; ValueError for one whose embeddings or captions a prior cannot take."""
    reader = load_clip(clip, device)
    seen, text = reader.config.embedding, reader.config.text
    widths_agree = (seen, text.width) == (model.embedding, model.text_width)
    if not widths_agree or text.context > model.context:
        raise ValueError(
            f"clip is '{clip}': its embeddings have {seen} numbers, and captions up to {text.context} tokens "
            f"of {text.width}; this prior takes {model.embedding}, and up to {model.context} of "
            f"{model.text_width}; give one trained at the same --size"
        )
    return reader


def run(
    recipe: PriorRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    clip: Path,
    init_from: Path | None = None,
) -> Path:
    """Train on the embeddings of the CLIP in folder `clip`; return the folder of the finished model.

    Raises ValueError for a CLIP of other widths than the recipe's model, one that reads longer captions, or
    another than the run that is to go on began with.
    """
    checked_start(recipe.model, init_from)
    reader = reader_for(recipe.model, clip, device)
    model, text = recipe.model, reader.config.text
    gallery = open_gallery(folders, size=reader.config.vision.resolution, share=share)
    legs = ("by-heart",) if recipe.by_heart is not None and init_from is None else ()
    same_source("clip", clip, out=out, resume=resume, legs=legs)
    tokenizer, context = tokenizer_of(reader), text.context
    embeddings = embedded(reader, gallery, weights=checkpoint.digest(clip), out=out)
    batches = EmbeddingBatches(gallery, embeddings, tokenizer, context, recipe.train.seed)
    torch.manual_seed(recipe.train.seed)
    prior = begun(Prior(model), model, init_from)
    if init_from is None:
        whiten(prior, seen(gallery, embeddings), batches, reader)
        if recipe.by_heart is not None:
            captions = said(reader, tokenizer, gallery, weights=checkpoint.digest(clip), out=out)
            kept = KeptBatches(gallery, embeddings, captions, recipe.by_heart.seed)
            place = next(reader.parameters()).device
            empty = clip_reader(reader)(tokenizer([""], context).to(place)).embedding[0]
            remembered(prior, recipe, kept, empty, out=out / "by-heart", resume=resume, device=device)
    train(
        prior,
        prior_objective(
            clip_reader(reader),
            empty=tokenizer([""], context)[0],
            drop_caption=recipe.drop_caption,
            lean=recipe.lean,
        ),
        batches,
        name="prior",
        model_config=model,
        config=recipe.train,
        out=out,
        resume=resume,
        device=device,
    )
    measure(out / "model", clip_reader(reader), batches, device)
    return out / "model"


def remembered(
    prior: Prior,
    recipe: PriorRecipe,
    batches: KeptBatches,
    empty: Tensor,
    *,
    out: Path,
    resume: bool,
    device: str | None,
) -> None:
    """Train a prior's trunk in the folder `out`, and put the averaged weights in its place."""
    assert recipe.by_heart is not None
    alone = ByHeart(prior)
    train(
        alone,
        by_heart_objective(prior, empty=empty, drop_caption=recipe.drop_caption, lean=recipe.lean),
        batches,
        name="prior's trunk",
        model_config=prior.config,
        config=recipe.by_heart,
        out=out,
        resume=resume,
        device=device,
    )
    PartialState().wait_for_everyone()  # what one process writes the others read
    checkpoint.load_into(alone, checkpoint.load(out / "model", PriorConfig)[1])
    alone.requires_grad_()


def whiten(prior: Prior, pictures: NDArray[np.float32], batches: EmbeddingBatches, clip: Clip) -> None:
    """Fit a prior's whitenings, if it has any, to the embeddings of pictures and of captions."""
    if prior.sphere is not None:
        prior.sphere.fit(torch.from_numpy(pictures), floor=FLOOR)
    if prior.behind is not None:
        ids = batches(-1, range(CAPTIONS_READ)).ids.split(256)
        read, place = clip_reader(clip), next(clip.parameters()).device
        captions = torch.cat(
            [read(part.to(place)).embedding.cpu() for part in watched(ids, "reading captions")]
        )
        prior.behind.said.fit(captions, floor=FLOOR_OF_CAPTIONS)


@torch.inference_mode()
def measure(model: Path, read: Reader, batches: EmbeddingBatches, device: str | None) -> None:
    """Write into a finished prior how far off it is at each of its times, for the variance of its steps."""
    prior = finished(Prior, PriorConfig, model, device)
    if rank() != 0:
        return
    config, place = prior.config, prior.query.device
    errors, levels = [], config.diffusion.levels()
    for number, t in enumerate(watched(prior.times(), "measuring the prior's errors")):
        batch = batches(-1 - number, range(LOOKED_AT))
        tokens, caption, mask = read(batch.ids.to(place))
        denoise = denoiser(
            partial(prior, tokens=tokens, caption=caption, mask=mask), levels, config.diffusion.prediction
        )
        z = prior.spoken(batch.embeddings.to(place))
        draws = Draws.for_step(batches.seed, -1 - number, range(LOOKED_AT), device=place)
        errors.append(squared_errors(denoise, levels, z, t, draws).mean())
    prior.errors.copy_(torch.stack(errors))
    checkpoint.save(model, prior.state_dict(), config)
