"""Pictures changed through DALL-E 2's two latents: varied, blended, and edited with words.

Ramesh et al. 2022, section 3. CLIP says what a picture is of, z_i; the noise x_T from which the decoder
paints just that picture, found by DDIM inversion (Dhariwal & Nichol 2021, appendix F), holds all the rest.
`invert` finds both, `render` paints from both, and what lies between is plain geometry. Any picture will do,
whoever painted it.

Two things differ from the paper. Inversion goes through the upsampler as well, so that a picture comes back
with its details. And it begins with a little noise that is taken away again at the end, the `grain`: at the
cleanest levels small networks are less sure than the noise there would allow for, and would turn their own
errors into noise of no use to any other picture. All of it is in float32, whatever the painter's precision.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from einops import rearrange, repeat
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
from limner.pipelines.dalle2 import ENLARGED_AT_ONCE, Dalle2
from limner.pipelines.pictures import seen
from limner.pipelines.progress import Clock, Tick
from limner.pipelines.sampling import within_pixels
from limner.pipelines.settings import (
    EDIT_STRENGTH,
    MOST_PICTURES,
    VARY_STRENGTH,
    BlendNoise,
    Commission,
    PaintSettings,
    checked_diff,
    checked_dimensions,
    checked_noise,
    checked_seed,
    checked_share,
    checked_size,
    checked_whole,
)
from limner.pipelines.stages import Drawn, Enlarged, eight_bit, to_images
from limner.pipelines.words import checked_words

OnTick: TypeAlias = Callable[[Tick], None]

# Of a thousand noise levels, the one at which inversion begins.
CLEANEST = 100
# Steps through the decoder and the upsampler, and how often each step back is mended: see `ddim_invert`.
STEPS = 20
UPSAMPLER_STEPS = 6
REFINEMENTS = 3
# Numbers of principal components that the paper paints from, besides all.
PROBED = (20, 30, 40, 80, 120, 160, 200, 320)


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
    """z_i: CLIP's unit embeddings of pictures, which are squared with margins and laid on white."""
    side = painter.clip.config.vision.resolution
    return unit(painter.clip.encode_image(_seen(painter, images, side)).pooled)


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
    side = _side(painter, size)
    most = painter.decoder.config.diffusion.steps
    checked_whole("steps", steps, 2, most - CLEANEST * most // 1000)
    clock = Clock(len(images) * _inverting(painter, side, steps), on_tick)
    return _invert(painter, images, side, grain, steps, clock)


@torch.inference_mode()
def render(
    painter: Dalle2, latent: Latent, *, size: int | None = None, on_tick: OnTick | None = None
) -> list[Image.Image]:
    """The pictures of latents; those of `invert` give back the pictures that they were found from.

    Raises ValueError for a size that the painter does not have, and beyond the smallest where `invert` has
    left the upsampler out.
    """
    side = _side(painter, size)
    if side != painter.sizes[0] and latent.detail is None:
        raise ValueError(f"size is {side}: these latents are of {painter.sizes[0]}, so invert for that size")
    clock = Clock(len(latent) * _rendering(painter, side, latent.steps), on_tick)
    return _render(painter, latent, side, clock)


@torch.inference_mode()
def vary(
    painter: Dalle2,
    image: Image.Image,
    *,
    count: int = 1,
    strength: float = VARY_STRENGTH,
    size: int | None = None,
    seed: int = 0,
    on_tick: OnTick | None = None,
) -> list[Image.Image]:
    """`count` pictures of what CLIP sees in `image`; section 3.1.

    `strength`: η of DDIM, how much of the noise is drawn afresh at every step: 1 keeps nothing of the picture
    but z_i. 0 gives it back; as soon as anything is drawn afresh, so are the upsampler's details. Raises
    ValueError for a strength outside [0, 1], and for a count or a seed out of range.
    """
    checked_whole("count", count, 1, MOST_PICTURES)
    checked_seed(seed, count)
    checked_share("strength", strength)
    side = _side(painter, size)
    deep = side if strength == 0 else painter.sizes[0]
    clock = Clock(_inverting(painter, deep, STEPS) + count * _rendering(painter, side, STEPS), on_tick)
    latent = _invert(painter, [image], deep, 0, STEPS, clock).of(count)
    if strength == 0:
        return _render(painter, latent, side, clock)
    seeds = [seed + number for number in range(count)]
    levels = _drawing_levels(painter, STEPS - 1)
    return _painted(painter, latent.embedding, latent.noise, levels, seeds, side, clock, eta=strength)


@torch.inference_mode()
def blend(
    painter: Dalle2,
    first: Image.Image,
    last: Image.Image,
    *,
    steps: int = 7,
    noise: BlendNoise = "inverted",
    size: int | None = None,
    seed: int = 0,
    on_tick: OnTick | None = None,
) -> list[Image.Image]:
    """`steps` pictures on the way from one to another, both ends included; section 3.2.

    z_i turns from the one to the other at an even pace. With "inverted" noise x_T does as well, and the ends
    are the two pictures; with "shared" noise all are painted from one x_T of the `seed`, so that nothing
    changes but what CLIP sees. Raises ValueError for steps or a seed out of range and for another noise.
    """
    checked_whole("steps", steps, 2, MOST_PICTURES)
    checked_seed(seed, 1)
    checked_noise(noise)
    side = _side(painter, size)
    shares = torch.linspace(0, 1, steps, device=painter.device)
    clock = Clock(
        (2 * _inverting(painter, side, STEPS) if noise == "inverted" else 0)
        + steps * _rendering(painter, side, STEPS),
        on_tick,
    )
    if noise == "shared":
        one, other = embed(painter, [first, last]).split(1)
        start = Draws([mix(seed, "decoder")], device=painter.device).normal(3, *2 * painter.sizes[:1])
        x_T = repeat(start, "1 c h w -> n c h w", n=steps)
        return _painted(
            painter, slerp(one, other, shares), x_T, _every_level(painter), [seed] * steps, side, clock
        )
    ends = _invert(painter, [first, last], side, 0, STEPS, clock)
    way = Latent(
        embedding=slerp(ends.embedding[:1], ends.embedding[1:], shares),
        noise=slerp(ends.noise[:1], ends.noise[1:], shares),
        detail=None if ends.detail is None else slerp(ends.detail[:1], ends.detail[1:], shares),
        grain=ends.grain,
        steps=ends.steps,
    )
    return _render(painter, way, side, clock)


@torch.inference_mode()
def edit(
    painter: Dalle2,
    image: Image.Image,
    target: str,
    *,
    source: str | None = None,
    strength: float = EDIT_STRENGTH,
    steps: int = 1,
    size: int | None = None,
    on_tick: OnTick | None = None,
) -> list[Image.Image]:
    """`image` on its way from what `source` says to what `target` says: a text diff, section 3.3.

    z_i turns toward the direction in which CLIP's text embedding goes from the one to the other, by the share
    `strength` (θ; the paper's lie between 0.25 and 0.5), and x_T is held. `steps` pictures evenly on the way,
    the last of them at `strength`. Without `source`, z_i turns toward the target itself.
    Raises ValueError for no words, the same words twice, a strength outside [0, 1], and steps out of range.
    """
    checked_diff(target, source)
    checked_share("strength", strength)
    checked_whole("steps", steps, 1, MOST_PICTURES)
    side = _side(painter, size)
    direction = direction_of(painter, target, source)
    shares = strength * torch.arange(1, steps + 1, device=painter.device) / steps
    clock = Clock(_inverting(painter, side, STEPS) + steps * _rendering(painter, side, STEPS), on_tick)
    latent = _invert(painter, [image], side, 0, STEPS, clock)
    turned = slerp(latent.embedding, direction, shares)
    return _render(painter, replace(latent.of(steps), embedding=turned), side, clock)


@torch.inference_mode()
def direction_of(painter: Dalle2, target: str, source: str | None) -> Float[Tensor, "1 d"]:
    """Where a text diff leads: unit(z_t(target) − z_t(source)), or z_t(target) without a source.

    Raises ValueError for words that read the same.
    """
    words = [target] if source is None else [target, source]
    checked_words(words)
    context = painter.clip.config.text.context
    if source is not None and torch.equal(*(painter.tokenizer([one], context) for one in words)):
        raise ValueError(f"source '{source}' and target '{target}' read the same: say what is to change")
    z_t = painter.understand([Commission(prompt, 0) for prompt in words]).embedding
    return z_t if source is None else unit(z_t[:1] - z_t[1:])


@torch.inference_mode()
def probe(
    painter: Dalle2,
    image: Image.Image,
    *,
    dimensions: Sequence[int] | None = None,
    size: int | None = None,
    seed: int = 0,
    on_tick: OnTick | None = None,
) -> tuple[list[int], list[Image.Image]]:
    """What CLIP knows first and what last: `image` painted from its z_i on ever more principal components.

    Figure 7 of the paper. Returns how many components each picture was painted from, those of `probed` by
    default, and the pictures, all from the same noise of the `seed`. Raises ValueError for numbers that there
    are no components for, and where the weights hold none: they come with the autoregressive prior.
    """
    if painter.prior_autoregressive is None:
        raise ValueError("these weights have no autoregressive prior, to which the components belong")
    checked_seed(seed, 1)
    side, most = _side(painter, size), painter.clip.config.embedding
    asked = probed(most) if dimensions is None else list(dimensions)
    checked_dimensions(asked)
    for number in asked:
        checked_whole("dimensions", number, 1, most)
    clock = Clock(len(asked) * _rendering(painter, side, STEPS), on_tick)
    z = painter.prior_autoregressive.pca.reduced(
        embed(painter, [image]), torch.tensor(asked, device=painter.device)
    )
    start = Draws([mix(seed, "decoder")], device=painter.device).normal(3, *2 * painter.sizes[:1])
    x_T = repeat(start, "1 c h w -> n c h w", n=len(asked))
    pictures = _painted(
        painter, rearrange(z, "n 1 d -> n d"), x_T, _every_level(painter), [seed] * len(asked), side, clock
    )
    return asked, pictures


def probed(most: int) -> list[int]:
    """The paper's numbers of components, and all that there are."""
    return [number for number in PROBED if number < most] + [most]


def slerp(
    first: Float[Tensor, "1 *d"], last: Float[Tensor, "1 *d"], shares: Float[Tensor, "n"]
) -> Float[Tensor, "n *d"]:
    """Shares of the way from one vector to another along the arc between them; Shoemake 1985.

    A row's dimensions count as one vector. Lengths that differ are mixed as the directions are, and 0 and 1
    are the ends exactly.
    """
    flat = [unit(end.flatten()) for end in (first, last)]
    # Twice the arc tangent is exact for small angles too, where the arc cosine of 1 − ε is not.
    angle = 2 * torch.atan2((flat[0] - flat[1]).norm(), (flat[0] + flat[1]).norm())
    if angle > 3.14159:
        raise ValueError("first and last point opposite ways, so that every way round is an arc: give others")
    if angle < 1e-4:  # no arc to speak of
        weights = 1 - shares, shares
    else:
        weights = (
            torch.sin((1 - shares) * angle) / torch.sin(angle),
            torch.sin(shares * angle) / torch.sin(angle),
        )
    a, b = (weight.reshape(-1, *[1] * (first.ndim - 1)) for weight in weights)
    return a * first + b * last


def _invert(
    painter: Dalle2, images: Sequence[Image.Image], side: int, grain: int, steps: int, clock: Clock
) -> Latent:
    small, large = painter.sizes[:2]
    embedding, advance = embed(painter, images), clock.during("inverting")
    noise, detail = [], []
    for rows in _few(len(images)):
        low = _seen(painter, images[rows], small)
        drawing, levels = _drawing(painter, embedding[rows]), _drawing_levels(painter, steps)
        noise.append(_to_noise(drawing, low, levels, _grain(painter, grain, small), advance))
        if side != small:
            whole = _seen(painter, images[rows], large)
            enlarging, levels = _enlarging(painter, eight_bit(low)), _enlarging_levels(painter)
            detail.append(_to_noise(enlarging, whole, levels, _grain(painter, grain, large), advance))
    return Latent(
        embedding=embedding,
        noise=torch.cat(noise),
        detail=torch.cat(detail) if detail else None,
        grain=grain,
        steps=steps,
    )


def _render(painter: Dalle2, latent: Latent, side: int, clock: Clock) -> list[Image.Image]:
    small, large = painter.sizes[:2]
    finished = []
    for rows in _few(len(latent)):
        pictures = _from_noise(
            _drawing(painter, latent.embedding[rows]),
            latent.noise[rows],
            _drawing_levels(painter, latent.steps),
            _grain(painter, latent.grain, small),
            clock.during("drawing"),
        )
        if side != small:
            assert latent.detail is not None
            pictures = _from_noise(
                _enlarging(painter, eight_bit(pictures)),
                latent.detail[rows],
                _enlarging_levels(painter),
                _grain(painter, latent.grain, large),
                clock.during("enlarging"),
            )
        finished.append(pictures)
    return _delivered(painter, torch.cat(finished), [latent.grain] * len(latent), side, clock)


def _painted(
    painter: Dalle2,
    embedding: Float[Tensor, "b d"],
    x_T: Float[Tensor, "b 3 s s"],
    levels: Schedule,
    seeds: Sequence[int],
    side: int,
    clock: Clock,
    *,
    eta: float = 0.0,
) -> list[Image.Image]:
    """Pictures of z_i from x_T by DDIM on `levels`, enlarged as paintings are; nothing is given back."""
    advance, finished = clock.during("drawing"), []
    for rows in _few(len(embedding)):
        x = x_T[rows]
        draws = Draws([mix(seed, "vary") for seed in seeds[rows]], device=painter.device)
        for step in ddim(_drawing(painter, embedding[rows]), x, levels, draws, eta=eta):
            x = step.x
            advance(len(x))
        finished.append(x.clamp(-1, 1))
    pictures = torch.cat(finished)
    if side != painter.sizes[0]:
        drawn = Drawn(commissions=tuple(Commission("", seed) for seed in seeds), pictures=pictures)
        settings = PaintSettings(upsampler_steps=UPSAMPLER_STEPS - 1)
        pictures = painter.enlarge(drawn, settings, advance=clock.during("enlarging")).pictures
    return _delivered(painter, pictures, seeds, side, clock)


def _delivered(
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


def _drawing(painter: Dalle2, embeddings: Float[Tensor, "b d"]) -> Denoiser:
    """The decoder, which is told what CLIP sees and no words."""
    decoder, rows = painter.decoder, len(embeddings)
    empty = clip_reader(painter.clip)(
        painter.tokenizer([""] * rows, painter.clip.config.text.context).to(painter.device)
    )
    picture = embeddings * decoder.config.embedding**0.5
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


def _drawing_levels(painter: Dalle2, steps: int) -> Schedule:
    return _levels(painter.decoder.config.diffusion, steps)


def _every_level(painter: Dalle2) -> Schedule:
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


def _side(painter: Dalle2, size: int | None) -> int:
    side = painter.sizes[1] if size is None else size
    checked_size(side, painter.sizes)
    return side


def _inverting(painter: Dalle2, side: int, steps: int) -> int:
    """How many steps a picture takes on its way back; each lies between two levels."""
    return steps - 1 + (UPSAMPLER_STEPS - 1 if side != painter.sizes[0] else 0)


def _rendering(painter: Dalle2, side: int, steps: int) -> int:
    """How many steps a picture of this size takes on its way from noise."""
    second = PaintSettings().upsampler_1024_steps
    return sum((steps - 1, UPSAMPLER_STEPS - 1, second)[: painter.sizes.index(side) + 1])


def _few(rows: int) -> Iterator[slice]:
    """As many rows at once as memory holds."""
    for start in range(0, rows, ENLARGED_AT_ONCE):
        yield slice(start, start + ENLARGED_AT_ONCE)
