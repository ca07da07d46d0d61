"""VQ-VAE and a prior over its codes: pictures to tokens and back, and new pictures.

Paper: van den Oord et al. 2017. Two parts one after the other: the autoencoder, then, on the codes of all
pictures, the prior, which is a transformer here and a PixelCNN in the paper. The small one writes 64×64 emoji
as 16×16 codes of 512, 2304 bits a picture.

    limner train vqvae --size small --data data/emoji --out runs/small/vqvae
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from einops import rearrange
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from limner import checkpoint
from limner.autoregression import Sampling
from limner.clip import unit
from limner.data.loader import Gallery, open_gallery
from limner.distributed import rank
from limner.draws import Draws
from limner.quantize import CodebookConfig, MovingAverage
from limner.recipes.begin import same_source
from limner.recipes.codes import coded, finished
from limner.recipes.embeddings import load_clip
from limner.recipes.pictures import grid
from limner.recipes.prior import tokenizer_of
from limner.training import Sampler, TrainConfig, train
from limner.vqvae import model as networks
from limner.vqvae.generate import paint
from limner.vqvae.model import VqVae, VqVaeConfig
from limner.vqvae.objective import CodesAndCondition, Pictures, prior_objective, reconstruction_objective
from limner.vqvae.prior import CodePrior, CodePriorConfig
from limner.vqvae.two_levels import VqVae2

SAMPLES = 24

# Captions → unit vectors, (B, c).
CaptionReader = Callable[[Sequence[str]], Float[Tensor, "b c"]]


@dataclass(frozen=True, kw_only=True)
class VqVaeRecipe:
    """`size`: of the pictures, in pixels. `drop_condition`: how often the prior must do without a caption.

    The prior is conditioned on captions only where `run` is given a CLIP to read them.
    """

    size: int
    model: VqVaeConfig
    train: TrainConfig
    prior: CodePriorConfig
    train_prior: TrainConfig
    drop_condition: float


def toy() -> VqVaeRecipe:
    """Half a minute on one core with the shipped sample, 32×32 pixels."""
    average = MovingAverage(decay=0.95, epsilon=1e-5, restart_below=0.5)
    model = VqVaeConfig(
        channels=48,
        hidden=24,
        blocks=1,
        halvings=2,
        codebook=CodebookConfig(codes=128, width=16, beta=0.25, average=average),
    )
    training = TrainConfig(
        steps=400,
        batch=32,
        learning_rate=3e-3,
        warmup=30,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=1.0,
        ema=0.98,
        precision="fp32",
        seed=10,
        save_every=200,
        sample_every=400,
    )
    prior = CodePriorConfig(codes=128, side=8, width=64, layers=2, heads=2, condition=None, above=None)
    return VqVaeRecipe(
        size=32,
        model=model,
        train=training,
        prior=prior,
        train_prior=replace(training, steps=200, learning_rate=4e-3, ema=0.95, sample_every=200),
        drop_condition=0.1,
    )


def small() -> VqVaeRecipe:
    """For a CPU: 1.0 M parameters, and 1.3 M in the prior. Idle codes restart, which is not in the paper."""
    average = MovingAverage(decay=0.99, epsilon=1e-5, restart_below=0.5)
    model = VqVaeConfig(
        channels=128,
        hidden=64,
        blocks=3,
        halvings=2,
        codebook=CodebookConfig(codes=512, width=64, beta=0.25, average=average),
    )
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
        seed=10,
        save_every=250,
        sample_every=500,
    )
    prior = CodePriorConfig(codes=512, side=16, width=128, layers=6, heads=4, condition=None, above=None)
    return VqVaeRecipe(
        size=64,
        model=model,
        train=training,
        prior=prior,
        train_prior=small_prior_training(seed=11),
        drop_condition=0.1,
    )


def small_prior_training(*, seed: int) -> TrainConfig:
    """How the small priors are trained, of VQ-VAE and VQ-VAE-2 alike."""
    return TrainConfig(
        steps=1400,
        batch=32,
        learning_rate=1e-3,
        warmup=100,
        betas=(0.9, 0.96),
        eps=1e-8,
        weight_decay=0.05,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=seed,
        save_every=250,
        sample_every=1000,
    )


def paper() -> VqVaeRecipe:
    """Section 4.1, CIFAR-10: Adam 2e-4, batch 128, 250 000 steps; codes by the codebook loss, none restarts.

    The prior is not the paper's: that was a PixelCNN, of a size that the paper does not give.
    """
    training = TrainConfig(
        steps=250_000,
        batch=128,
        learning_rate=2e-4,
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
    prior = CodePriorConfig(codes=512, side=8, width=512, layers=12, heads=8, condition=None, above=None)
    return VqVaeRecipe(
        size=32,
        model=networks.cifar10(),
        train=training,
        prior=prior,
        train_prior=replace(training, learning_rate=3e-4, warmup=1000, clip_norm=1.0, ema=0.9999, seed=1),
        drop_condition=0.1,
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


@dataclass(frozen=True)
class CodeBatches:
    """(step, rows) → kept codes, for the prior of `config`: those it writes are the last of `codes`' columns,
    those it is given the first."""

    gallery: Gallery
    codes: NDArray[np.uint16]
    config: CodePriorConfig
    seed: int
    read: CaptionReader | None

    def __call__(self, step: int, rows: range) -> CodesAndCondition:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        flat = torch.from_numpy(self.codes[drawn.pictures, drawn.grounds].astype(np.int64))
        side, above = self.config.side, None
        if self.config.above is not None:
            h = self.config.above.side
            above = rearrange(flat[:, : h * h], "b (h w) -> b h w", h=h)
            flat = flat[:, h * h :]
        ids = rearrange(flat[:, : side * side], "b (h w) -> b h w", h=side)
        return CodesAndCondition(ids, None if self.read is None else self.read(drawn.captions), above)


def caption_reader(clip: Path, device: str | None) -> tuple[CaptionReader, int]:
    """Captions as the CLIP in folder `clip` reads them, on the CPU, and the width of its vectors."""
    reader = load_clip(clip, device)
    tokenizer, context = tokenizer_of(reader), reader.config.text.context
    place = next(reader.parameters()).device

    @torch.no_grad()
    def read(captions: Sequence[str]) -> Float[Tensor, "b c"]:
        pooled, _ = reader.encode_text(tokenizer(captions, context).to(place))
        return unit(pooled.float()).cpu()

    return read, reader.config.embedding


def run(
    recipe: VqVaeRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    clip: Path | None = None,
) -> Path:
    """Train `out/autoencoder`, then `out/prior`; return `out/model`, which holds both as they ship.

    `clip`: folder of a trained CLIP; with one the prior paints what a caption says, without it anything.
    """
    gallery = open_gallery(folders, size=recipe.size, share=share)
    torch.manual_seed(recipe.train.seed)
    train(
        VqVae(recipe.model),
        reconstruction_objective(),
        PictureBatches(gallery, recipe.train.seed),
        name="vqvae",
        model_config=recipe.model,
        config=recipe.train,
        out=out / "autoencoder",
        resume=resume,
        sampler=reconstructions(PictureBatches(gallery, recipe.train.seed)),
        device=device,
    )
    model = finished(VqVae, VqVaeConfig, out / "autoencoder" / "model", device)
    place = next(model.parameters()).device

    def encode(pictures: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b n"]:
        return rearrange(model.encode(pictures.to(place)), "b h w -> b (h w)")

    digest = checkpoint.digest(out / "autoencoder" / "model")
    codes = coded(encode, gallery, weights=digest, out=out)
    train_prior(
        recipe.prior,
        recipe.train_prior,
        gallery,
        codes,
        lambda prior, draws, condition: paint(model, prior, draws, condition=condition, sampling=Sampling()),
        drop_condition=recipe.drop_condition,
        name="vqvae prior",
        out=out / "prior",
        resume=resume,
        device=device,
        clip=clip,
    )
    return assemble(out, {"autoencoder": VqVaeConfig, "prior": CodePriorConfig})


# A prior, a stream a picture, and what to paint → pictures.
Painter = Callable[[CodePrior, Draws, Tensor | None], Float[Tensor, "b 3 h w"]]


def train_prior(
    config: CodePriorConfig,
    training: TrainConfig,
    gallery: Gallery,
    codes: NDArray[np.uint16],
    painter: Painter | None,
    *,
    drop_condition: float,
    name: str,
    out: Path,
    resume: bool,
    device: str | None,
    clip: Path | None,
) -> None:
    """Train a prior over kept codes and leave it in `out/model`; `painter`, if there is one, shows it at
    work. Raises ValueError for another CLIP than the run that is to go on began with.
    """
    same_source("clip", clip, out=out, resume=resume)
    read = None
    if clip is not None:
        read, width = caption_reader(clip, device)
        config = replace(config, condition=width)
    batches = CodeBatches(gallery, codes, config, training.seed, read)
    torch.manual_seed(training.seed)
    train(
        CodePrior(config),
        prior_objective(drop_condition=drop_condition),
        batches,
        name=name,
        model_config=config,
        config=training,
        out=out,
        resume=resume,
        sampler=None if painter is None else new_pictures(batches, painter),
        device=device,
    )
    PartialState().wait_for_everyone()


def assemble(out: Path, parts: Mapping[str, type[Any]]) -> Path:
    """Gather the finished models of a run in `out/model`, in bfloat16, as they ship."""
    if rank() == 0:
        for part, config_type in parts.items():
            config, state = checkpoint.load(out / part / "model", config_type)
            checkpoint.save(out / "model" / part, state, config, dtype=torch.bfloat16)
    return out / "model"


def reconstructions(batches: PictureBatches) -> Sampler:
    """Real pictures above what their codes keep of them, the same ones every time."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, VqVae | VqVae2)
        real = batches(-1, range(SAMPLES)).pictures
        kept = model.reconstruct(real.to(next(model.parameters()).device))
        rows = [part for pair in zip(real.chunk(2), kept.cpu().chunk(2), strict=True) for part in pair]
        return grid(torch.cat(rows), columns=SAMPLES // 2)

    return sample


def new_pictures(batches: CodeBatches, painter: Painter) -> Sampler:
    """What the prior paints, from the same streams and for the same captions every time."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, CodePrior)
        place = next(model.parameters()).device
        condition = batches(-1, range(SAMPLES)).condition
        draws = Draws.for_step(0, 0, range(SAMPLES), device=place)
        painted = painter(model, draws, None if condition is None else condition.to(place))
        return grid(painted.cpu(), columns=SAMPLES // 2)

    return sample
