"""unCLIP's other prior: caption → codes of the CLIP picture embedding, one after another.

Paper: Ramesh et al. 2022, section 2.2 and table 3. The same embeddings as the diffusion prior's, cut down to
their principal components and into buckets.

    limner train prior-autoregressive --size small --data data/emoji data/scenes --share 7 3 \\
        --clip runs/small/clip/model --out runs/small/prior-autoregressive
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from limner import checkpoint
from limner.clip import Clip
from limner.dalle2 import prior_autoregressive
from limner.dalle2.objective import autoregressive_prior_objective, clip_reader
from limner.dalle2.prior_autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from limner.data.loader import open_gallery
from limner.recipes.begin import begun, checked_start, same_source
from limner.recipes.embeddings import embedded
from limner.recipes.prior import EmbeddingBatches, reader_for, tokenizer_of
from limner.training import TrainConfig, train

# Captions whose dot products with their pictures are looked at, and how many at once.
LOOKED_AT, AT_ONCE = 4096, 512


@dataclass(frozen=True, kw_only=True)
class AutoregressivePriorRecipe:
    """`drop_caption`: how often the caption is empty, 10 % in the paper."""

    model: AutoregressivePriorConfig
    train: TrainConfig
    drop_caption: float


def toy() -> AutoregressivePriorRecipe:
    """A minute on two cores, after the toy CLIP."""
    model = AutoregressivePriorConfig(
        embedding=96,
        text_width=96,
        context=64,
        components=32,
        buckets=16,
        dots=8,
        width=96,
        layers=3,
        heads=4,
    )
    training = TrainConfig(
        steps=400,
        batch=32,
        learning_rate=1.5e-3,
        warmup=30,
        betas=(0.9, 0.96),
        eps=1e-8,
        weight_decay=0.02,
        clip_norm=1.0,
        ema=0.99,
        precision="fp32",
        seed=4,
        save_every=200,
        sample_every=400,
        rule="muon",
    )
    return AutoregressivePriorRecipe(model=model, train=training, drop_caption=0.1)


def small() -> AutoregressivePriorRecipe:
    """What ships, after 1150 and 3000 steps: 112 components hold 99 % of the variance; 2.4 M parameters."""
    model = AutoregressivePriorConfig(
        embedding=256,
        text_width=192,
        context=48,
        components=112,
        buckets=64,
        dots=16,
        width=192,
        layers=5,
        heads=6,
    )
    training = TrainConfig(
        steps=4000,
        batch=64,
        learning_rate=1e-3,
        warmup=100,
        betas=(0.9, 0.96),
        eps=1e-8,
        weight_decay=0.04,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=4,
        save_every=300,
        sample_every=1000,
        rule="muon",
    )
    return AutoregressivePriorRecipe(model=model, train=training, drop_caption=0.1)


def paper() -> AutoregressivePriorRecipe:
    """Table 3 of the paper: a million steps of batch 4096; 807,873,024 parameters."""
    training = TrainConfig(
        steps=1_000_000,
        batch=4096,
        learning_rate=1.6e-4,
        warmup=1000,
        betas=(0.9, 0.91),
        eps=1e-10,
        weight_decay=4e-2,
        clip_norm=1.0,
        ema=0.999,
        precision="bf16",
        seed=0,
        save_every=1000,
        sample_every=1000,
    )
    return AutoregressivePriorRecipe(model=prior_autoregressive.paper(), train=training, drop_caption=0.1)


def run(
    recipe: AutoregressivePriorRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    clip: Path,
    init_from: Path | None = None,
) -> Path:
    """Fit PCA and buckets to the embeddings of the CLIP in folder `clip`, train; return the model's folder.

    Raises ValueError for a CLIP of other widths than the recipe's model, one that reads longer captions, or
    another than the run that is to go on began with.
    """
    checked_start(recipe.model, init_from)
    reader = reader_for(recipe.model, clip, device)
    model, text = recipe.model, reader.config.text
    gallery = open_gallery(folders, size=reader.config.vision.resolution, share=share)
    same_source("clip", clip, out=out, resume=resume)
    tokenizer = tokenizer_of(reader)
    embeddings = embedded(reader, gallery, weights=checkpoint.digest(clip), out=out)
    batches = EmbeddingBatches(gallery, embeddings, tokenizer, text.context, recipe.train.seed)
    torch.manual_seed(recipe.train.seed)
    prior = begun(AutoregressivePrior(model), model, init_from)
    if init_from is None:
        every = rearrange(torch.from_numpy(embeddings), "n grounds d -> (n grounds) d")
        prior.pca.fit(every[every.any(dim=1)])  # opaque pictures have one ground, and zeros for the others
        prior.dot_edges.copy_(dot_edges(reader, batches, model.dots, device))
    train(
        prior,
        autoregressive_prior_objective(
            clip_reader(reader), empty=tokenizer([""], text.context)[0], drop_caption=recipe.drop_caption
        ),
        batches,
        name="autoregressive prior",
        model_config=model,
        config=recipe.train,
        out=out,
        resume=resume,
        device=device,
    )
    return out / "model"


def dot_edges(clip: Clip, batches: EmbeddingBatches, dots: int, device: str | None) -> Float[Tensor, "n"]:
    """Borders between ranges of z_i·z_t into which as many pictures of the training fall each."""
    read, found = clip_reader(clip), []
    for start in range(0, LOOKED_AT, AT_ONCE):
        batch = batches(-1, range(start, start + AT_ONCE))
        captions = read(batch.ids if device is None else batch.ids.to(device)).embedding.cpu()
        found.append((batch.embeddings * captions).sum(dim=1))
    return torch.quantile(torch.cat(found), torch.linspace(0, 1, dots + 1)[1:-1])
