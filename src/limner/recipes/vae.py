"""The Gaussian VAE: a picture in a few numbers.

Paper: Kingma & Welling 2014; the published size is Higgins et al. 2017's, for CelebA. Toy and small add
residual blocks and are told that colours are right to within σ = 0.25 or so of the range of 2 rather than to
within all of it: at unit variance the KL outweighs every detail, and most latent numbers stay empty.

    limner train vae --size small --data data/emoji --out runs/small/vae
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
from limner.recipes.begin import begun, checked_start
from limner.recipes.pictures import grid
from limner.training import Sampler, TrainConfig, train
from limner.vae import Pictures, Vae, VaeConfig, vae_objective
from limner.vae import model as networks

COLUMNS = 12


@dataclass(frozen=True, kw_only=True)
class VaeRecipe:
    """`beta`: weight of the KL, 1 for the bound itself."""

    model: VaeConfig
    train: TrainConfig
    beta: float


def toy() -> VaeRecipe:
    """Half a minute on one core with the shipped sample, 32×32 pixels."""
    training = TrainConfig(
        steps=500,
        batch=32,
        learning_rate=2e-3,
        warmup=20,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=20_000.0,
        ema=0.99,
        precision="fp32",
        seed=5,
        save_every=250,
        sample_every=250,
    )
    model = VaeConfig(resolution=32, widths=(32, 64, 128), blocks=1, hidden=256, latent=64, sigma=0.25)
    return VaeRecipe(model=model, train=training, beta=1.0)


def small() -> VaeRecipe:
    """For a CPU: 64×64 pixels in 128 numbers."""
    training = TrainConfig(
        steps=3000,
        batch=64,
        learning_rate=1e-3,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=50_000.0,
        ema=0.998,
        precision="auto",
        seed=5,
        save_every=250,
        sample_every=1000,
    )
    model = VaeConfig(resolution=64, widths=(64, 96, 128, 192), blocks=1, hidden=256, latent=128, sigma=0.2)
    return VaeRecipe(model=model, train=training, beta=1.0)


def paper() -> VaeRecipe:
    """Higgins et al. 2017, CelebA: β = 250 and Adam at 1e-4. Steps and batch are ours; they give none."""
    training = TrainConfig(
        steps=1_000_000,
        batch=64,
        learning_rate=1e-4,
        warmup=0,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=float("inf"),
        ema=0.999,
        precision="fp32",
        seed=0,
        save_every=1000,
        sample_every=1000,
    )
    return VaeRecipe(model=networks.paper(), train=training, beta=250.0)


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
    recipe: VaeRecipe,
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
    train(
        begun(Vae(recipe.model), recipe.model, init_from),
        vae_objective(beta=recipe.beta),
        batches,
        name="vae",
        model_config=recipe.model,
        config=recipe.train,
        out=out,
        resume=resume,
        sampler=sheet(batches),
        device=device,
    )
    return out / "model"


def sheet(batches: PictureBatches) -> Sampler:
    """A row each of originals, their reconstructions, a strip from first to second, and new pictures."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, Vae)
        device = next(model.parameters()).device
        originals = batches(-1, range(COLUMNS)).pictures.to(device)
        again = model.reconstruct(originals)
        strip = model.interpolate(originals[0], originals[1], COLUMNS)
        draws = Draws.for_step(0, 0, range(COLUMNS), device=device)
        rows = torch.stack([originals, again, strip, model.sample(draws)])
        return grid(rearrange(rows, "r k c h w -> (r k) c h w").cpu(), columns=COLUMNS)

    return sample
