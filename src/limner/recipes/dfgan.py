"""DF-GAN: a GAN that paints what a sentence says in a single pass, ready to paint from.

Paper: Tao et al. 2020, section 4.1: 256×256 pixels, Adam, 1e-4 for the generator and 4e-4 for the
discriminator, COCO FID 21.42. Stands on a trained CLIP, whose frozen text tower reads the captions where the
paper has an LSTM that learned the same way. The small one paints 64×64 pixels.

    limner train dfgan --size small --data data/emoji data/scenes --share 8 2 --clip runs/small/clip/model \\
        --out runs/small/dfgan
    limner paint "a red apple" --model dfgan --weights runs/small/dfgan/line
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from limner import checkpoint, dfgan
from limner.clip import Clip, ClipConfig, TextWithProjectionConfig, trimmed, unit
from limner.data.loader import Gallery, open_gallery
from limner.dfgan import CaptionedPictures, DfGan, DfGanConfig, adversarial_objective, noise
from limner.dfgan.objective import Reader
from limner.distributed import rank
from limner.draws import Draws
from limner.progress import watched
from limner.recipes.begin import begun, checked_start, same_source
from limner.recipes.embeddings import FLOOR, load_clip
from limner.recipes.pictures import grid
from limner.recipes.prior import tokenizer_of
from limner.text import ClipTokenizer
from limner.training import Sampler, TrainConfig, train

# Captions whose embeddings are spread evenly; drawn as batches are.
CAPTIONS_READ = 8192
CHUNK = 256
SAMPLES = 24
COLUMNS = 12
# The discriminator learns so many times as fast as the generator.
FASTER = 4.0


@dataclass(frozen=True, kw_only=True)
class DfGanRecipe:
    """Two networks and how to train them; there is nothing else to choose."""

    model: DfGanConfig
    train: TrainConfig


def toy() -> DfGanRecipe:
    """A minute or two on two cores with the shipped sample, after the toy CLIP; 32×32 pixels."""
    model = DfGanConfig(resolution=32, width=16, noise=32, sentence=96, squashed=False)
    config = training(steps=600, batch=32, learning_rate=4e-4, ema=0.99, seed=16)
    return DfGanRecipe(model=model, train=config)


def small() -> DfGanRecipe:
    """For a CPU: 1.7 M parameters paint 64×64 pixels.

    Of half the paper's width, whose step costs a quarter: 0.7 seconds of a core instead of 2.8.
    """
    model = DfGanConfig(resolution=64, width=16, noise=100, sentence=256, squashed=False)
    config = training(steps=7000, batch=32, learning_rate=2e-4, ema=0.998, seed=16, precision="auto")
    return DfGanRecipe(model=model, train=config)


def paper() -> DfGanRecipe:
    """COCO: 9,744,131 parameters paint, 300 epochs of 82,783 pictures in batches of 32.

    The loop's rate falls along a cosine, where the paper's stays; both networks move at once, where the
    published code moves the discriminator first; and the average of the weights is ours.
    """
    config = training(steps=776_000, batch=32, learning_rate=1e-4, ema=0.999, seed=0)
    return DfGanRecipe(model=dfgan.paper(), train=config)


def training(
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    ema: float,
    seed: int,
    precision: Literal["fp32", "auto"] = "fp32",
) -> TrainConfig:
    """How DF-GAN is trained: plain Adam without momentum, and gradients as they come."""
    return TrainConfig(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        warmup=0,
        betas=(0.0, 0.9),
        eps=1e-8,
        weight_decay=0.0,
        clip_norm=float("inf"),
        ema=ema,
        precision=precision,
        seed=seed,
        save_every=max(100, steps // 40),
        sample_every=max(200, steps // 20),
        rates=(("discriminator", FASTER),),
    )


@dataclass(frozen=True)
class CaptionedBatches:
    """(step, rows) → pictures on their grounds and token ids of captions that name them."""

    gallery: Gallery
    tokenizer: ClipTokenizer
    context: int
    seed: int

    def __call__(self, step: int, rows: range) -> CaptionedPictures:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        pictures = self.gallery.composited(drawn.pictures, drawn.grounds)
        return CaptionedPictures(pictures, self.tokenizer(drawn.captions, self.context))

    def captions(self, step: int, rows: range) -> list[str]:
        """What these rows say."""
        return self.gallery.draw(seed=self.seed, step=step, rows=rows).captions


def reader(clip: Clip) -> Reader:
    """Captions as a frozen CLIP reads them: unit embeddings."""

    @torch.no_grad()
    def read(ids: Int[Tensor, "b l"]) -> Float[Tensor, "b s"]:
        return unit(clip.encode_text(trimmed(ids)).pooled.float())

    return read


def run(
    recipe: DfGanRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    clip: Path,
    init_from: Path | None = None,
) -> Path:
    """Train on captions as the CLIP in folder `clip` reads them; return `out/line`, which is ready to paint.

    Raises ValueError for a CLIP of other embeddings than the recipe's model or than the run that is to go on
    began with, and for a recipe to be compiled.
    """
    model, seed = recipe.model, recipe.train.seed
    if recipe.train.compile:
        raise ValueError(
            "compile is on, and PyTorch's compiler knows no gradient of a gradient, which the penalty is: "
            "leave it out"
        )
    checked_start(model, init_from)
    text = load_clip(clip, device)
    if text.config.embedding != model.sentence:
        raise ValueError(
            f"clip is '{clip}': its embeddings have {text.config.embedding} numbers, and this generator "
            f"hears {model.sentence}; give one trained at the same --size"
        )
    gallery = open_gallery(folders, size=model.resolution, share=share)
    same_source("clip", clip, out=out, resume=resume)
    batches = CaptionedBatches(gallery, tokenizer_of(text), text.config.text.context, seed)
    torch.manual_seed(seed)
    gan = begun(DfGan(model), model, init_from)
    if init_from is None:
        spread(gan, batches, text)
    train(
        gan,
        adversarial_objective(reader(text)),
        batches,
        name="dfgan",
        model_config=model,
        config=recipe.train,
        out=out,
        resume=resume,
        sampler=paintings(batches, text),
        device=device,
    )
    PartialState().wait_for_everyone()
    return assemble(out, clip)


def spread(gan: DfGan, batches: CaptionedBatches, clip: Clip) -> None:
    """Fit the generator's whitening to captions, which CLIP has almost all in one direction."""
    captions = batches.captions(-2, range(CAPTIONS_READ))
    place, read = clip.log_scale.device, reader(clip)
    parts = [
        read(batches.tokenizer(captions[start : start + CHUNK], batches.context).to(place)).cpu()
        for start in watched(range(0, len(captions), CHUNK), "reading captions")
    ]
    gan.generator.said.fit(torch.cat(parts), floor=FLOOR)


def assemble(out: Path, clip: Path) -> Path:
    """Gather the finished generator and the text tower that it heard in `out/line`, compact, as they ship.

    The discriminator stays in `out/model`, from which another training may begin.
    """
    line = out / "line"
    if rank() == 0:
        config, state = checkpoint.load(out / "model", DfGanConfig)
        generator = parts_under(state, "generator.")
        checkpoint.save_compact(line / "generator", generator, config)
        whole, weights = checkpoint.load(clip, ClipConfig)
        tower = TextWithProjectionConfig(
            text=whole.text, embedding=whole.embedding, activation=whole.activation
        )
        words = {f"text.{name}": value for name, value in parts_under(weights, "text.").items()}
        checkpoint.save_compact(line / "text", words, tower)
    return line


def parts_under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one child of a network, by its own names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def paintings(batches: CaptionedBatches, clip: Clip) -> Sampler:
    """What the generator paints, from the same noise and for the same captions every time."""

    def sampled(model: nn.Module) -> Image.Image:
        assert isinstance(model, DfGan)
        place = next(model.parameters()).device
        ids = batches.tokenizer(batches.captions(-1, range(SAMPLES)), batches.context)
        s = model.generator.spoken(reader(clip)(ids.to(place)))
        z = noise(Draws.for_step(0, 0, range(SAMPLES), device=place), model.config)
        return grid(model.generator(z, s).cpu(), columns=COLUMNS)

    return sampled
