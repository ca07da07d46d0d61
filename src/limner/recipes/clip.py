"""CLIP on captioned pictures.

Paper: Radford et al. 2021. The small one sees 64×64 emoji; its text tower knows the first merges of CLIP's
vocabulary, so that the table of tokens stays small.

    limner train clip --size small --data data/emoji data/scenes --share 7 3 --out runs/small/clip
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from limner import checkpoint
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig, contrastive_objective, trimmed
from limner.clip.model import vit_h_16
from limner.clip.objective import CaptionedPictures, SeenAndCaptioned, locked_objective
from limner.data.loader import Gallery, open_gallery
from limner.diffusion.spec import DiffusionSpec
from limner.distributed import rank
from limner.recipes.begin import begun, checked_start
from limner.recipes.embeddings import embedded, load_clip
from limner.text import ClipTokenizer
from limner.training import TrainConfig, train


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """`chunk`: rows at a time through the towers, None for all. `recall_weight`: of thumbnails' error.

    `noise`: the diffusion whose noised pictures are read, None for clean ones. `captions`: the text tower's
    own training, afterwards, before the embeddings of the finished picture tower; None for none.
    """

    model: ClipConfig
    train: TrainConfig
    chunk: int | None
    recall_weight: float
    noise: DiffusionSpec | None = None
    captions: TrainConfig | None = None


def toy() -> ClipRecipe:
    """Under a minute on two cores with the shipped sample; knows most of its hundred names by heart."""
    model = ClipConfig(
        vision=VisionConfig(resolution=32, patch=8, width=96, layers=3, heads=3, layout=12),
        text=TextConfig(context=64, vocabulary=2048, width=96, layers=2, heads=3),
        embedding=96,
        activation="quick_gelu",
        thumbnail=8,
    )
    training = TrainConfig(
        steps=200,
        batch=96,
        learning_rate=2e-3,
        warmup=30,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.1,
        clip_norm=10.0,
        ema=0.99,
        precision="fp32",
        seed=0,
        save_every=100,
        sample_every=200,
        rule="muon",
    )
    return ClipRecipe(model=model, train=training, chunk=None, recall_weight=2.0)


def small() -> ClipRecipe:
    """What ships: 5.2 M parameters, about two hours of a core, then half an hour for captions alone."""
    model = ClipConfig(
        vision=VisionConfig(resolution=64, patch=8, width=192, layers=4, heads=4, layout=8),
        text=TextConfig(context=48, vocabulary=6144, width=192, layers=4, heads=4),
        embedding=256,
        activation="quick_gelu",
        thumbnail=16,
    )
    training = TrainConfig(
        steps=2500,
        batch=192,
        learning_rate=1.2e-3,
        warmup=100,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.1,
        clip_norm=10.0,
        ema=0.998,
        precision="auto",
        seed=21,
        save_every=300,
        sample_every=400,
        rule="muon",
    )
    captions = replace(training, steps=1500, batch=256, seed=22, save_every=200)
    return ClipRecipe(model=model, train=training, chunk=None, recall_weight=5.0, captions=captions)


def paper() -> ClipRecipe:
    """The CLIP under DALL-E 2, ViT-H/16: 986,339,841 parameters (Ramesh et al. 2022, appendix C)."""
    training = TrainConfig(
        steps=400_000,
        batch=32_768,
        learning_rate=3e-4,
        warmup=2000,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.2,
        clip_norm=10.0,
        ema=0.9999,
        precision="bf16",
        seed=0,
        save_every=1000,
        sample_every=1000,
    )
    return ClipRecipe(model=vit_h_16(), train=training, chunk=64, recall_weight=0.0)


def captioned_batches(gallery: Gallery, config: TextConfig, *, seed: int) -> "CaptionedBatches":
    """Batches of a gallery for a CLIP of this text size."""
    return CaptionedBatches(gallery, ClipTokenizer(config.vocabulary), config.context, seed)


@dataclass(frozen=True)
class CaptionedBatches:
    """(step, rows) → pictures and token ids."""

    gallery: Gallery
    tokenizer: ClipTokenizer
    context: int
    seed: int

    def __call__(self, step: int, rows: range) -> CaptionedPictures:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        pictures = self.gallery.composited(drawn.pictures, drawn.grounds)
        return CaptionedPictures(pictures, trimmed(self.tokenizer(drawn.captions, self.context)))


def run(
    recipe: ClipRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    init_from: Path | None = None,
) -> Path:
    """Train, and return the folder of the finished model."""
    checked_start(recipe.model, init_from)
    gallery = open_gallery(folders, size=recipe.model.vision.resolution, share=share)
    torch.manual_seed(recipe.train.seed)
    model = Clip(recipe.model)
    train(
        begun(model, recipe.model, init_from),
        contrastive_objective(recipe.chunk, recall_weight=recipe.recall_weight, noise=recipe.noise),
        captioned_batches(gallery, recipe.model.text, seed=recipe.train.seed),
        name="clip" if recipe.noise is None else "noised clip",
        model_config=recipe.model,
        config=recipe.train,
        out=out,
        resume=resume,
        device=device,
    )
    if recipe.captions is not None:
        read_on(recipe.captions, gallery, out=out, resume=resume, device=device)
    return out / "model"


@dataclass(frozen=True)
class SeenBatches:
    """(step, rows) → kept embeddings and token ids."""

    gallery: Gallery
    embeddings: NDArray[np.float32]
    tokenizer: ClipTokenizer
    context: int
    seed: int

    def __call__(self, step: int, rows: range) -> SeenAndCaptioned:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        z = torch.from_numpy(self.embeddings[drawn.pictures, drawn.grounds])
        return SeenAndCaptioned(z, self.tokenizer(drawn.captions, self.context))


def read_on(config: TrainConfig, gallery: Gallery, *, out: Path, resume: bool, device: str | None) -> None:
    """Train the text tower of the CLIP in `out/model` for longer, in `out/text`, and put it in its place."""
    clip = load_clip(out / "model", device)
    text = clip.config.text
    before = checkpoint.digest(out / "model")
    embeddings = embedded(clip, gallery, weights=before, out=out)
    scale = float(clip.scale)
    clip.requires_grad_().train()
    train(
        clip.text,
        locked_objective(scale),
        SeenBatches(gallery, embeddings, ClipTokenizer(text.vocabulary), text.context, config.seed),
        name="text tower",
        model_config=text,
        config=config,
        out=out / "text",
        resume=resume,
        device=device,
    )
    checkpoint.load_into(clip.text, checkpoint.load(out / "text" / "model", TextConfig)[1])
    if rank() == 0:
        checkpoint.save(out / "model", clip.state_dict(), clip.config)
        # The picture tower is what it was, and so is what it saw.
        after = checkpoint.digest(out / "model")
        for kept in out.glob(f"embeddings_{before}_*.npy"):
            kept.replace(kept.with_name(kept.name.replace(before, after)))
