"""Glow: pictures to noise and back, with the exact likelihood on the way.

Paper: Kingma & Dhariwal 2018; for CIFAR-10 3 levels of 32 steps, 512 channels wide, 3.35 bits per dimension.

    limner train glow --size small --data data/emoji --out runs/small/glow
    limner sample --model glow --weights runs/small/glow/model
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import nn

from limner.data.loader import Gallery, open_gallery
from limner.draws import Draws
from limner.glow import Glow, GlowConfig, Pictures, glow_objective
from limner.glow import paper as published
from limner.recipes.begin import begun, checked_start
from limner.recipes.pictures import grid
from limner.training import Sampler, TrainConfig, train

# Pictures that the first scales are taken from, as many as in the paper's code.
FIRST = 256
COLUMNS = 8
TEMPERATURE = 0.7


@dataclass(frozen=True, kw_only=True)
class GlowRecipe:
    """A network and how to train it; there is nothing else to choose."""

    model: GlowConfig
    train: TrainConfig


def toy() -> GlowRecipe:
    """A minute or so on two cores with the shipped sample, 32×32 pixels of 5 bits."""
    model = GlowConfig(
        resolution=32,
        levels=3,
        steps=4,
        width=48,
        coupling="affine",
        bits=5,
        lu=True,
        condition=None,
        floor=0.1,
    )
    return GlowRecipe(model=model, train=training(steps=400, batch=32, learning_rate=2e-3))


def small() -> GlowRecipe:
    """For a CPU: 64×64 pixels of 8 bits."""
    model = GlowConfig(
        resolution=64,
        levels=4,
        steps=8,
        width=96,
        coupling="affine",
        bits=8,
        lu=True,
        condition=None,
        floor=0.1,
    )
    return GlowRecipe(model=model, train=training(steps=5000, batch=32, learning_rate=1e-3))


def paper() -> GlowRecipe:
    """CIFAR-10 in the published code: 44,603,604 parameters, adamax at 1e-3 (ours: AdamW), batch 64."""
    config = training(steps=1_400_000, batch=64, learning_rate=1e-3)
    return GlowRecipe(model=published(), train=config)


def training(*, steps: int, batch: int, learning_rate: float) -> TrainConfig:
    """How Glow is trained; in float32, for in half precision a step is not undone by its inverse."""
    return TrainConfig(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        warmup=max(50, steps // 50),
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=50.0,
        ema=0.998,
        precision="fp32",
        seed=15,
        save_every=max(100, steps // 20),
        sample_every=max(200, steps // 5),
    )


@dataclass(frozen=True)
class PictureBatches:
    """(step, rows) → pictures."""

    gallery: Gallery
    seed: int

    def __call__(self, step: int, rows: range) -> Pictures:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        return Pictures(self.gallery.composited(drawn.pictures, drawn.grounds))


def run(
    recipe: GlowRecipe,
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
    gallery = open_gallery(folders, size=recipe.model.resolution, share=share)
    batches = PictureBatches(gallery, recipe.train.seed)
    torch.manual_seed(recipe.train.seed)
    model = Glow(recipe.model)
    if init_from is None:
        seen = batches(-2, range(FIRST)).pictures
        model.initialise(seen, Draws.for_step(recipe.train.seed, -2, range(FIRST)))
    train(
        begun(model, recipe.model, init_from),
        glow_objective(),
        batches,
        name="glow",
        model_config=recipe.model,
        config=recipe.train,
        out=out,
        resume=resume,
        sampler=sheet(batches),
        device=device,
    )
    return out / "model"


def sheet(batches: PictureBatches) -> Sampler:
    """Originals, a strip from the first to the second, and new pictures."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, Glow)
        device = next(model.parameters()).device
        originals = batches(-1, range(COLUMNS)).pictures.to(device)
        strip = model.interpolate(originals[0], originals[1], COLUMNS)
        draws = Draws.for_step(0, 0, range(COLUMNS), device=device)
        rows = torch.stack([originals, strip, model.sample(draws, temperature=TEMPERATURE)])
        return grid(rearrange(rows, "r k c h w -> (r k) c h w").cpu(), columns=COLUMNS)

    return sample
