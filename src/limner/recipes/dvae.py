"""DALL-E 1's tokenizer: pictures ↔ grids of words from a learned vocabulary.

Paper: Ramesh et al. 2021, section 2.1 and appendix A.2: three million steps of batch 512 on 64 GPUs. Toy and
small have some hundreds and thousands of steps on a CPU, and leave the paper where that is too few:

- A first vocabulary is read off pictures (`limner.dvae.begin`). Begun at random, 52 of the toy's 256 words
  were in use after 200 steps, and the pictures were 2 dB worse.
- The KL is pulled apart: what words tell about their place is almost free (β = 0.05 instead of 6.6), for it
  is what is wanted; the idleness of the vocabulary as a whole weighs 20. With β = 1.65, which by the colour
  value is the paper's 6.6, words stay soft, that is, wrong every other time. With β small and idleness free,
  15 of 256 words were in use.
- The temperature falls from 1 to 1/16 over four fifths of the run; over 150 000 steps it would not have
  moved.
- The residual branches weigh more than 1/n² (n blocks in a row), and the learning rate is higher: at 1/n² a
  short run hardly uses its depth.
- 2×2 pixels are folded into channels before the first convolution: a picture of a quarter of the places.
- ln b has a floor. Drawings are flat, a flat ground can be told exactly, and the likelihood would spend
  itself on telling it ever more exactly.

    limner train dvae --size small --data data/emoji --out runs/small/dvae
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from limner.data.loader import Gallery, open_gallery
from limner.draws import mix
from limner.dvae import DVae, DVaeConfig, PicturesAtStep, Ramp, begin_with, dvae_objective, schedule
from limner.dvae import model as networks
from limner.recipes.begin import begun, checked_start
from limner.recipes.pictures import grid
from limner.training import Sampler, TrainConfig, train

# Pictures that the first vocabulary is read off.
BEGIN = 256
SAMPLES = 24
COLUMNS = 12


@dataclass(frozen=True, kw_only=True)
class DVaeRecipe:
    """`begin`: how sharply the first words are told apart, None for random ones; see `limner.dvae.begin`.

    `idle_weight` and `floor`: see `limner.dvae.dvae_objective`. `crop`: train on random crops, flipped half
    of the time, of pictures 9/8 to 12/8 as large.
    """

    model: DVaeConfig
    train: TrainConfig
    kl_weight: Ramp
    temperature: Ramp
    idle_weight: float
    floor: float | None
    begin: float | None
    crop: bool


def toy() -> DVaeRecipe:
    """Half a minute on one core with the shipped sample, 32×32 pixels → 8×8 tokens of 256."""
    model = DVaeConfig(
        resolution=32,
        vocabulary=256,
        codebook=64,
        widths=(48, 128),
        blocks=2,
        poolings=1,
        stem=3,
        gain=0.5,
        patch=2,
    )
    training = TrainConfig(
        steps=500,
        batch=16,
        learning_rate=8e-3,
        warmup=20,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=1e-4,
        clip_norm=10.0,
        ema=0.99,
        precision="fp32",
        seed=4,
        save_every=250,
        sample_every=250,
    )
    return DVaeRecipe(
        model=model,
        train=training,
        kl_weight=Ramp(start=0.05, end=0.05, steps=1),
        temperature=Ramp(start=1.0, end=1 / 16, steps=400),
        idle_weight=20.0,
        floor=-1.5,
        begin=16.0,
        crop=False,
    )


def small() -> DVaeRecipe:
    """For a CPU: 64×64 pixels → 16×16 tokens of 1024."""
    model = DVaeConfig(
        resolution=64,
        vocabulary=1024,
        codebook=128,
        widths=(96, 256),
        blocks=2,
        poolings=1,
        stem=5,
        gain=0.5,
        patch=2,
    )
    training = TrainConfig(
        steps=3000,
        batch=16,
        learning_rate=3e-3,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=1e-4,
        clip_norm=10.0,
        ema=0.998,
        precision="auto",
        seed=4,
        save_every=200,
        sample_every=1000,
    )
    return DVaeRecipe(
        model=model,
        train=training,
        kl_weight=Ramp(start=0.05, end=0.05, steps=1),
        temperature=Ramp(start=1.0, end=1 / 16, steps=2400),
        idle_weight=20.0,
        floor=-1.5,
        begin=16.0,
        crop=False,
    )


def paper() -> DVaeRecipe:
    """Appendix A.2: 97,616,006 parameters, 3 000 000 steps of batch 512.

    The loop's learning rate falls along a cosine to zero at the end; the paper's falls to 1.25e-6 within
    1 200 000 steps and stays there (`schedule.LEARNING_RATE`).
    """
    training = TrainConfig(
        steps=3_000_000,
        batch=512,
        learning_rate=1e-4,
        warmup=0,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-4,
        clip_norm=float("inf"),
        ema=0.999,
        precision="bf16",
        seed=0,
        save_every=1000,
        sample_every=1000,
    )
    return DVaeRecipe(
        model=networks.paper(),
        train=training,
        kl_weight=schedule.KL_WEIGHT,
        temperature=schedule.TEMPERATURE,
        idle_weight=0.0,
        floor=None,
        begin=None,
        crop=True,
    )


def cropped(
    whole: Float[Tensor, "b 3 h w"], *, side: int, seed: int, step: int, rows: range
) -> Float[Tensor, "b 3 side side"]:
    """Random crops of pictures brought to 9/8 to 12/8 of `side` by area, half of them flipped: listing 1."""
    crops = []
    for picture, row in zip(whole, rows, strict=True):
        large = 9 * side // 8 + mix("crop size", seed, step, row) % (3 * side // 8 + 1)
        resized = F.interpolate(rearrange(picture, "c h w -> 1 c h w"), size=(large, large), mode="area")[0]
        top, left = (mix("crop", axis, seed, step, row) % (large - side + 1) for axis in (0, 1))
        crop = resized[:, top : top + side, left : left + side]
        crops.append(crop.flip(-1) if mix("flip", seed, step, row) % 2 else crop)
    return torch.stack(crops)


@dataclass(frozen=True)
class PictureBatches:
    """(step, rows) → pictures and the step. `crop`: the side to crop to, None for whole pictures."""

    gallery: Gallery
    crop: int | None
    seed: int

    def __call__(self, step: int, rows: range) -> PicturesAtStep:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        pictures = self.gallery.composited(drawn.pictures, drawn.grounds)
        if self.crop is not None:
            pictures = cropped(pictures, side=self.crop, seed=self.seed, step=step, rows=rows)
        return PicturesAtStep(pictures, step)


def run(
    recipe: DVaeRecipe,
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
    side = recipe.model.resolution
    gallery = open_gallery(folders, size=12 * side // 8 if recipe.crop else side, share=share)
    batches = PictureBatches(gallery, side if recipe.crop else None, recipe.train.seed)
    torch.manual_seed(recipe.train.seed)
    model = DVae(recipe.model)
    if recipe.begin is not None and init_from is None:
        seen = batches(-2, range(BEGIN)).pictures
        begin_with(model, seen, sharpness=recipe.begin, seed=recipe.train.seed)
    # What has cooled already is not heated again.
    cold = Ramp(start=recipe.temperature.end, end=recipe.temperature.end, steps=1)
    train(
        begun(model, recipe.model, init_from),
        dvae_objective(
            kl_weight=recipe.kl_weight,
            temperature=recipe.temperature if init_from is None else cold,
            idle_weight=recipe.idle_weight,
            floor=recipe.floor,
        ),
        batches,
        name="dvae",
        model_config=recipe.model,
        config=recipe.train,
        out=out,
        resume=resume,
        sampler=reconstructions(batches),
        device=device,
    )
    return out / "model"


def reconstructions(batches: PictureBatches) -> Sampler:
    """Originals above their reconstructions from tokens, the same ones every time."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, DVae)
        originals = batches(-1, range(SAMPLES)).pictures
        again = model.reconstruct(originals.to(next(model.parameters()).device)).cpu()
        both = torch.stack([originals, again])
        return grid(rearrange(both, "two (r k) c h w -> (r two k) c h w", k=COLUMNS), columns=COLUMNS)

    return sample
