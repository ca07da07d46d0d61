"""VQ-VAE-2 and its two priors: codes of the whole, codes of the detail, and new pictures from both.

Paper: Razavi et al. 2019. Three parts one after the other: the autoencoder, the prior of the top codes, and
that of the bottom codes given the top; transformers here, networks like PixelSNAIL in the paper. The small
one writes 64×64 emoji as 8×8 and 16×16 codes of 512, 2880 bits a picture.

    limner train vqvae2 --size small --data data/emoji --out runs/small/vqvae2
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from limner import checkpoint
from limner.autoregression import Sampling
from limner.data.loader import open_gallery
from limner.draws import Draws
from limner.quantize import CodebookConfig, MovingAverage
from limner.recipes.codes import coded, finished
from limner.recipes.vqvae import (
    PictureBatches,
    assemble,
    reconstructions,
    small_prior_training,
    train_prior,
)
from limner.training import TrainConfig, train
from limner.vqvae import two_levels as networks
from limner.vqvae.generate import draw_codes
from limner.vqvae.objective import reconstruction_objective
from limner.vqvae.prior import Above, CodePrior, CodePriorConfig
from limner.vqvae.two_levels import BOTTOM_FACTOR, TOP_FACTOR, Codes, VqVae2, VqVae2Config


@dataclass(frozen=True, kw_only=True)
class VqVae2Recipe:
    """`size`: of the pictures, in pixels. `drop_condition`: how often the priors must do without a caption.

    The priors are conditioned on captions only where `run` is given a CLIP to read them.
    """

    size: int
    model: VqVae2Config
    train: TrainConfig
    top: CodePriorConfig
    train_top: TrainConfig
    bottom: CodePriorConfig
    train_bottom: TrainConfig
    drop_condition: float


def priors(
    *, size: int, codes: int, width: int, heads: int, top: int, above: int, bottom: int
) -> tuple[CodePriorConfig, CodePriorConfig]:
    """The priors of both levels: `top` layers, and `above` layers that read the top codes under `bottom`."""
    coarse = CodePriorConfig(
        codes=codes,
        side=size // TOP_FACTOR,
        width=width,
        layers=top,
        heads=heads,
        condition=None,
        above=None,
    )
    given = Above(codes=codes, side=coarse.side, layers=above)
    return coarse, replace(coarse, side=size // BOTTOM_FACTOR, layers=bottom, above=given)


def toy() -> VqVae2Recipe:
    """Three quarters of a minute on one core with the shipped sample, 32×32 pixels."""
    average = MovingAverage(decay=0.95, epsilon=1e-5, restart_below=0.5)
    codebook = CodebookConfig(codes=128, width=16, beta=0.25, average=average)
    training = TrainConfig(
        steps=300,
        batch=32,
        learning_rate=3e-3,
        warmup=30,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=1.0,
        ema=0.98,
        precision="fp32",
        seed=12,
        save_every=150,
        sample_every=300,
    )
    top, bottom = priors(size=32, codes=128, width=64, heads=2, top=2, above=1, bottom=2)
    prior_training = replace(training, steps=150, learning_rate=4e-3, ema=0.95, sample_every=150)
    return VqVae2Recipe(
        size=32,
        model=VqVae2Config(channels=48, hidden=24, blocks=1, codebook=codebook),
        train=training,
        top=top,
        train_top=replace(prior_training, seed=13),
        bottom=bottom,
        train_bottom=replace(prior_training, seed=14),
        drop_condition=0.1,
    )


def small() -> VqVae2Recipe:
    """For a CPU: 1.4 M parameters, and 1.3 and 1.4 M in the priors. Idle codes restart, unlike the
    paper's.
    """
    average = MovingAverage(decay=0.99, epsilon=1e-5, restart_below=0.5)
    codebook = CodebookConfig(codes=512, width=64, beta=0.25, average=average)
    training = TrainConfig(
        steps=3000,
        batch=32,
        learning_rate=1e-3,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=12,
        save_every=250,
        sample_every=500,
    )
    top, bottom = priors(size=64, codes=512, width=128, heads=4, top=6, above=1, bottom=5)
    return VqVae2Recipe(
        size=64,
        model=VqVae2Config(channels=128, hidden=32, blocks=2, codebook=codebook),
        train=training,
        top=top,
        train_top=small_prior_training(seed=13),
        bottom=bottom,
        train_bottom=small_prior_training(seed=14),
        drop_condition=0.1,
    )


def paper() -> VqVae2Recipe:
    """ImageNet at 256×256: batch 128, 2 207 444 steps; 1,716,803 parameters in the layout followed here.

    The learning rate is rosinality's. The priors have the paper's 20 layers of width 512, and its batches and
    steps, but are transformers.
    """
    training = TrainConfig(
        steps=2_207_444,
        batch=128,
        learning_rate=3e-4,
        warmup=0,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=float("inf"),
        ema=0.0,
        precision="fp32",
        seed=0,
        save_every=1000,
        sample_every=10_000,
    )
    top, bottom = priors(size=256, codes=512, width=512, heads=8, top=20, above=20, bottom=20)
    prior_training = replace(training, warmup=1000, clip_norm=1.0, ema=0.9999, precision="bf16")
    return VqVae2Recipe(
        size=256,
        model=networks.imagenet_256(),
        train=training,
        top=top,
        train_top=replace(prior_training, steps=1_600_000, batch=1024, seed=1),
        bottom=bottom,
        train_bottom=replace(prior_training, steps=754_000, batch=512, seed=2),
        drop_condition=0.1,
    )


def run(
    recipe: VqVae2Recipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    clip: Path | None = None,
) -> Path:
    """Train `out/autoencoder`, `out/top` and `out/bottom`; return `out/model`, all three as they ship.

    `clip`: folder of a trained CLIP; with one the priors paint what a caption says, without it anything.
    """
    gallery = open_gallery(folders, size=recipe.size, share=share)
    batches = PictureBatches(gallery, recipe.train.seed)
    torch.manual_seed(recipe.train.seed)
    train(
        VqVae2(recipe.model),
        reconstruction_objective(),
        batches,
        name="vqvae2",
        model_config=recipe.model,
        config=recipe.train,
        out=out / "autoencoder",
        resume=resume,
        sampler=reconstructions(batches),
        device=device,
    )
    model = finished(VqVae2, VqVae2Config, out / "autoencoder" / "model", device)
    place = next(model.parameters()).device

    def encode(pictures: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b n"]:
        levels = [rearrange(ids, "b h w -> b (h w)") for ids in model.encode(pictures.to(place))]
        return torch.cat(levels, dim=1)

    digest = checkpoint.digest(out / "autoencoder" / "model")
    codes = coded(encode, gallery, weights=digest, out=out)

    train_prior(
        recipe.top,
        recipe.train_top,
        gallery,
        codes,
        None,
        drop_condition=recipe.drop_condition,
        name="vqvae2 top prior",
        out=out / "top",
        resume=resume,
        device=device,
        clip=clip,
    )
    top = finished(CodePrior, CodePriorConfig, out / "top" / "model", device)

    def painted(prior: CodePrior, draws: Draws, condition: Tensor | None) -> Tensor:
        coarse = draw_codes(top, draws, condition=condition, sampling=Sampling())
        fine = draw_codes(prior, draws, condition=condition, above=coarse, sampling=Sampling())
        return model.decode(Codes(coarse, fine))

    train_prior(
        recipe.bottom,
        recipe.train_bottom,
        gallery,
        codes,
        painted,
        drop_condition=recipe.drop_condition,
        name="vqvae2 bottom prior",
        out=out / "bottom",
        resume=resume,
        device=device,
        clip=clip,
    )
    return assemble(out, {"autoencoder": VqVae2Config, "top": CodePriorConfig, "bottom": CodePriorConfig})
