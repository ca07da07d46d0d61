"""unCLIP's decoder: CLIP picture embedding and caption → a small picture.

Paper: Ramesh et al. 2022, section 2.1 and table 3. The small one folds 4×4 pixels into channels, so that the
network works at 16×16, and predicts the picture itself (x₀), which at that patch size learns shapes first.

    limner train decoder --size small --data data/emoji data/scenes --share 7 3 --out runs/small/decoder
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from limner import checkpoint
from limner.clip import Clip
from limner.dalle2 import decoder as networks
from limner.dalle2.decoder import ClipTextConfig, Decoder, DecoderConfig
from limner.dalle2.objective import (
    PicturesAndCaptions,
    Reader,
    SeenPictures,
    clip_reader,
    decoder_objective,
    sketch_objective,
)
from limner.dalle2.sketch import Sketch, SketchConfig
from limner.data.loader import Gallery, open_gallery
from limner.diffusion.guidance import clipped
from limner.diffusion.process import denoiser
from limner.diffusion.samplers import dpm_solver_pp_2m, last
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.layers.trunk import TrunkConfig
from limner.layers.unet import UNetConfig
from limner.recipes.begin import begun, checked_start, same_source
from limner.recipes.embeddings import FLOOR, Told, embedded, load_clip, said, seen, told_nearly_right
from limner.recipes.imagined import told_of
from limner.recipes.pictures import grid
from limner.recipes.prior import CAPTIONS_READ, FLOOR_OF_CAPTIONS, tokenizer_of
from limner.text import ClipTokenizer
from limner.training import Sampler, TrainConfig, train

SAMPLES = 24
SAMPLE_STEPS = 15


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe:
    """The paper drops z_i 10 % and the caption 50 % of the time; `max_weight` bounds the x₀ loss's weight.

    `blur_picture`: how far z_i is off at most, in its own length, or in deviations of each direction where
    there is a sketch: `imprecise` and `shaken` of `dalle2.objective`. `sketch`: how that is trained, first.

    `imagined`: of how many pictures, in place of z_i, what a prior imagined of a caption is told, if there is
    a prior; none in the paper. The sketch is told of those only that are `near`: off by no more than this
    share of the embedding's square in the whitened space.
    """

    model: DecoderConfig
    train: TrainConfig
    drop_picture: float
    drop_caption: float
    blur_picture: float
    max_weight: float | None
    sketch: TrainConfig | None = None
    imagined: float = 0.0
    near: float = 0.5


def toy() -> DecoderRecipe:
    """Some minutes of two cores with the shipped sample, 32×32 pixels.

    At 8×8 and 4×4 places much of a step's time is that of starting operators, so there are few: two levels,
    and attention in the middle only, since neither level has the factor that asks for more.
    """
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
    model = DecoderConfig(
        resolution=32,
        embedding=96,
        picture_tokens=4,
        learned_null=False,
        text=ClipTextConfig(width=96, embedding=96),
        unet=unet,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
    )
    training = TrainConfig(
        steps=2400,
        batch=16,
        learning_rate=1.2e-3,
        warmup=50,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.995,
        precision="fp32",
        seed=2,
        save_every=300,
        sample_every=300,
    )
    return DecoderRecipe(
        model=model, train=training, drop_picture=0.1, drop_caption=0.5, blur_picture=0.0, max_weight=3.0
    )


def small() -> DecoderRecipe:
    """26 M parameters, most of them the sketch's, which is trained first."""
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
        canvas=48,
    )
    model = DecoderConfig(
        resolution=64,
        embedding=256,
        picture_tokens=4,
        learned_null=False,
        text=ClipTextConfig(width=192, embedding=256),
        unet=unet,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
        sketch=SketchConfig(
            embedding=256,
            resolution=64,
            trunk=TrunkConfig(width=768, layers=4),
            piece=8,
            numbers=128,
            hidden=384,
            captioned=True,
        ),
    )
    training = TrainConfig(
        steps=20_000,
        batch=32,
        learning_rate=8e-4,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.999,
        precision="auto",
        seed=2,
        save_every=300,
        sample_every=1000,
    )
    sketching = TrainConfig(
        steps=34_000,
        batch=128,
        learning_rate=2e-3,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=4,
        save_every=1000,
        sample_every=2000,
    )
    return DecoderRecipe(
        model=model,
        train=training,
        drop_picture=0.1,
        drop_caption=0.3,
        blur_picture=0.1,
        max_weight=4.0,
        sketch=sketching,
        imagined=0.8,
        near=0.8,
    )


def paper() -> DecoderRecipe:
    """Table 3 of the paper: 800 000 steps of batch 2048; 3,564,910,086 parameters."""
    training = TrainConfig(
        steps=800_000,
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
        sample_every=1000,
    )
    return DecoderRecipe(
        model=networks.paper(),
        train=training,
        drop_picture=0.1,
        drop_caption=0.5,
        blur_picture=0.0,
        max_weight=None,
    )


@dataclass(frozen=True)
class PictureBatches:
    """(step, rows) → pictures, their kept embeddings, and token ids.

    What was imagined was so of another caption of the picture than that which is read beside it, mostly: the
    words are to be right and not to explain how the embedding errs, which is the sketch's to know.
    """

    gallery: Gallery
    told: Told
    tokenizer: ClipTokenizer
    context: int
    seed: int

    def __call__(self, step: int, rows: range) -> PicturesAndCaptions:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        return PicturesAndCaptions(
            self.gallery.composited(drawn.pictures, drawn.grounds),
            self.told(drawn, seed=self.seed, step=step, rows=rows),
            self.tokenizer(drawn.captions, self.context),
        )


def run(
    recipe: DecoderRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    clip: Path,
    prior: Path | None = None,
    init_from: Path | None = None,
) -> Path:
    """Train on the embeddings of the CLIP in folder `clip`; return the folder of the finished model.

    With a trained `prior`, on what it imagines too: the recipe's share of `imagined`. Raises ValueError for a
    CLIP or prior of other widths than the recipe's model, for a model that reads captions by itself, and for
    another CLIP or prior than the run that is to go on began with.
    """
    checked_start(recipe.model, init_from)
    reader = load_clip(clip, device)
    model, seen, width = recipe.model, reader.config.embedding, reader.config.text.width
    if not isinstance(model.text, ClipTextConfig):
        raise ValueError(
            "this decoder reads captions by itself, and only those that read them through CLIP are trained "
            "here: give one whose model.text is a ClipTextConfig, as at --size toy or small"
        )
    if (seen, seen, width) != (model.embedding, model.text.embedding, model.text.width):
        raise ValueError(
            f"clip is '{clip}': its embeddings have {seen} numbers, and its captions tokens of {width}; this "
            f"decoder takes {model.embedding} of a picture, {model.text.embedding} of a caption, and tokens "
            f"of {model.text.width}; give one trained at the same --size"
        )
    if prior is not None and not recipe.imagined:
        raise ValueError(
            f"prior is '{prior}': this recipe tells its decoder nothing imagined, so leave it out"
        )
    tokenizer, context = tokenizer_of(reader), reader.config.text.context
    gallery = open_gallery(folders, size=model.resolution, share=share)
    legs = ("sketch",) if recipe.sketch is not None and init_from is None else ()
    same_source("clip", clip, out=out, resume=resume, legs=legs)
    same_source("prior", prior, out=out, resume=resume, legs=legs)
    weights = checkpoint.digest(clip)
    told = Told(embeddings_of(reader, gallery, folders, share, weights=weights, out=out))
    if prior is not None:
        guessed = told_of(reader, gallery, prior, out=out, device=device)
        told = replace(told, imagined=guessed, share=recipe.imagined)
    if legs and model.sketch is not None and model.sketch.captioned:
        told = replace(told, captions=said(reader, tokenizer, gallery, weights=weights, out=out))
    batches = PictureBatches(gallery, told, tokenizer, context, recipe.train.seed)
    read = clip_reader(reader)
    empty = tokenizer([""], context)[0]
    torch.manual_seed(recipe.train.seed)
    decoder = begun(Decoder(model), model, init_from)
    if decoder.sketch is not None:
        if recipe.sketch is not None and init_from is None:
            nothing = read(tokenizer([""], context).to(next(reader.parameters()).device)).embedding[0]
            sketched(
                decoder.sketch,
                recipe,
                gallery,
                told,
                empty=nothing,
                out=out / "sketch",
                resume=resume,
                device=device,
            )
        decoder.sketch.requires_grad_(requires_grad=False)
    train(
        decoder,
        decoder_objective(
            read,
            empty=empty,
            drop_picture=recipe.drop_picture,
            drop_caption=recipe.drop_caption,
            blur_picture=recipe.blur_picture,
            max_weight=recipe.max_weight,
        ),
        batches,
        name="decoder",
        model_config=model,
        config=recipe.train,
        out=out,
        resume=resume,
        sampler=reconstructions(batches, read),
        device=device,
    )
    return out / "model"


@dataclass(frozen=True)
class SeenBatches:
    """(step, rows) → pictures, and kept embeddings of them and of their captions."""

    gallery: Gallery
    told: Told
    seed: int

    def __call__(self, step: int, rows: range) -> SeenPictures:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        return SeenPictures(
            self.gallery.composited(drawn.pictures, drawn.grounds),
            self.told(drawn, seed=self.seed, step=step, rows=rows),
            self.told.said(drawn, seed=self.seed, step=step, rows=rows),
        )


def sketched(
    sketch: Sketch,
    recipe: DecoderRecipe,
    gallery: Gallery,
    told: Told,
    *,
    empty: torch.Tensor,
    out: Path,
    resume: bool,
    device: str | None,
) -> None:
    """Train a decoder's sketch in the folder `out`, and put the averaged weights in its place.

    `empty`: the embedding of the empty caption.
    """
    assert recipe.sketch is not None
    length = sketch.config.embedding**0.5
    sketch.sphere.fit(torch.from_numpy(seen(gallery, told.embeddings)) * length, floor=FLOOR)
    if sketch.said is not None:
        rows = range(CAPTIONS_READ)
        heard = told.said(gallery.draw(seed=0, step=-1, rows=rows), seed=0, step=-1, rows=rows)
        assert heard is not None
        sketch.said.fit(heard, floor=FLOOR_OF_CAPTIONS)
    told = told_nearly_right(told, sketch.sphere, length=length, within=recipe.near)
    batches = SeenBatches(gallery, told, recipe.sketch.seed)
    train(
        sketch,
        sketch_objective(
            length,
            drop_picture=recipe.drop_picture,
            blur_picture=recipe.blur_picture,
            empty=empty,
            drop_caption=recipe.drop_caption,
        ),
        batches,
        name="sketch",
        model_config=sketch.config,
        config=recipe.sketch,
        out=out,
        resume=resume,
        sampler=sketches(batches, length),
        device=device,
    )
    PartialState().wait_for_everyone()  # what one process writes the others read
    checkpoint.load_into(sketch, checkpoint.load(out / "model", SketchConfig)[1])


def sketches(batches: SeenBatches, length: float) -> Sampler:
    """Real pictures above their sketches, the same ones every time."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, Sketch)
        pictures, embeddings, captions = batches(-1, range(SAMPLES))
        place = model.sphere.mean.device
        heard = None if captions is None else captions.to(place)
        with torch.inference_mode():
            drawn = model(embeddings.to(place) * length, heard).float().clamp(-1, 1).cpu()
        return grid(torch.cat([pictures, drawn]), columns=SAMPLES // 2)

    return sample


def embeddings_of(
    reader: Clip,
    gallery: Gallery,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    *,
    weights: str,
    out: Path,
) -> NDArray[np.float32]:
    """The gallery's embeddings, read at CLIP's own resolution where the decoder's differs."""
    side = reader.config.vision.resolution
    seen = gallery if gallery.size == side else open_gallery(folders, size=side, share=share)
    return embedded(reader, seen, weights=weights, out=out)


def reconstructions(batches: PictureBatches, read: Reader) -> Sampler:
    """Real pictures above what the decoder makes of their embedding and caption, the same ones every time."""

    def sample(model: nn.Module) -> Image.Image:
        assert isinstance(model, Decoder)
        device = next(model.parameters()).device
        pictures, embeddings, ids = batches(-1, range(SAMPLES))
        caption = read(ids.to(device))
        spec = model.config.diffusion

        def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return model(
                x,
                t,
                picture=model.told(embeddings.to(device)),
                keep_picture=torch.ones(len(x), dtype=torch.bool, device=device),
                caption=caption,
            )

        levels = spec.levels()
        denoise = clipped(
            denoiser(network, levels, spec.prediction, learned_variance=spec.learned_variance), 1.0
        )
        noise = Draws.for_step(0, 0, range(SAMPLES), device=device).normal(*pictures.shape[1:])
        painted = last(dpm_solver_pp_2m(denoise, noise, levels.log_snr_spaced(SAMPLE_STEPS)))
        return grid(torch.cat([pictures, painted.cpu()]), columns=SAMPLES // 2)

    return sample
