"""Pictures changed through DALL-E 2's two latents: varied, blended, and edited with words.

Ramesh et al. 2022, section 3. Once a picture is a pair (z_i, x_T), as `limner.pipelines.inversion` finds it,
what is done with it is plain geometry.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.clip import unit
from limner.diffusion.samplers import ddim
from limner.diffusion.schedule import Schedule
from limner.draws import Draws, mix
from limner.pipelines import inversion
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.inversion import (
    Latent,
    OnTick,
    chosen_side,
    delivered,
    drawing,
    drawing_levels,
    embed,
    every_level,
    few,
    inverted,
    inverting,
    rendered,
    rendering,
)
from limner.pipelines.progress import Clock
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
    checked_whole,
)
from limner.pipelines.stages import Drawn
from limner.pipelines.words import checked_words

# Numbers of principal components that the paper paints from, besides all.
PROBED = (20, 30, 40, 80, 120, 160, 200, 320)


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
    side = chosen_side(painter, size)
    deep = side if strength == 0 else painter.sizes[0]
    clock = Clock(
        inverting(painter, deep, inversion.STEPS) + count * rendering(painter, side, inversion.STEPS), on_tick
    )
    latent = inverted(painter, [image], deep, 0, inversion.STEPS, clock).of(count)
    if strength == 0:
        return rendered(painter, latent, side, clock)
    seeds = [seed + number for number in range(count)]
    levels = drawing_levels(painter, inversion.STEPS - 1)
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
    side = chosen_side(painter, size)
    shares = torch.linspace(0, 1, steps, device=painter.device)
    clock = Clock(
        (2 * inverting(painter, side, inversion.STEPS) if noise == "inverted" else 0)
        + steps * rendering(painter, side, inversion.STEPS),
        on_tick,
    )
    if noise == "shared":
        one, other = embed(painter, [first, last]).split(1)
        start = Draws([mix(seed, "decoder")], device=painter.device).normal(3, *2 * painter.sizes[:1])
        x_T = repeat(start, "1 c h w -> n c h w", n=steps)
        return _painted(
            painter, slerp(one, other, shares), x_T, every_level(painter), [seed] * steps, side, clock
        )
    ends = inverted(painter, [first, last], side, 0, inversion.STEPS, clock)
    way = Latent(
        embedding=slerp(ends.embedding[:1], ends.embedding[1:], shares),
        noise=slerp(ends.noise[:1], ends.noise[1:], shares),
        detail=None if ends.detail is None else slerp(ends.detail[:1], ends.detail[1:], shares),
        grain=ends.grain,
        steps=ends.steps,
    )
    return rendered(painter, way, side, clock)


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
    side = chosen_side(painter, size)
    direction = direction_of(painter, target, source)
    shares = strength * torch.arange(1, steps + 1, device=painter.device) / steps
    clock = Clock(
        inverting(painter, side, inversion.STEPS) + steps * rendering(painter, side, inversion.STEPS), on_tick
    )
    latent = inverted(painter, [image], side, 0, inversion.STEPS, clock)
    # As long as the picture's own, where that is not 1.
    turned = slerp(latent.embedding, direction * latent.embedding.norm(dim=-1, keepdim=True), shares)
    return rendered(painter, replace(latent.of(steps), embedding=turned), side, clock)


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
    side, most = chosen_side(painter, size), painter.clip.config.embedding
    asked = probed(most) if dimensions is None else list(dimensions)
    checked_dimensions(asked)
    for number in asked:
        checked_whole("dimensions", number, 1, most)
    clock = Clock(len(asked) * rendering(painter, side, inversion.STEPS), on_tick)
    z = painter.prior_autoregressive.pca.reduced(
        embed(painter, [image]), torch.tensor(asked, device=painter.device)
    )
    start = Draws([mix(seed, "decoder")], device=painter.device).normal(3, *2 * painter.sizes[:1])
    x_T = repeat(start, "1 c h w -> n c h w", n=len(asked))
    pictures = _painted(
        painter, rearrange(z, "n 1 d -> n d"), x_T, every_level(painter), [seed] * len(asked), side, clock
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
    for rows in few(len(embedding)):
        x = x_T[rows]
        draws = Draws([mix(seed, "vary") for seed in seeds[rows]], device=painter.device)
        for step in ddim(drawing(painter, embedding[rows]), x, levels, draws, eta=eta):
            x = step.x
            advance(len(x))
        finished.append(x.clamp(-1, 1))
    pictures = torch.cat(finished)
    if side != painter.sizes[0]:
        drawn = Drawn(commissions=tuple(Commission("", seed) for seed in seeds), pictures=pictures)
        settings = PaintSettings(upsampler_steps=inversion.UPSAMPLER_STEPS - 1)
        pictures = painter.enlarge(drawn, settings, advance=clock.during("enlarging")).pictures
    return delivered(painter, pictures, seeds, side, clock)
