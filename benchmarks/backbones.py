"""GLIDE by a U-Net and by a transformer, for equal compute: which learns more of it?

    python benchmarks/backbones.py --data data/emoji --out runs/backbones    # some 20 minutes of a core
    python benchmarks/backbones.py --data data/emoji --out runs/backbones --resume

Both read the same captions by the same encoder, see the same batches in the same order, and are trained from
nothing by AdamW, each for as many steps as its operations allow (PyTorch counts them). Then both
are asked, on drawings of concepts held out and of trained ones, how far off their guess is at several noise
levels, with the caption and without.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from limner import checkpoint
from limner.data.loader import open_gallery
from limner.diffusion.process import denoiser, q_sample
from limner.draws import Draws
from limner.evaluation.retrieval import styled
from limner.glide import Caption, Glide, GlideConfig, read_ids
from limner.layers.patch_transformer import PatchTransformerConfig
from limner.recipes import glide_base
from limner.recipes.glide_base import GlideRecipe
from limner.recipes.words import VOCABULARY
from limner.text import CaptionTokenizer

LEVELS = (200, 500, 800, 950)
PICTURES = 64
# Forward and backward together cost three times forward.
TRAINING = 3


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Train both and compare."""

    data: Path
    """A folder made by `limner data fetch emoji`."""
    out: Path
    """Where both runs go."""
    flops: float = 8e13
    """Floating-point operations that each may spend; a multiplication and an addition are two."""
    only: Literal["unet", "transformer"] | None = None
    """Train this one alone, for two processes on two cores."""
    compile: bool = False
    """Have PyTorch compile both."""
    resume: bool = False
    """Go on with what is in OUT."""


def recipes() -> dict[str, GlideRecipe]:
    """The small base, and the same with a transformer of about as many operations a picture."""
    unet = glide_base.small()
    backbone = PatchTransformerConfig(
        resolution=unet.model.resolution,
        in_channels=3,
        out_channels=3,
        patch=4,
        width=160,
        layers=7,
        heads=5,
        context_width=unet.model.text.width,
    )
    text = replace(unet.model.text, condition_width=backbone.embedding_width)
    return {
        "unet": unet,
        "transformer": replace(unet, model=replace(unet.model, text=text, backbone=backbone)),
    }


def operations(config: GlideConfig) -> float:
    """Floating-point operations of one picture, forward."""
    with torch.device("meta"):
        model = Glide(config)
        side = config.resolution
        x, t = torch.zeros(1, 3, side, side), torch.zeros(1)
        ids = torch.zeros(1, config.text.context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(x, t, ids=ids, mask=ids == 0)
    return float(counter.get_total_flops())


def trained(asked: Benchmark, name: str, recipe: GlideRecipe) -> Path:
    """One of both, where it is not trained already; the folder of its weights."""
    done = asked.out / name / "paints" / "model"
    if not (done / checkpoint.CONFIG).exists():
        steps = int(asked.flops / (TRAINING * recipe.train.batch * operations(recipe.model)))
        training = replace(
            recipe.train,
            steps=steps,
            warmup=min(100, steps // 10),
            precision="bf16",
            rule="adamw",
            ema=0.99,
            sample_every=steps,
            compile=asked.compile,
        )
        glide_base.painting(
            replace(recipe, train=training),
            folders=[asked.data],
            share=None,
            out=asked.out / name,
            resume=asked.resume,
            device="cpu",
        )
    return done


@torch.no_grad()
def errors(folder: Path, data: Path, split: str) -> dict[str, list[float]]:
    """Mean squared error of x̂_0 at each of LEVELS, with captions and without."""
    config, state = checkpoint.load(folder, GlideConfig)
    model = Glide(config).eval()
    checkpoint.load_into(model, state)
    tokenizer = CaptionTokenizer.load(folder / VOCABULARY)
    gallery = open_gallery([data], size=config.resolution, splits=(split,))
    rows = list(range(0, len(gallery), max(1, len(gallery) // PICTURES)))[:PICTURES]
    pictures = gallery.composited(rows, [0] * len(rows))
    spec = config.diffusion
    levels = spec.levels()
    found: dict[str, list[float]] = {}
    captions = [styled(gallery, row) for row in rows]
    for name, texts in (("with", captions), ("without", [""] * len(rows))):
        caption = model.read(*read_ids(tokenizer(texts, config.text.context)))

        def network(x: Tensor, t: Tensor, of: Caption = caption) -> Tensor:
            return model.predict(x, t, caption=of)

        denoise = denoiser(
            network,
            levels,
            spec.prediction,
            learned_variance=spec.learned_variance,
        )
        found[name] = []
        for level in LEVELS:
            index = torch.full((len(rows),), level)
            noise = Draws.for_step(0, level, range(len(rows))).normal(*pictures.shape[1:])
            guess = denoise(q_sample(levels, pictures, index, noise), index.float()).x0
            found[name].append((guess - pictures).square().mean().item())
    return found


def main(asked: Benchmark) -> None:
    """Train, measure, print."""
    console = Console()
    both = recipes()
    table = Table(title=f"{asked.flops:.1e} operations of training each")
    for heading in ("", "parameters", "GFLOP a picture", "steps", "drawings", "captions"):
        table.add_column(heading)
    for level in LEVELS:
        table.add_column(f"error at t = {level}", justify="right")
    kept = {}
    for name, recipe in both.items():
        if asked.only not in (None, name):
            continue
        began = time.perf_counter()
        folder = trained(asked, name, recipe)
        seconds = time.perf_counter() - began
        with torch.device("meta"):
            parameters = sum(p.numel() for p in Glide(recipe.model).parameters())
        each = operations(recipe.model)
        steps = int(asked.flops / (TRAINING * recipe.train.batch * each))
        for split in ("train", "concept"):
            found = errors(folder, asked.data, split)
            kept[f"{name}, {split}"] = found
            for words, row in found.items():
                table.add_row(
                    name,
                    f"{parameters / 1e6:.1f} M",
                    f"{each / 1e9:.2f}",
                    str(steps),
                    {"train": "trained", "concept": "held out"}[split],
                    words,
                    *(f"{value:.4f}" for value in row),
                )
        console.print(f"{name}: {seconds:.0f} s")
    console.print(table)
    (asked.out / "backbones.json").write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
