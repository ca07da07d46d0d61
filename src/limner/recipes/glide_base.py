"""GLIDE's base network: noise and a caption → a small picture; then a second training in which it mends.

Paper: Nichol et al. 2021, sections 2 and 4. The small one folds 4×4 pixels into channels and predicts the
picture itself, as the small decoder of `limner train decoder` does, from whose U-Net it may begin.

    limner train glide-base --size small --data data/emoji data/scenes --share 85 15 --out runs/small/base \\
        --decoder runs/small/line/decoder --clip runs/small/line/clip
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from PIL import Image
from torch import Tensor, nn

from limner import checkpoint, glide
from limner.data.loader import Gallery, open_gallery
from limner.diffusion.guidance import classifier_free_batched, clipped
from limner.diffusion.process import denoiser
from limner.diffusion.samplers import dpm_solver_pp_2m, last
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws, mix
from limner.glide import (
    Glide,
    GlideConfig,
    Known,
    PicturesAndCaptions,
    TextEncoderConfig,
    erased,
    glide_objective,
    mending,
    read_ids,
)
from limner.layers.unet import UNetConfig
from limner.recipes.begin import begun, checked_start
from limner.recipes.glide_reader import taught
from limner.recipes.pictures import grid
from limner.recipes.words import VOCABULARY, vocabulary
from limner.text import PADDING, CaptionTokenizer
from limner.training import Sampler, TrainConfig, train

SAMPLES = 24
SAMPLE_STEPS = 15
GUIDANCE = 3.0


@dataclass(frozen=True, kw_only=True)
class GlideRecipe:
    """A network that paints, `train`, and then, with four channels more, mends, `mend`.

    `read`: how it first learns to read from a decoder, where one is given. `crop`: share of the side that
    training sees, 1 for whole pictures. `drop_caption`: 20 % in the paper. `max_weight` bounds the weight of
    the x₀ loss, `lean` says how noise levels are drawn, and `blur` (σ) how soft an upsampler's small picture
    may be; see `glide_objective`.
    """

    model: GlideConfig
    train: TrainConfig
    mend: TrainConfig
    read: TrainConfig | None
    crop: float
    drop_caption: float
    max_weight: float | None
    lean: float
    blur: float


def toy() -> GlideRecipe:
    """Under two minutes on two cores with the shipped sample, 32×32 pixels: colours and places."""
    unet = UNetConfig(
        in_channels=3,
        out_channels=3,
        channels=32,
        depth=1,
        multipliers=(2, 4),
        attention=(4,),
        head_width=32,
        context_width=96,
        scale_shift=True,
        dropout=0.0,
        patch=4,
        canvas=4,
    )
    text = TextEncoderConfig(
        context=40, vocabulary=512, width=96, layers=2, heads=3, condition_width=unet.embedding_width
    )
    model = GlideConfig(
        resolution=32, low=None, inpaint=False, text=text, backbone=unet, diffusion=picture_spec()
    )
    training = TrainConfig(
        steps=600,
        batch=16,
        learning_rate=1.2e-3,
        warmup=50,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.995,
        precision="fp32",
        seed=21,
        save_every=300,
        sample_every=600,
        rule="muon",
    )
    return GlideRecipe(
        model=model,
        train=training,
        mend=replace(training, steps=120, learning_rate=6e-4, seed=22),
        read=replace(training, steps=100, batch=64, ema=0.98, seed=25),
        crop=1.0,
        drop_caption=0.2,
        max_weight=3.0,
        lean=0.6,
        blur=0.0,
    )


def small() -> GlideRecipe:
    """What ships: 11.7 M parameters."""
    unet = UNetConfig(
        in_channels=3,
        out_channels=3,
        channels=64,
        depth=1,
        multipliers=(1, 2, 3),
        attention=(2, 4),
        head_width=32,
        context_width=192,
        scale_shift=True,
        dropout=0.0,
        patch=4,
        canvas=4,
    )
    text = TextEncoderConfig(
        context=40, vocabulary=2048, width=192, layers=4, heads=6, condition_width=unet.embedding_width
    )
    model = GlideConfig(
        resolution=64, low=None, inpaint=False, text=text, backbone=unet, diffusion=picture_spec()
    )
    training = TrainConfig(
        steps=12_000,
        batch=32,
        learning_rate=8e-4,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.999,
        precision="auto",
        seed=21,
        save_every=300,
        sample_every=1000,
        rule="muon",
    )
    return GlideRecipe(
        model=model,
        train=training,
        mend=replace(training, steps=2000, learning_rate=4e-4, seed=22),
        read=replace(training, steps=1500, batch=256, learning_rate=1.5e-3, ema=0.99, seed=25),
        crop=1.0,
        drop_caption=0.2,
        max_weight=4.0,
        lean=0.6,
        blur=0.0,
    )


def paper() -> GlideRecipe:
    """Section 4: 2.5 million steps of batch 2048 (the released one is smaller); 3,554,414,086 parameters."""
    training = TrainConfig(
        steps=2_500_000,
        batch=2048,
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
        sample_every=5000,
    )
    return GlideRecipe(
        model=glide.paper(),
        train=training,
        mend=replace(training, steps=200_000, seed=1),
        read=None,
        crop=1.0,
        drop_caption=0.2,
        max_weight=None,
        lean=0.0,
        blur=0.0,
    )


def picture_spec() -> DiffusionSpec:
    """A picture rather than its noise, for at 4×4 pixels a place that learns shapes first.

    The variance is not learned. A small network errs by more than β allows for where noise is low, so the
    best variance would lie far outside of what the fraction was meant for, and learning it spoils pictures.
    """
    return DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False)


@dataclass(frozen=True)
class CaptionedBatches:
    """(step, rows) → pictures, or crops of `side` pixels of them, and their captions' ids."""

    gallery: Gallery
    tokenizer: CaptionTokenizer
    context: int
    side: int
    seed: int

    def __call__(self, step: int, rows: range) -> PicturesAndCaptions:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        whole = self.gallery.composited(drawn.pictures, drawn.grounds)
        room = self.gallery.size - self.side + 1
        crops = []
        for picture, row in zip(whole, rows, strict=True):
            top, left = (mix("crop", axis, self.seed, step, row) % room for axis in (0, 1))
            crops.append(picture[:, top : top + self.side, left : left + self.side])
        return PicturesAndCaptions(torch.stack(crops), self.tokenizer(drawn.captions, self.context))


def run(
    recipe: GlideRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    init_from: Path | None = None,
    decoder: Path | None = None,
    clip: Path | None = None,
) -> Path:
    """Train a network that paints, in `out/paints`, then one that mends, in `out/mends`; return its folder.

    `init_from`: a network that paints, to go on from, or one that mends, for the second training alone.
    `decoder`, `clip`: a decoder of unCLIP and the CLIP that it stands on, to begin from; see `glide_reader`.
    """
    if init_from is not None and checkpoint.load(init_from, GlideConfig)[0].inpaint:
        config, state = checkpoint.load(init_from, GlideConfig)
        wanted = mending(Glide(recipe.model)).config
        checked_start(wanted, init_from)
        network = Glide(config)
        checkpoint.load_into(network, state)
        batches = captioned(recipe, folders, share, out, seed=recipe.mend.seed, init_from=init_from)
        return _trained(network, recipe, recipe.mend, batches, out / "mends", resume, device)
    painter = painting(
        recipe,
        folders=folders,
        share=share,
        out=out,
        resume=resume,
        device=device,
        init_from=init_from,
        decoder=decoder,
        clip=clip,
    )
    config, state = checkpoint.load(painter, GlideConfig)
    network = Glide(config)
    checkpoint.load_into(network, state)
    batches = captioned(recipe, folders, share, out, seed=recipe.mend.seed)
    return _trained(mending(network), recipe, recipe.mend, batches, out / "mends", resume, device)


def painting(
    recipe: GlideRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    init_from: Path | None = None,
    decoder: Path | None = None,
    clip: Path | None = None,
) -> Path:
    """The first of the two trainings alone.

    Raises ValueError for a decoder where the recipe learns from none, or beside weights to go on from.
    """
    if decoder is not None and (recipe.read is None or init_from is not None):
        why = "this recipe begins from none" if recipe.read is None else "init_from is given as well"
        raise ValueError(f"decoder is '{decoder}', but {why}: leave one out")
    checked_start(recipe.model, init_from)
    torch.manual_seed(recipe.train.seed)
    network = begun(Glide(recipe.model), recipe.model, init_from)
    batches = captioned(recipe, folders, share, out, seed=recipe.train.seed, init_from=init_from)
    if decoder is not None and clip is not None and recipe.read is not None:
        taught(
            network,
            decoder,
            clip,
            batches.tokenizer,
            recipe.read,
            folders=folders,
            share=share,
            out=out / "reads",
            resume=resume,
            device=device,
            drop_caption=recipe.drop_caption,
        )
    return _trained(network, recipe, recipe.train, batches, out / "paints", resume, device)


def captioned(
    recipe: GlideRecipe,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    *,
    seed: int,
    init_from: Path | None = None,
) -> CaptionedBatches:
    """Batches of these folders, in words that are learned from them once and kept in `out`."""
    model = recipe.model
    gallery = open_gallery(folders, size=model.resolution, share=share)
    tokenizer = vocabulary(
        gallery,
        model.text.vocabulary,
        seed=recipe.train.seed,
        kept=out / VOCABULARY,
        init_from=init_from,
    )
    side = round(recipe.crop * model.resolution)
    return CaptionedBatches(gallery, tokenizer, model.text.context, side, seed)


def _trained(
    network: Glide,
    recipe: GlideRecipe,
    config: TrainConfig,
    batches: CaptionedBatches,
    out: Path,
    resume: bool,
    device: str | None,
) -> Path:
    train(
        network,
        glide_objective(
            drop_caption=recipe.drop_caption, max_weight=recipe.max_weight, lean=recipe.lean, blur=recipe.blur
        ),
        batches,
        name=f"glide that {out.name}",
        model_config=network.config,
        config=config,
        out=out,
        resume=resume,
        sampler=sheet(batches),
        device=device,
    )
    PartialState().wait_for_everyone()  # what one process writes the others read
    batches.tokenizer.save(out / "model" / VOCABULARY)
    return out / "model"


def sheet(batches: CaptionedBatches) -> Sampler:
    """Real pictures above what the network makes of their captions, the same ones every time.

    One that mends is shown the same pictures with parts erased, and those that it mended.
    """

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, Glide)
        device = next(model.parameters()).device
        pictures, ids = (part.to(device) for part in batches(-1, range(SAMPLES)))
        spec, config, side = model.config.diffusion, model.config, pictures.shape[-1]
        caption = model.read(*read_ids(torch.cat([ids, torch.full_like(ids, PADDING)])))
        both = torch.cat([pictures, pictures])
        low = None if config.low is None else F.avg_pool2d(both, config.resolution // config.low)
        rows = [pictures]
        known = None
        if config.inpaint:
            mask = erased(Draws.for_step(0, -1, range(SAMPLES), device=device), side)
            rows.append(torch.where(mask > 0, pictures, 0))
            known = Known(both, torch.cat([mask, mask]))

        def network(x: Tensor, t: Tensor) -> Tensor:
            return model.predict(x, t, caption=caption, low=low, known=known)

        levels = spec.levels()
        denoise = denoiser(network, levels, spec.prediction, learned_variance=spec.learned_variance)
        denoise = clipped(classifier_free_batched(denoise, (GUIDANCE,)), 1.0)
        noise = Draws.for_step(0, 0, range(SAMPLES), device=device).normal(3, side, side)
        rows.append(last(dpm_solver_pp_2m(denoise, noise, levels.log_snr_spaced(SAMPLE_STEPS))))
        return grid(torch.cat(rows).cpu(), columns=SAMPLES // 2)

    return sample
