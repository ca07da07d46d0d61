"""unCLIP's second upsampler: 256 → 1024, convolutions only, trained on small pieces of large drawings.

Paper: Ramesh et al. 2022, section 2.1 and table 3. What it sees is degraded first (BSR). The small one
normalizes each place by itself, so whole pictures may be enlarged in tiles.

    limner data fetch vector --pixels 1024 --most 600 --out data/vector
    limner train upsampler-1024 --size small --data data/vector --out runs/small/upsampler-1024
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from limner.dalle2 import upsampler as networks
from limner.dalle2.objective import Pictures, reduced, upsampler_objective
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig, enlarged
from limner.data.patches import open_patches
from limner.diffusion.guidance import clipped
from limner.diffusion.process import denoiser
from limner.diffusion.samplers import ddim, last
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws, mix
from limner.layers.corruptions import degraded
from limner.layers.unet import UNetConfig
from limner.recipes import upsampler as first
from limner.recipes.begin import begun, checked_start
from limner.recipes.pictures import grid
from limner.training import Sampler, TrainConfig, train

SAMPLES = 8
SAMPLE_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Upsampler1024Recipe:
    """`piece`: pixels a side of what is cut from each picture, `each` times; `crop`: of what a batch has."""

    model: UpsamplerConfig
    train: TrainConfig
    piece: int
    each: int
    crop: int
    max_weight: float | None


def toy() -> Upsampler1024Recipe:
    """Half a minute on two cores with the shipped sample, 16 → 64 pixels."""
    base = first.toy()
    unet = replace(base.model.unet, patch=4, norm="pixel")
    return Upsampler1024Recipe(
        model=replace(base.model, low=16, high=64, unet=unet),
        train=base.train,
        piece=64,
        each=1,
        crop=32,
        max_weight=4.0,
    )


def small() -> Upsampler1024Recipe:
    """What ships, after 2500 steps: 1.2 M parameters, three quarters of an hour on one core."""
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=32,
        depth=1,
        multipliers=(2, 2),
        attention=(),
        head_width=32,
        context_width=None,
        scale_shift=True,
        dropout=0.0,
        patch=4,
        canvas=0,
        norm="pixel",
    )
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False)
    training = TrainConfig(
        steps=3000,
        batch=32,
        learning_rate=1e-3,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=5,
        save_every=300,
        sample_every=500,
    )
    model = UpsamplerConfig(low=256, high=1024, unet=unet, diffusion=spec)
    return Upsampler1024Recipe(model=model, train=training, piece=192, each=6, crop=128, max_weight=20.0)


def paper() -> Upsampler1024Recipe:
    """Table 3 of the paper: a million steps of batch 512, quarters of pictures; 282,059,139 parameters."""
    training = replace(first.paper().train, batch=512, learning_rate=1e-4)
    return Upsampler1024Recipe(
        model=networks.paper_1024(), train=training, piece=512, each=4, crop=256, max_weight=None
    )


@dataclass(frozen=True)
class PieceBatches:
    """(step, rows) → random crops of pieces (N, S, S, 3), mirrored by chance."""

    pieces: NDArray[np.uint8]
    side: int
    seed: int

    def __call__(self, step: int, rows: range) -> Pictures:
        """The crops of these rows of the batch at `step`."""
        room = self.pieces.shape[1] - self.side + 1
        crops = []
        for row in rows:
            number = mix("piece", self.seed, step, row) % len(self.pieces)
            top, left = (mix("crop", axis, self.seed, step, row) % room for axis in (0, 1))
            crop = self.pieces[number, top : top + self.side, left : left + self.side]
            crops.append(crop[:, ::-1] if mix("mirror", self.seed, step, row) % 2 else crop)
        return Pictures(in_range(np.stack(crops)))


def in_range(levels: NDArray[np.uint8]) -> Float[Tensor, "b 3 h w"]:
    """Levels (B, H, W, 3) as pictures in [-1, 1]."""
    return rearrange(torch.from_numpy(levels).float() / 127.5 - 1, "b h w c -> b c h w").contiguous()


def run(
    recipe: Upsampler1024Recipe,
    *,
    folders: Sequence[Path],
    out: Path,
    resume: bool,
    device: str | None,
    init_from: Path | None = None,
) -> Path:
    """Train, and return the folder of the finished model."""
    checked_start(recipe.model, init_from)
    pieces = open_patches(folders, size=recipe.model.high, side=recipe.piece, each=recipe.each)
    batches = PieceBatches(pieces, recipe.crop, recipe.train.seed)
    torch.manual_seed(recipe.train.seed)
    train(
        begun(Upsampler(recipe.model), recipe.model, init_from),
        upsampler_objective(degraded, max_weight=recipe.max_weight),
        batches,
        name="second upsampler",
        model_config=recipe.model,
        config=recipe.train,
        out=out,
        resume=resume,
        sampler=enlargements(batches),
        device=device,
    )
    return out / "model"


def enlargements(batches: PieceBatches) -> Sampler:
    """Bicubic enlargements of degraded pieces, the upsampler's, and the real ones, one row each."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, Upsampler)
        device = next(model.parameters()).device
        real = batches(-1, range(SAMPLES)).pictures.to(device)
        draws = Draws.for_step(0, 0, range(SAMPLES), device=device)
        low = degraded(reduced(real, model.config.high // model.config.low), draws)
        spec = model.config.diffusion
        levels = spec.levels()
        denoise = clipped(denoiser(lambda x, t: model(x, t, low=low), levels, spec.prediction), 1.0)
        painted = last(ddim(denoise, draws.normal(*real.shape[1:]), levels.respace(SAMPLE_STEPS)))
        return grid(torch.cat([enlarged(low, real.shape[-2:]), painted, real]).cpu(), columns=SAMPLES)

    return sample
