"""From a picture to the pair (z_i, x_T) that paints it, and back.

CLIP says what a picture is of, z_i; the noise x_T from which the decoder paints just that picture holds all
the rest (Ramesh et al. 2022, section 3). `invert` finds both, x_T by DDIM inversion (Dhariwal & Nichol 2021,
appendix F), and `render` paints from both. Any picture will do, whoever painted it.

Two things differ from the paper. Inversion goes through the upsampler as well, so that a picture comes back
with its details. And it begins with a little noise that is taken away again at the end, the `grain`: at the
cleanest levels small networks are less sure than the noise there would allow for, and would turn their own
errors into noise of no use to any other picture. All of it is in float32, whatever the painter's precision.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from einops import repeat
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.clip import unit
from limner.dalle2.objective import clip_reader
from limner.data.folder import upright
from limner.diffusion.process import Denoiser, denoiser
from limner.diffusion.samplers import ddim, ddim_invert
from limner.diffusion.schedule import Schedule
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws, mix
from limner.pipelines.dalle2 import ENLARGED_AT_ONCE, Dalle2, given
from limner.pipelines.pictures import seen
from limner.pipelines.progress import Clock, Tick
from limner.pipelines.sampling import within_pixels
from limner.pipelines.settings import (
    Commission,
    PaintSettings,
    checked_size,
    checked_whole,
)
from limner.pipelines.stages import Enlarged, to_images

OnTick: TypeAlias = Callable[[Tick], None]

# Of a thousand noise levels, the one at which inversion begins.
CLEANEST = 100
# Steps through the decoder and the upsampler, and how often each step back is mended: see `ddim_invert`.
STEPS = 20
UPSAMPLER_STEPS = 6
REFINEMENTS = 3


@dataclass(frozen=True, kw_only=True)
class Latent:
    """What pictures are made of: z_i, unit vectors (B, d), and x_T, the decoder's noise (B, 3, s, s).

    `detail`: the same for the upsampler, (B, 3, S, S), None where only small pictures are wanted. `grain`:
    the seed of the noise that was added first; `steps`: how many levels of the decoder were walked.
    """

    embedding: Float[Tensor, "b d"]
    noise: Float[Tensor, "b 3 s s"]
    detail: Float[Tensor, "b 3 l l"] | None
    grain: int
    steps: int

    def __len__(self) -> int:
        return len(self.embedding)

    def of(self, rows: int) -> "Latent":
        """One picture's, for each of so many rows."""
        return Latent(
            embedding=repeat(self.embedding, "1 d -> n d", n=rows),
            noise=repeat(self.noise, "1 c h w -> n c h w", n=rows),
            detail=None if self.detail is None else repeat(self.detail, "1 c h w -> n c h w", n=rows),
            grain=self.grain,
            steps=self.steps,
        )


@torch.inference_mode()
def embed(painter: Dalle2, images: Sequence[Image.Image]) -> Float[Tensor, "b d"]:
    """z_i: CLIP's embeddings of pictures, which are squared with margins and laid on white.

    Unit, unless the decoder takes them raw. Raises LimnerError where CLIP has no picture tower.
    """
    clip = painter.seeing
    seen = clip.encode_image(_seen(painter, images, clip.config.vision.resolution)).pooled
    return seen if painter.decoder.config.raw else unit(seen)


@torch.inference_mode()
def invert(
    painter: Dalle2,
    images: Sequence[Image.Image],
    *,
    size: int | None = None,
    steps: int = STEPS,
    grain: int = 0,
    on_tick: OnTick | None = None,
) -> Latent:
    """(z_i, x_T) of pictures: what `render` paints them from again, in as many `steps`.

    For the smallest `size` alone, the upsampler is left out. Raises ValueError for fewer than 2 steps, for
    more than there are levels to walk, and for a size that the painter does not have.
    """
    if not images:
        raise ValueError("images is empty: give at least one picture")
    side = chosen_side(painter, size)
    most = painter.decoder.config.diffusion.steps
    checked_whole("steps", steps, 2, most - CLEANEST * most // 1000)
    clock = Clock(len(images) * inverting(painter, side, steps), on_tick)
    return inverted(painter, images, side, grain, steps, clock)


@torch.inference_mode()
def render(
    painter: Dalle2, latent: Latent, *, size: int | None = None, on_tick: OnTick | None = None
) -> list[Image.Image]:
    """The pictures of latents; those of `invert` give back the pictures that they were found from.

    Raises ValueError for a size that the painter does not have, and beyond the smallest where `invert` has
    left the upsampler out.
    """
    side = chosen_side(painter, size)
    if side != painter.sizes[0] and latent.detail is None:
        raise ValueError(f"size is {side}: these latents are of {painter.sizes[0]}, so invert for that size")
    clock = Clock(len(latent) * rendering(painter, side, latent.steps), on_tick)
    return rendered(painter, latent, side, clock)


def inverted(
    painter: Dalle2, images: Sequence[Image.Image], side: int, grain: int, steps: int, clock: Clock
) -> Latent:
    """What `invert` does, when all is checked."""
    small, large = painter.sizes[:2]
    embedding, advance = embed(painter, images), clock.during("inverting")
    noise, detail = [], []
    for rows in few(len(images)):
        low = _seen(painter, images[rows], small)
        denoise, levels = drawing(painter, embedding[rows]), drawing_levels(painter, steps)
        noise.append(_to_noise(denoise, low, levels, _grain(painter, grain, small), advance))
        if side != small:
            whole = _seen(painter, images[rows], large)
            denoise, levels = _enlarging(painter, given(painter.upsampler, low)), _enlarging_levels(painter)
            detail.append(_to_noise(denoise, whole, levels, _grain(painter, grain, large), advance))
    return Latent(
        embedding=embedding,
        noise=torch.cat(noise),
        detail=torch.cat(detail) if detail else None,
        grain=grain,
        steps=steps,
    )


def rendered(painter: Dalle2, latent: Latent, side: int, clock: Clock) -> list[Image.Image]:
    """What `render` does, when all is checked."""
    small, large = painter.sizes[:2]
    finished = []
    for rows in few(len(latent)):
        pictures = _from_noise(
            drawing(painter, latent.embedding[rows]),
            latent.noise[rows],
            drawing_levels(painter, latent.steps),
            _grain(painter, latent.grain, small),
            clock.during("drawing"),
        )
        if side != small:
            assert latent.detail is not None
            pictures = _from_noise(
                _enlarging(painter, given(painter.upsampler, pictures)),
                latent.detail[rows],
                _enlarging_levels(painter),
                _grain(painter, latent.grain, large),
                clock.during("enlarging"),
            )
        finished.append(pictures)
    return delivered(painter, torch.cat(finished), [latent.grain] * len(latent), side, clock)


def delivered(
    painter: Dalle2, pictures: Float[Tensor, "b 3 h w"], seeds: Sequence[int], side: int, clock: Clock
) -> list[Image.Image]:
    """As images, enlarged again where that is asked for."""
    if side > pictures.shape[-1]:
        enlarged = Enlarged(commissions=tuple(Commission("", seed) for seed in seeds), pictures=pictures)
        advance = clock.during("enlarging again")
        pictures = painter.enlarge_again(enlarged, PaintSettings(), advance=advance).pictures
    return to_images(pictures)


def _to_noise(
    denoise: Denoiser,
    pictures: Float[Tensor, "b 3 s s"],
    levels: Schedule,
    grain: Float[Tensor, "1 3 s s"],
    advance: Callable[[int], None],
) -> Float[Tensor, "b 3 s s"]:
    """The noise at the noisiest of `levels` from which these pictures, with grain, are painted."""
    signal = levels.alpha_bar[0].item()
    x = math.sqrt(signal) * pictures + math.sqrt(1 - signal) * grain
    for step in ddim_invert(denoise, x, levels, refinements=REFINEMENTS):
        x = step.x
        advance(len(x))
    return x


def _from_noise(
    denoise: Denoiser,
    x_T: Float[Tensor, "b 3 s s"],
    levels: Schedule,
    grain: Float[Tensor, "1 3 s s"],
    advance: Callable[[int], None],
) -> Float[Tensor, "b 3 s s"]:
    """The same way back."""
    x = x_T
    for step in ddim(denoise, x_T, levels, to_clean=False):
        x = step.x
        advance(len(x))
    signal = levels.alpha_bar[0].item()
    return ((x - math.sqrt(1 - signal) * grain) / math.sqrt(signal)).clamp(-1, 1)


def drawing(painter: Dalle2, embeddings: Float[Tensor, "b d"]) -> Denoiser:
    """The decoder, which is told what CLIP sees and no words."""
    decoder, rows = painter.decoder, len(embeddings)
    empty = clip_reader(painter.clip, raw=decoder.config.raw)(
        painter.tokenizer([""] * rows, painter.clip.config.text.context).to(painter.device)
    )
    picture = decoder.told(embeddings)
    keep = torch.ones(rows, dtype=torch.bool, device=painter.device)
    spec = decoder.config.diffusion
    return within_pixels(
        denoiser(
            lambda x, t: decoder(x, t, picture=picture, keep_picture=keep, caption=empty),
            spec.levels(),
            spec.prediction,
            learned_variance=spec.learned_variance,
        )
    )


def _enlarging(painter: Dalle2, low: Float[Tensor, "b 3 s s"]) -> Denoiser:
    """The upsampler of these small pictures."""
    upsampler = painter.upsampler
    spec = upsampler.config.diffusion
    return within_pixels(denoiser(lambda x, t: upsampler(x, t, low=low), spec.levels(), spec.prediction))


def drawing_levels(painter: Dalle2, steps: int) -> Schedule:
    """As inversion walks the decoder."""
    return _levels(painter.decoder.config.diffusion, steps)


def every_level(painter: Dalle2) -> Schedule:
    """As a painting walks them, down to clean data."""
    return painter.decoder.config.diffusion.levels().respace(STEPS - 1)


def _enlarging_levels(painter: Dalle2) -> Schedule:
    return _levels(painter.upsampler.config.diffusion, UPSAMPLER_STEPS)


def _levels(spec: DiffusionSpec, steps: int) -> Schedule:
    """Those of inversion: none cleaner than `CLEANEST` of a thousand."""
    return spec.levels().take(range(CLEANEST * spec.steps // 1000, spec.steps)).respace(steps)


def _grain(painter: Dalle2, seed: int, side: int) -> Float[Tensor, "1 3 s s"]:
    return Draws([mix(seed, "grain", side)], device=painter.device).normal(3, side, side)


def _seen(painter: Dalle2, images: Sequence[Image.Image], side: int) -> Float[Tensor, "b 3 s s"]:
    return seen([upright(image) for image in images], side).to(painter.device)


def chosen_side(painter: Dalle2, size: int | None) -> int:
    """How many pixels a side are wanted; ValueError for a size that the painter does not have."""
    side = painter.sizes[1] if size is None else size
    checked_size(side, painter.sizes)
    return side


def inverting(painter: Dalle2, side: int, steps: int) -> int:
    """How many steps a picture takes on its way back; each lies between two levels."""
    return steps - 1 + (UPSAMPLER_STEPS - 1 if side != painter.sizes[0] else 0)


def rendering(painter: Dalle2, side: int, steps: int) -> int:
    """How many steps a picture of this size takes on its way from noise."""
    second = PaintSettings().upsampler_1024_steps
    return sum((steps - 1, UPSAMPLER_STEPS - 1, second)[: painter.sizes.index(side) + 1])


def few(rows: int) -> Iterator[slice]:
    """As many rows at once as memory holds."""
    for start in range(0, rows, ENLARGED_AT_ONCE):
        yield slice(start, start + ENLARGED_AT_ONCE)
