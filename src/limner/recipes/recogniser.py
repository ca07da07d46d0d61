"""The judge of paintings: which of 300 names does a picture show?

Eyes: EfficientNet-Lite0, frozen (Tan & Le 2019). Only the answers are learned, from sets of drawings that no
painter has seen, each changed a few times into what a painter might have made of it. The result is for
measuring and does not ship: two of its sets ask that what is made of them be shared alike.

    limner data fetch judge --out data/judge
    limner train recogniser --size small --data data/judge --out runs/judge
"""

import hashlib
import json
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limner.data.loader import Gallery, open_gallery
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.evaluation.augment import augmented
from limner.evaluation.features import WIDTH, Trunk, features, load_trunk
from limner.evaluation.names import BENCHMARK, plain
from limner.evaluation.recognition import NamedFeatures, Recogniser, RecogniserConfig, naming_objective
from limner.training import TrainConfig, train

EVERY_SPLIT = ("train", "concept", "pair")
CHUNK = 32


@dataclass(frozen=True, kw_only=True)
class RecogniserRecipe:
    """How to train a judge.

    `hexcodes`: whom to know, None for everything that `least` sets draw. `side`: pixels to look at.
    `copies`: changed versions of each drawing, looked at once and kept. `smoothing` of the targets.
    """

    hexcodes: tuple[str, ...] | None
    least: int
    side: int
    copies: int
    dropout: float
    smoothing: float
    train: TrainConfig


def toy() -> RecogniserRecipe:
    """Half a minute on two cores with the shipped sample's two judge sets; about a hundred names."""
    return RecogniserRecipe(
        hexcodes=None, least=1, side=96, copies=6, dropout=0.3, smoothing=0.1, train=training(steps=300)
    )


def small() -> RecogniserRecipe:
    """What the README's numbers are judged by: the benchmark's 300 names, some minutes on two cores."""
    return RecogniserRecipe(
        hexcodes=BENCHMARK, least=3, side=128, copies=8, dropout=0.5, smoothing=0.1, train=training(steps=800)
    )


def training(*, steps: int) -> TrainConfig:
    """A linear layer asks for little."""
    return TrainConfig(
        steps=steps,
        batch=256,
        learning_rate=2e-3,
        warmup=20,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.5,
        clip_norm=10.0,
        ema=0.98,
        precision="fp32",
        seed=3,
        save_every=steps,
        sample_every=steps,
    )


@dataclass(frozen=True)
class FeatureBatches:
    """(step, rows) → features of changed drawings, (copies, N, F), and their names' numbers, (N,)."""

    features: NDArray[np.float32]
    names: NDArray[np.int64]
    seed: int

    def __call__(self, step: int, rows: range) -> NamedFeatures:
        """A changed version of a drawing for each row, both by chance."""
        copies, total, _ = self.features.shape
        chosen = [random.Random(mix("recogniser", self.seed, step, row)) for row in rows]
        copy = [choose.randrange(copies) for choose in chosen]
        drawing = [choose.randrange(total) for choose in chosen]
        return NamedFeatures(
            torch.from_numpy(self.features[copy, drawing]), torch.from_numpy(self.names[drawing])
        )


def run(
    recipe: RecogniserRecipe, *, folders: Sequence[Path], out: Path, resume: bool, device: str | None
) -> Path:
    """Train on the judge's drawings, whatever their split, and return the folder of the finished model."""
    gallery = open_gallery(folders, size=recipe.side, splits=EVERY_SPLIT)
    hexcodes, rows = known(gallery, recipe)
    spoken = {str(gallery.records[row].facts["hexcode"]): gallery.records[row] for row in rows}
    config = RecogniserConfig(
        names=tuple(str(spoken[hexcode].facts["name"]) for hexcode in hexcodes),
        hexcodes=tuple(hexcodes),
        features=WIDTH,
        side=recipe.side,
        dropout=recipe.dropout,
    )
    kept = looked_at(gallery, rows, recipe, cache=out, device=device)
    number = {hexcode: i for i, hexcode in enumerate(hexcodes)}
    labels = np.array([number[str(gallery.records[row].facts["hexcode"])] for row in rows], np.int64)
    torch.manual_seed(recipe.train.seed)
    model = Recogniser(config)
    model.standardise(torch.from_numpy(kept.reshape(-1, WIDTH)))
    train(
        model,
        naming_objective(recipe.smoothing),
        FeatureBatches(kept, labels, recipe.train.seed),
        name="recogniser",
        model_config=config,
        config=recipe.train,
        out=out,
        resume=resume,
        device=device,
    )
    return out / "model"


def known(gallery: Gallery, recipe: RecogniserRecipe) -> tuple[list[str], list[int]]:
    """The hexcodes to know, in the recipe's order, and the gallery's drawings of them."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(gallery.records):
        if plain(record):
            rows[str(record.facts["hexcode"])].append(row)
    asked = recipe.hexcodes if recipe.hexcodes is not None else tuple(rows)
    hexcodes = [hexcode for hexcode in asked if len(rows[hexcode]) >= recipe.least]
    if len(hexcodes) < 2:
        raise LimnerError(
            "too few names to tell apart: give a folder that `limner data fetch judge` has made"
        )
    return hexcodes, [row for hexcode in hexcodes for row in rows[hexcode]]


def looked_at(
    gallery: Gallery, rows: Sequence[int], recipe: RecogniserRecipe, *, cache: Path, device: str | None
) -> NDArray[np.float32]:
    """Features (copies, N, F) of changed versions of the drawings `rows`; computed once, kept in `cache`."""
    listing = [[str(r.file), r.file.stat().st_mtime_ns] for r in (gallery.records[row] for row in rows)]
    described = json.dumps([listing, recipe.side, recipe.copies, recipe.train.seed])
    path = cache / f"features_{hashlib.sha256(described.encode()).hexdigest()[:16]}.npy"
    if path.exists():
        kept: NDArray[np.float32] = np.load(path)
        return kept
    trunk = load_trunk(device or "cpu")
    found = torch.cat([copy_of(gallery, rows, trunk, recipe, number) for number in range(recipe.copies)])
    kept = found.reshape(recipe.copies, len(rows), WIDTH).numpy()
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, kept)
    os.replace(partial, path)
    return kept


def copy_of(
    gallery: Gallery, rows: Sequence[int], trunk: Trunk, recipe: RecogniserRecipe, number: int
) -> Float[Tensor, "n f"]:
    """Features of the drawings, each changed by the chance of copy `number`."""
    starts = range(0, len(rows), CHUNK)
    changed = (
        augmented(
            torch.from_numpy(gallery.pixels[list(rows[start : start + CHUNK])]),
            Draws.for_step(recipe.train.seed, number, range(start, min(start + CHUNK, len(rows)))),
        )
        for start in starts
    )
    label = f"looking at drawings, {number + 1} of {recipe.copies} times"
    return features(trunk, changed, total=len(starts), side=recipe.side, label=label)
