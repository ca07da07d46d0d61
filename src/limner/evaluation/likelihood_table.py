"""One set of held-out pictures, four ways to say how likely they are, in bits per dimension.

The VAE's evidence lower bound, Glow's exact density, diffusion's variational bound and the density of its
flow; beside them two coders that everybody has, and the seconds that a new picture takes.
"""

import dataclasses
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from limner.data.splits import concept
from limner.diffusion.guidance import clipped
from limner.diffusion.likelihood import bound, flow_bits
from limner.diffusion.process import Denoised, Denoiser, denoiser
from limner.draws import Draws
from limner.errors import LimnerError
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.reconstructions import held_out
from limner.evaluation.retrieval import styled
from limner.evaluation.table import replaced
from limner.evaluation.trials import table
from limner.glide import read_ids
from limner.glow import Glow
from limner.glow.objective import bits_per_dimension as glow_bits_per_dimension
from limner.pipelines.settings import GlideSettings, Sampler
from limner.pipelines.stages import to_images
from limner.vae import Vae, kl_to_normal
from limner.vae.objective import bits_per_dimension, squared_error

if TYPE_CHECKING:
    from limner.pipelines import Generator, Glide

NAME = "likelihood"
PICTURES = 16
# Draws that the VAE's and Glow's expectations are taken over; diffusion's are over its levels.
REPEATS = 8
TOLERANCE = 1e-3
# The variance of a network that has learned none: β.
FRACTION = 1.0
# Pictures that are sampled at once when it is timed.
TIMED = 4
HEADER = ("model", "bits per dimension", "what it is", "seconds a new picture", "evaluations")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model's bits per dimension, what kind of figure that is, and what sampling takes."""

    model: str
    bits: Estimate
    kind: str
    seconds: float | None
    evaluations: int | None


def run(generators: Sequence["Generator"], painter: "Glide", data: Path, out: Path, *, seed: int = 0) -> Path:
    """Measure on up to 16 pictures of concepts held out of `data`; `out`/likelihood.md, and .json.

    `generators`: the VAE and Glow. Raises LimnerError for models of different resolutions, which have no bits
    to compare, and where nothing is held out.
    """
    side = painter.sizes[0]
    for generator in generators:
        theirs = generator.network.config.resolution if isinstance(generator.network, Vae | Glow) else None
        if theirs != side:
            raise LimnerError(
                f"{generator.name} is of {theirs} pixels and GLIDE's base of {side}: give weights of one size"
            )
    gallery = held_out(data, side)
    spaced = range(0, len(gallery), max(1, -(-len(gallery) // PICTURES)))
    rows = list(spaced)[:PICTURES]
    pictures = gallery.composited(rows, [0] * len(rows)).to(painter.device)
    groups = [concept(str(gallery.records[row].facts["hexcode"])) for row in rows]
    captions = [styled(gallery, row) for row in rows]

    def estimate(bits: Float[Tensor, "n"]) -> Estimate:
        return bootstrap(bits.double().tolist(), groups, seed=seed)

    found = [
        Row(model=name, bits=estimate(coder), kind="lossless file", seconds=None, evaluations=None)
        for name, coder in (("PNG", coded(pictures, "PNG")), ("WebP", coded(pictures, "WEBP")))
    ]

    def draws() -> Draws:
        """The same noise for every row, whatever was measured before."""
        return Draws.for_step(seed, 0, range(len(pictures)), device=painter.device)

    fresh = Draws.for_step(seed, 1, range(TIMED), device=painter.device)
    for generator in generators:
        network = generator.network
        if isinstance(network, Vae):
            bits, kind = vae_bits(network, pictures, draws()), "bound (ELBO)"
        else:
            assert isinstance(network, Glow)
            bits, kind = glow_bits(network, pictures, draws()), "exact density"
        # mypy cannot infer a lambda whose argument has a default.
        took = seconds(lambda each=generator: each.sample(fresh).cpu()) / TIMED  # type: ignore[misc]
        found.append(Row(model=generator.name, bits=estimate(bits), kind=kind, seconds=took, evaluations=1))
    levels = painter.base.config.diffusion.levels()
    default = GlideSettings()
    timed = {
        "bound": paint_seconds(painter, "ancestral", len(levels)),
        "flow": paint_seconds(painter, default.sampler, default.steps),
    }
    for words, texts in (("with captions", captions), ("without", [""] * len(captions))):
        total = bound(
            clipped(network_of(painter, texts), 1.0), pictures, levels, draws(), fraction=FRACTION
        ).total
        found.append(
            Row(
                model=f"diffusion {words}",
                bits=estimate(total),
                kind="bound (variational)",
                seconds=timed["bound"],
                evaluations=len(levels),
            )
        )
        denoise = Counted(network_of(painter, texts))
        bits = flow_bits(denoise, pictures, levels, draws(), tolerance=TOLERANCE)
        found.append(
            Row(
                model=f"its flow {words}",
                bits=estimate(bits),
                kind=f"density (RK45, tolerance {TOLERANCE:g}: {denoise.calls} evaluations)",
                seconds=timed["flow"],
                evaluations=default.steps,
            )
        )
    said = text(found, painter, generators, pictures=len(pictures), seed=seed)
    Console().print(Markdown(said))
    weights = {each.name: each.digest for each in generators} | {"glide": painter.digest}
    kept = {"seed": seed, "weights": weights, "rows": [dataclasses.asdict(row) for row in found]}
    replaced(out / f"{NAME}.json", (json.dumps(kept, indent=2) + "\n").encode())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


@torch.no_grad()
def vae_bits(vae: Vae, pictures: Float[Tensor, "n 3 s s"], draws: Draws) -> Float[Tensor, "n"]:
    """Minus the evidence lower bound, the mean of several draws of z."""
    dimensions, sigma = pictures[0].numel(), vae.config.sigma
    total = torch.zeros(len(pictures), device=pictures.device)
    for _ in range(REPEATS):
        output = vae(pictures, draws.normal(vae.config.latent))
        nats = squared_error(output.pictures, pictures) / (2 * sigma**2)
        nats = nats + kl_to_normal(output.posterior).sum(dim=1)
        total += bits_per_dimension(nats, dimensions=dimensions, sigma=sigma)
    return (total / REPEATS).cpu()


@torch.no_grad()
def glow_bits(glow: Glow, pictures: Float[Tensor, "n 3 s s"], draws: Draws) -> Float[Tensor, "n"]:
    """Minus the log-likelihood, the mean of several ways to spread values over their bins.

    Raises ValueError for a Glow of fewer bits than pictures have: its figure is of other pictures.
    """
    if glow.config.bits != 8:
        raise ValueError(f"glow has {glow.config.bits} bits, and pictures 8: give one that has as many")
    dimensions = pictures[0].numel()
    total = torch.zeros(len(pictures), device=pictures.device)
    for _ in range(REPEATS):
        encoded = glow(glow.dequantised(pictures, draws))
        total += glow_bits_per_dimension(encoded.log_density, dimensions=dimensions, bits=8)
    return (total / REPEATS).cpu()


def network_of(painter: "Glide", captions: Sequence[str]) -> Denoiser:
    """GLIDE's base as a denoiser of one picture for each caption; "" is none."""
    base = painter.base
    ids = painter.base_tokenizer(captions, base.config.text.context).to(painter.device)
    with torch.no_grad():
        caption = base.read(*read_ids(ids))
    spec = base.config.diffusion
    return denoiser(
        lambda x, t: base.predict(x, t, caption=caption),
        spec.levels(),
        spec.prediction,
        learned_variance=spec.learned_variance,
    )


class Counted:
    """A denoiser that knows how often it was asked."""

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = denoise
        self.calls = 0

    def __call__(self, x_t: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"]) -> Denoised:
        """The guess."""
        self.calls += 1
        return self.denoise(x_t, t)


def coded(pictures: Float[Tensor, "n 3 s s"], kind: str) -> Float[Tensor, "n"]:
    """Bits per dimension of a lossless file of each picture, header and all."""
    sizes = []
    for image in to_images(pictures):
        packed = io.BytesIO()
        options = {"optimize": True} if kind == "PNG" else {"lossless": True, "quality": 100, "method": 6}
        image.save(packed, format=kind, **options)
        sizes.append(8 * len(packed.getvalue()) / (3 * image.width * image.height))
    return torch.tensor(sizes)


def seconds(work: Callable[[], object]) -> float:
    """What `work` takes, the shorter of two times."""
    took = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def paint_seconds(painter: "Glide", sampler: Sampler, steps: int) -> float:
    """A picture of the base's size, unguided."""
    settings = GlideSettings(sampler=sampler, steps=steps, guidance=1.0)
    painter.paint("a red apple", size=painter.sizes[0], settings=GlideSettings(steps=2))  # to warm up
    began = time.perf_counter()
    painter.paint("a red apple", count=TIMED, size=painter.sizes[0], settings=settings)
    return (time.perf_counter() - began) / TIMED


def text(
    found: Sequence[Row],
    painter: "Glide",
    generators: Sequence["Generator"],
    *,
    pictures: int,
    seed: int,
) -> str:
    """The table and what it means, as Markdown."""
    rows = [
        (
            row.model,
            row.bits.decimal(),
            row.kind,
            "" if row.seconds is None else f"{row.seconds:.3g}",
            "" if row.evaluations is None else str(row.evaluations),
        )
        for row in found
    ]
    weights = ", ".join(f"{each.name} {each.digest}" for each in generators)
    return (
        f"{table(HEADER, rows)}\n\nOf {pictures} drawings of concepts that training has not seen, "
        f"{painter.sizes[0]} pixels a side, on white, seed {seed}; weights: {weights}, GLIDE's base of "
        f"{painter.digest}. 8 bits per dimension are what knowing nothing takes. The VAE's figure and "
        "diffusion's are upper bounds, Glow's and the flow's are exact but for spreading values over their "
        "bins and, of the flow, Hutchinson's estimate, the solver's error, and that pictures are taken for "
        "states at the cleanest level. In brackets: 95 % intervals, "
        f"by the bootstrap over concepts. Seconds: {TIMED} pictures at once, on {torch.get_num_threads()} "
        "threads; diffusion's bound belongs to its own 1000 ancestral steps, the flow is walked by the "
        "default sampler.\n"
    )
