"""unCLIP's first upsampler: ×4, convolutions only, trained on quarter crops and run on whole pictures.

Paper: Ramesh et al. 2022, section 2.1 and table 3.

    limner train upsampler --size small --data data/emoji --out runs/small/upsampler
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from limner.dalle2 import upsampler as networks
from limner.dalle2.objective import Pictures, reduced, upsampler_objective
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig, enlarged
from limner.data.loader import Gallery, open_gallery
from limner.diffusion.guidance import clipped
from limner.diffusion.process import denoiser
from limner.diffusion.samplers import dpm_solver_pp_2m, last
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws, mix
from limner.layers.corruptions import half_blurred
from limner.layers.unet import UNetConfig
from limner.recipes.begin import begun, checked_start
from limner.recipes.pictures import grid
from limner.training import Sampler, TrainConfig, train

SAMPLES = 6
SAMPLE_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class UpsamplerRecipe:
    """`crop`: share of the side that training sees, ¼ in the paper; `blur`: σ of the corruption, 0.6."""

    model: UpsamplerConfig
    train: TrainConfig
    crop: float
    blur: float
    max_weight: float | None


def toy() -> UpsamplerRecipe:
    """Twenty seconds on two cores, 32 → 64 pixels."""
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=32,
        depth=1,
        multipliers=(1, 1),
        attention=(),
        head_width=32,
        context_width=None,
        scale_shift=True,
        dropout=0.0,
        patch=2,
        canvas=0,
    )
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False)
    training = TrainConfig(
        steps=200,
        batch=32,
        learning_rate=1e-3,
        warmup=20,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.98,
        precision="fp32",
        seed=3,
        save_every=100,
        sample_every=200,
    )
    model = UpsamplerConfig(low=32, high=64, unet=unet, diffusion=spec)
    return UpsamplerRecipe(model=model, train=training, crop=0.5, blur=0.6, max_weight=4.0)


def small() -> UpsamplerRecipe:
    """What ships: 1.6 M parameters, 64 → 256 pixels, a quarter of an hour on two cores."""
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=32,
        depth=2,
        multipliers=(2, 2),
        attention=(),
        head_width=32,
        context_width=None,
        scale_shift=True,
        dropout=0.0,
        patch=4,
        canvas=0,
    )
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False)
    training = TrainConfig(
        steps=1200,
        batch=32,
        learning_rate=5e-4,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=3,
        save_every=500,
        sample_every=500,
    )
    model = UpsamplerConfig(low=64, high=256, unet=unet, diffusion=spec)
    return UpsamplerRecipe(model=model, train=training, crop=0.25, blur=0.6, max_weight=20.0)


def paper() -> UpsamplerRecipe:
    """Table 3 of the paper: a million steps of batch 1024; 729,702,083 parameters."""
    training = TrainConfig(
        steps=1_000_000,
        batch=1024,
        learning_rate=1.2e-4,
        warmup=1000,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=1.0,
        ema=0.9999,
        precision="bf16",
        seed=0,
        save_every=1000,
        sample_every=1000,
    )
    return UpsamplerRecipe(model=networks.paper_256(), train=training, crop=0.25, blur=0.6, max_weight=None)


@dataclass(frozen=True)
class CropBatches:
    """(step, rows) → random crops of high-resolution pictures."""

    gallery: Gallery
    side: int
    seed: int

    def __call__(self, step: int, rows: range) -> Pictures:
        """The crops of these rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        whole = self.gallery.composited(drawn.pictures, drawn.grounds)
        crops = []
        for picture, row in zip(whole, rows, strict=True):
            room = self.gallery.size - self.side + 1
            top, left = (mix("crop", axis, self.seed, step, row) % room for axis in (0, 1))
            crops.append(picture[:, top : top + self.side, left : left + self.side])
        return Pictures(torch.stack(crops))


def run(
    recipe: UpsamplerRecipe,
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
    gallery = open_gallery(folders, size=recipe.model.high, share=share)
    torch.manual_seed(recipe.train.seed)
    train(
        begun(Upsampler(recipe.model), recipe.model, init_from),
        upsampler_objective(partial(half_blurred, sigma=recipe.blur), max_weight=recipe.max_weight),
        CropBatches(gallery, round(recipe.crop * recipe.model.high), recipe.train.seed),
        name="upsampler",
        model_config=recipe.model,
        config=recipe.train,
        out=out,
        resume=resume,
        sampler=enlargements(gallery),
        device=device,
    )
    return out / "model"


def enlargements(gallery: Gallery) -> Sampler:
    """Bicubic enlargements, the upsampler's, and the real pictures, one row each."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, Upsampler)
        device = next(model.parameters()).device
        drawn = gallery.draw(seed=0, step=-1, rows=range(SAMPLES))
        real = gallery.composited(drawn.pictures, drawn.grounds).to(device)
        low = reduced(real, model.config.high // model.config.low)
        spec = model.config.diffusion
        levels = spec.levels()
        denoise = clipped(denoiser(lambda x, t: model(x, t, low=low), levels, spec.prediction), 1.0)
        noise = Draws.for_step(0, 0, range(SAMPLES), device=device).normal(*real.shape[1:])
        painted = last(dpm_solver_pp_2m(denoise, noise, levels.log_snr_spaced(SAMPLE_STEPS)))
        return grid(torch.cat([enlarged(low, real.shape[-2:]), painted, real]).cpu(), columns=SAMPLES)

    return sample
