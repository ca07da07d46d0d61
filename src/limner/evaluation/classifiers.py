"""Three ways to say what a picture and its caption are together, on pairs that training has not seen.

The sum of CLIP's two embeddings, compared with the labels' own; a shallow network on both; a transformer on
both rows of tokens. Where some captions fit and others miss by one word, each way is also asked which of two
captions of one picture fits, beside CLIP's plain cosine, and once more with another picture in its place:
what is right then, the captions alone have told.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from limner.clip import unit, zero_shot_of_pairs
from limner.clip.classifiers import pooled
from limner.clip.tower import Features
from limner.data.labels import Labelled, labelled
from limner.data.loader import open_gallery
from limner.errors import LimnerError
from limner.evaluation.intervals import Estimate, share
from limner.evaluation.table import replaced
from limner.evaluation.trials import table
from limner.pipelines.classifying import Classifying

NAME = "classifiers"
WAYS = ("mlp", "transformer")
SPLITS = ("test", "concept", "pair")
FITS = "fits"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One way: how many numbers it learned, how often it is right, and by label."""

    way: str
    parameters: int
    right: Estimate
    by_label: dict[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Chose:
    """One way: how often it takes the caption that fits for the likelier of two, by what ails the other."""

    way: str
    right: dict[str, Estimate]


def run(weights: Path, data: Path, out: Path, *, seed: int = 0, device: str = "cpu") -> Path:
    """Compare the classifiers in the folders mlp and transformer of `weights`; returns `out`/classifiers.md.

    Beside it .json. Raises LimnerError where they do not stand on one CLIP and know the same labels, or where
    `data` holds nothing out that is labelled.
    """
    heads = {way: Classifying.load(weights / way, device=device) for way in WAYS}
    first = heads[WAYS[0]]
    for way, head in heads.items():
        if (head.labels, head.clip_digest) != (first.labels, first.clip_digest):
            raise LimnerError(
                f"{weights / way} and {weights / WAYS[0]} differ in their labels or their CLIP: train both "
                "with one --data and one --clip"
            )
    gallery = open_gallery([data], size=first.clip.config.vision.resolution, splits=SPLITS)
    pairs = labelled(gallery.records)
    if unknown := {pair.label for pair in pairs} - set(first.labels):
        raise LimnerError(f"{data} has labels that training had not ({', '.join(sorted(unknown))})")
    pictures = first.looked_at(gallery.composited(range(len(gallery)), [0] * len(gallery)))
    ids = first.ids([pair.caption for pair in pairs])
    read = first.read(ids)
    own = torch.tensor([pair.picture for pair in pairs])
    # Far away, for neighbours in a folder may show the same.
    other = (own + len(gallery) // 2) % len(gallery)

    both = pooled(rows(pictures, own), read)
    names = unit(first.read(first.ids(first.labels)).pooled)
    answers = {"zero-shot": zero_shot_of_pairs(both, names).float().cpu()}
    answers |= {way: head.logits(rows(pictures, own), read, ids) for way, head in heads.items()}
    learned = {way: sum(p.numel() for p in head.network.parameters()) for way, head in heads.items()}
    answered = [
        judged(way, logits, pairs, first.labels, learned.get(way, 0), seed=seed)
        for way, logits in answers.items()
    ]
    chose: list[Chose] = []
    if FITS in first.labels:
        column = first.labels.index(FITS)
        scores = {"cosine": (both.pictures * both.captions).sum(dim=1).float().cpu()}
        scores |= {way: logits.log_softmax(dim=1)[:, column] for way, logits in answers.items()}
        for way, head in heads.items():
            blind = head.logits(rows(pictures, other), read, ids)
            scores[f"{way}, of another picture"] = blind.log_softmax(dim=1)[:, column]
        chose = [Chose(way=way, right=told_apart(score, pairs, seed=seed)) for way, score in scores.items()]
    commonest = max(Counter(pair.label for pair in pairs).values()) / len(pairs)
    said = text(answered, chose, clip=first.clip_digest, commonest=commonest, pictures=len(gallery))
    Console().print(Markdown(said))
    found = {
        "clip": first.clip_digest,
        "seed": seed,
        "commonest": commonest,
        "answered": [dataclasses.asdict(one) for one in answered],
        "chose": [dataclasses.asdict(one) for one in chose],
    }
    replaced(out / f"{NAME}.json", (json.dumps(found, indent=2) + "\n").encode())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


def rows(features: Features, chosen: Tensor) -> Features:
    """Some rows of features, in this order."""
    place = chosen.to(features.pooled.device)
    return Features(features.pooled[place], features.tokens[place])


def judged(
    way: str,
    logits: Float[Tensor, "b n"],
    pairs: Sequence[Labelled],
    labels: Sequence[str],
    parameters: int,
    *,
    seed: int,
) -> Answered:
    """How often the likeliest label is the right one; for intervals pairs of one picture stay together."""
    right = [
        labels[answer] == pair.label
        for answer, pair in zip(logits.argmax(dim=1).tolist(), pairs, strict=True)
    ]
    groups = [str(pair.picture) for pair in pairs]

    def among(label: str) -> Estimate:
        mine = [row for row, pair in enumerate(pairs) if pair.label == label]
        return share([right[row] for row in mine], [groups[row] for row in mine], seed=seed)

    present = [label for label in labels if any(pair.label == label for pair in pairs)]
    return Answered(
        way=way,
        parameters=parameters,
        right=share(right, groups, seed=seed),
        by_label={label: among(label) for label in present},
    )


def told_apart(scores: Float[Tensor, "b"], pairs: Sequence[Labelled], *, seed: int) -> dict[str, Estimate]:
    """By error: how often the caption that fits scores above the one that does not, of the same picture.

    A tie counts against the way, or one that answers everything alike would always be right.
    """
    fitting = {
        pair.picture: float(score) for pair, score in zip(pairs, scores, strict=True) if pair.label == FITS
    }
    hits: dict[str, list[bool]] = {}
    groups: dict[str, list[str]] = {}
    for pair, score in zip(pairs, scores, strict=True):
        if pair.label != FITS and pair.picture in fitting:
            hits.setdefault(pair.label, []).append(fitting[pair.picture] > float(score))
            groups.setdefault(pair.label, []).append(str(pair.picture))
    return {label: share(hits[label], groups[label], seed=seed) for label in sorted(hits)}


def text(
    answered: Sequence[Answered], chose: Sequence[Chose], *, clip: str, commonest: float, pictures: int
) -> str:
    """Both tables and what they mean, as Markdown."""
    labels = list(answered[0].by_label)
    first = table(
        ("way", "parameters", "right", *labels),
        [
            (
                one.way,
                f"{one.parameters:,}",
                one.right.percent(),
                *(one.by_label[label].percent() for label in labels),
            )
            for one in answered
        ],
    )
    notes = (
        f"CLIP {clip}, frozen; {answered[0].right.total} pairs of {pictures} pictures that training has not "
        f"seen. Always the commonest label: right {100 * commonest:.1f} %. In brackets: 95 % intervals, "
        "pairs of one picture kept together."
    )
    if not chose:
        return f"{first}\n\n{notes}\n"
    errors = list(chose[0].right)
    second = table(
        ("which of two captions fits", *(f"{label} ({chose[0].right[label].total})" for label in errors)),
        [(one.way, *(one.right[label].percent() for label in errors)) for one in chose],
    )
    return f"{first}\n\n{second}\n\n{notes} Of two captions guessing takes the right one half of the time.\n"
