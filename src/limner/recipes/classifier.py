"""What a picture and its caption are together: a classifier on a CLIP that stays as it is.

Either both embeddings into a shallow network (`mlp`) or both rows of tokens into a small transformer
(`transformer`). CLIP reads every picture and every caption once, and what it makes of them is kept in OUT, in
half precision: for the transformer 25 kB a picture and 12 kB a caption with the CLIP that ships.

    limner data pairs --scenes data/scenes --out data/pairs
    limner train classifier --kind transformer --size small --data data/pairs --clip runs/small/clip/model \
        --out runs/classifiers/transformer
"""

import hashlib
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limner import checkpoint
from limner.clip import Clip, ClipConfig, spoken, trimmed, unit
from limner.clip.classifiers import (
    ClassifierConfig,
    MlpConfig,
    Pooled,
    TokenConfig,
    Tokens,
    classifier,
    token_config,
)
from limner.clip.objective import LabelledPairs, classifying_objective
from limner.clip.tower import Features
from limner.data.labels import labelled
from limner.data.loader import open_gallery
from limner.distributed import rank
from limner.draws import mix
from limner.progress import watched
from limner.recipes.begin import begun, same_source
from limner.recipes.embeddings import load_clip
from limner.recipes.pictures import fingerprint
from limner.text import ClipTokenizer
from limner.training import TrainConfig, train

CHUNK = 64

Kind = Literal["mlp", "transformer"]


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """`hidden` and `dropout` are of the shallow network, `width`, `layers` and `heads` of the transformer.

    Both learn by the same steps and rate. What they read has the widths of the CLIP that is given.
    """

    hidden: int
    dropout: float
    width: int
    layers: int
    heads: int
    train: TrainConfig


def toy() -> ClassifierRecipe:
    """Some seconds of one core for the shallow network, most of a minute for the transformer.

    Of training pairs of 800 scenes of the sample, on the CLIP that ships, 0.65 and 0.47 get the right label;
    the commonest is right of 0.36.
    """
    return ClassifierRecipe(
        hidden=128, dropout=0.1, width=64, layers=2, heads=4, train=training(steps=300, batch=64, rate=2e-3)
    )


def small() -> ClassifierRecipe:
    """What the table in docs/clip.md is of: about ten minutes of one core for the transformer."""
    return ClassifierRecipe(
        hidden=512, dropout=0.3, width=96, layers=3, heads=4, train=training(steps=1500, batch=64, rate=2e-3)
    )


def paper() -> ClassifierRecipe:
    """For the published ViT-L/14: six layers of 768, the depth and width of ALBEF's fusion (Li et al. 2021).

    No paper trains just this; the schedule is ours.
    """
    return ClassifierRecipe(
        hidden=2048,
        dropout=0.3,
        width=768,
        layers=6,
        heads=12,
        train=training(steps=100_000, batch=512, rate=1e-4),
    )


def training(*, steps: int, batch: int, rate: float) -> TrainConfig:
    """A tenth of the steps warm up."""
    return TrainConfig(
        steps=steps,
        batch=batch,
        learning_rate=rate,
        warmup=steps // 10,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.1,
        clip_norm=10.0,
        ema=0.99,
        precision="fp32",
        seed=4,
        save_every=max(1, steps // 4),
        sample_every=steps,
        rule="muon",
    )


@dataclass(frozen=True)
class PairBatches:
    """(step, rows) → labelled pairs by chance, of rows that CLIP has read.

    `picture`, `caption`, `label`: of each pair, where it stands in `pictures`, where in `captions` and `ids`,
    and the number of its label.
    """

    pictures: NDArray[np.float16]
    captions: NDArray[np.float16]
    ids: Tensor
    picture: NDArray[np.int64]
    caption: NDArray[np.int64]
    label: NDArray[np.int64]
    kind: Kind
    seed: int

    def __call__(self, step: int, rows: range) -> LabelledPairs:
        """These rows of the batch at `step`."""
        drawn = [
            random.Random(mix("classifier", self.seed, step, row)).randrange(len(self.label)) for row in rows
        ]
        pictures = torch.from_numpy(self.pictures[self.picture[drawn]]).float()
        captions = torch.from_numpy(self.captions[self.caption[drawn]]).float()
        labels = torch.from_numpy(self.label[drawn])
        if self.kind == "mlp":
            return LabelledPairs(Pooled(pictures, captions), labels)
        said = spoken(trimmed(self.ids[self.caption[drawn]]))
        return LabelledPairs(Tokens(pictures, captions[:, : said.shape[1]], said), labels)


def run(
    recipe: ClassifierRecipe,
    *,
    folders: Sequence[Path],
    out: Path,
    resume: bool,
    device: str | None,
    clip: Path,
    kind: Kind,
    init_from: Path | None = None,
) -> Path:
    """Train on the labelled pairs of `folders`; `out` gets `model`, and beside it `clip`, which it stands on.

    Raises LimnerError where fewer than two labels are given, ValueError for another CLIP than the run that
    is to go on began with.
    """
    reader = load_clip(clip, device)
    gallery = open_gallery(folders, size=reader.config.vision.resolution)
    pairs = labelled(gallery.records)
    labels = sorted({pair.label for pair in pairs})
    config = ClassifierConfig(labels=tuple(labels), head=head_for(recipe, reader.config, kind))
    torch.manual_seed(recipe.train.seed)
    model = begun(classifier(config), config, init_from)
    same_source("clip", clip, out=out, resume=resume)

    said = list(dict.fromkeys(pair.caption for pair in pairs))
    ids = trimmed(ClipTokenizer(reader.config.text.vocabulary)(said, reader.config.text.context))
    weights = checkpoint.digest(clip)
    heard = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def seen(rows: list[int]) -> Features:
        return reader.encode_image(gallery.composited(rows, [0] * len(rows)).to(place(reader)))

    def read(rows: list[int]) -> Features:
        return reader.encode_text(ids[rows].to(place(reader)))

    number = {caption: row for row, caption in enumerate(said)}
    batches = PairBatches(
        pictures=kept(
            out / f"{kind}_pictures_{weights}_{fingerprint(gallery)}.npy", seen, len(gallery), kind
        ),
        captions=kept(out / f"{kind}_captions_{weights}_{heard}.npy", read, len(said), kind),
        ids=ids,
        picture=np.array([pair.picture for pair in pairs]),
        caption=np.array([number[pair.caption] for pair in pairs]),
        label=np.array([labels.index(pair.label) for pair in pairs]),
        kind=kind,
        seed=recipe.train.seed,
    )
    train(
        model,
        classifying_objective(),
        batches,
        name=f"classifier, {kind}",
        model_config=config,
        # Muon moves blocks of a transformer, and the shallow network has none.
        config=replace(recipe.train, rule="adamw") if kind == "mlp" else recipe.train,
        out=out,
        resume=resume,
        device=device,
    )
    if rank() == 0:
        stands_on, state = checkpoint.load(clip, ClipConfig)
        checkpoint.save(out / "clip", state, stands_on)
    return out / "model"


def head_for(recipe: ClassifierRecipe, clip: ClipConfig, kind: Kind) -> MlpConfig | TokenConfig:
    """The recipe's head of a kind, for what this CLIP says."""
    if kind == "mlp":
        return MlpConfig(embedding=clip.embedding, hidden=recipe.hidden, dropout=recipe.dropout)
    return token_config(clip, width=recipe.width, layers=recipe.layers, heads=recipe.heads)


def place(clip: Clip) -> torch.device:
    """Where a CLIP computes."""
    return clip.log_scale.device


@torch.inference_mode()
def kept(path: Path, read: Callable[[list[int]], Features], total: int, kind: Kind) -> NDArray[np.float16]:
    """What a head of this kind takes of `total` rows, a chunk at a time, computed once and kept in `path`."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")  # several processes may come here at once
        made = None
        for start in watched(range(0, total, CHUNK), "reading with CLIP"):
            rows = list(range(start, min(start + CHUNK, total)))
            features = read(rows)
            part = unit(features.pooled) if kind == "mlp" else features.tokens
            if made is None:
                shape = (total, *part.shape[1:])
                made = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
            made[rows] = part.half().cpu().numpy()
        assert made is not None
        made.flush()
        del made
        os.replace(partial, path)
    whole: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return whole
