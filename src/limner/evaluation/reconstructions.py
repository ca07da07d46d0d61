"""Autoencoders on pictures of things that training has not seen: what comes back, and what it takes.

Likeness by PSNR, SSIM and Fréchet distance; price in bits; the use made of the words. And does anybody still
recognise it? Two answer: the judge, where it knows the name; and the drawings of other styles, of which the
most alike must be of the same thing, so that flags can be asked for as well. Both are asked about the
originals at the same size too, and what counts is the ratio.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from limner.data.folder import Record
from limner.data.loader import Gallery, open_gallery
from limner.data.splits import concept, fraction
from limner.errors import LimnerError
from limner.evaluation.features import BATCH, SIDE, features
from limner.evaluation.frechet import frechet_distance, gaussian
from limner.evaluation.intervals import Estimate, bootstrap, ratio, share
from limner.evaluation.recognition import Judge, load_judge
from limner.evaluation.reconstruction import WordUse, psnr, ssim, word_use
from limner.evaluation.reconstruction_table import (
    GROUPS,
    LOST,
    Known,
    Lost,
    Measured,
    Report,
    contact_sheet,
    failures,
    show,
    write,
)
from limner.progress import watched

if TYPE_CHECKING:
    from limner.pipelines import Autoencoder

CHUNK = 32
# What a picture counts that comes back without any error, in dB.
PERFECT = 100.0
MEAN = "mean picture"


@dataclass(frozen=True, kw_only=True)
class Originals:
    """Held-out pictures (n, 3, s, s) in [-1, 1], and features of them (n, 1280): the trunk's, the judge's."""

    records: tuple[Record, ...]
    pictures: Tensor
    features: Tensor
    judged: Tensor

    @property
    def concepts(self) -> list[str]:
        """What each is of, whoever draws it: rows of one concept stay together in intervals."""
        return [concept(str(record.facts["hexcode"])) for record in self.records]


@dataclass(frozen=True, kw_only=True)
class Returned:
    """What came back of the originals, the bits (n,) that each took, and the use of each grid's words."""

    pictures: Tensor
    bits: Tensor
    words: dict[str, WordUse]


def run(
    models: Sequence["Autoencoder"],
    data: Path,
    judge: Path,
    out: Path,
    *,
    absent: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Measure `models` on what `data` holds out; `out`/reconstructions.md, which it returns, .json and
    .png, and _failures.png, what is not recognised any more.

    `judge`: a recogniser's run. `absent`: names of models that the report shall say were not there. Raises
    LimnerError where nothing is held out, the judge is missing, or nothing can be written.
    """
    if not models:
        raise ValueError("models is empty: give at least one autoencoder")
    referee = load_judge(judge, device=device)
    rows: list[Measured] = []
    panels: dict[str, Tensor] = {}
    for size in sorted({model.resolution for model in models}):
        originals = opened(data, size, referee)
        panels["originals"] = originals.pictures
        for model in (model for model in models if model.resolution == size):
            back = returned(model, originals.pictures)
            rows.append(measured(referee, originals, back, of=(model.name, model.digest), seed=seed))
            panels[model.name] = back.pictures
        rows.append(measured(referee, originals, mean_picture(originals), of=(MEAN, ""), seed=seed))
    report = Report(
        rows=rows,
        pictures=len(originals.records),
        concepts=len(set(originals.concepts)),
        judge_names=len(referee.names),
        seed=seed,
        absent=list(absent),
    )
    show(report)
    contact_sheet(originals.records, panels, out)
    failures(rows, panels, out)
    return write(report, out)


def opened(data: Path, size: int, judge: Judge) -> Originals:
    """The held-out concepts of a data folder, on white, and what the trunk and the judge see in them."""
    gallery = held_out(data, size)
    pictures = gallery.composited(list(range(len(gallery))), [0] * len(gallery))
    return Originals(
        records=gallery.records,
        pictures=pictures,
        features=looked(judge, pictures, SIDE),
        judged=looked(judge, pictures, judge.recogniser.config.side),
    )


def held_out(data: Path, size: int) -> Gallery:
    """All drawings of held-out concepts. LimnerError for a folder that does not say which they are."""
    gallery = open_gallery([data], size=size, splits=("concept",))
    if any(record.facts.get("split") != "concept" for record in gallery.records):
        raise LimnerError(
            f"{data} does not say what training has not seen: give a folder made by `limner data fetch emoji`"
        )
    return gallery


def looked(judge: Judge, pictures: Float[Tensor, "n 3 s s"], side: int) -> Float[Tensor, "n f"]:
    """Features of pictures brought to `side` pixels, on the CPU."""
    total = math.ceil(len(pictures) / BATCH)
    return features(judge.trunk, pictures.split(BATCH), total=total, side=side)


def returned(model: "Autoencoder", pictures: Float[Tensor, "n 3 s s"]) -> Returned:
    """The pictures through a model, a few at a time."""
    parts = pictures.split(CHUNK)
    again = [model.reconstruct(part) for part in watched(parts, f"reconstructing by {model.name}")]
    grids = [model.tokens(part) for part in parts]
    words: dict[str, WordUse] = {}
    if model.vocabulary is not None:
        for name in grids[0]:
            words[name] = word_use(torch.cat([grid[name] for grid in grids]), model.vocabulary)
    bits = torch.cat([model.bits(part) for part in parts])
    return Returned(pictures=torch.cat(again), bits=bits, words=words)


def mean_picture(originals: Originals) -> Returned:
    """What somebody returns who is told nothing: always the mean of all pictures."""
    mean = originals.pictures.mean(dim=0, keepdim=True).expand_as(originals.pictures)
    return Returned(pictures=mean, bits=torch.zeros(len(mean)), words={})


def measured(
    judge: Judge, originals: Originals, back: Returned, *, of: tuple[str, str], seed: int
) -> Measured:
    """Every number of one model; `of`: its name and its weights' digest."""
    concepts = originals.concepts

    def mean(values: Float[Tensor, "n"]) -> Estimate:
        return bootstrap(values.tolist(), concepts, seed=seed)

    seen = looked(judge, back.pictures, SIDE)
    seen_by_judge = looked(judge, back.pictures, judge.recogniser.config.side)
    name, weights = of
    return Measured(
        model=name,
        weights=weights,
        size=originals.pictures.shape[-1],
        psnr=mean(psnr(originals.pictures, back.pictures).clamp(max=PERFECT)),
        ssim=mean(ssim(originals.pictures, back.pictures)),
        distance=frechet_distance(gaussian(originals.features), gaussian(seen)),
        bits=mean(back.bits),
        words=back.words,
        judged=judged(judge, originals, seen_by_judge, seed=seed),
        matched=matched(originals, seen, seed=seed),
        lost=lost(originals, seen),
    )


def judged(
    judge: Judge, originals: Originals, features: Float[Tensor, "n f"], *, seed: int
) -> dict[str, Known]:
    """How often the judge names what came back, of the things whose names it knows."""
    names = dict(zip(judge.recogniser.config.hexcodes, judge.names, strict=True))
    hexcodes = [str(record.facts["hexcode"]) for record in originals.records]
    rows = [row for row, hexcode in enumerate(hexcodes) if hexcode in names]
    if not rows:
        return {}
    wanted = [names[hexcodes[row]] for row in rows]
    hits = {
        row: (bool(again), bool(before))
        for row, again, before in zip(
            rows,
            judge.places(features[rows], wanted) < 1,
            judge.places(originals.judged[rows], wanted) < 1,
            strict=True,
        )
    }
    return by_group(originals, hits, seed=seed)


@dataclass(frozen=True)
class Lineup:
    """Held-out drawings without skin tones, by their `rows` in the originals, with features (n, 1280).

    `others` (n, n) are of other styles, `right` those of them that show the same thing.
    """

    rows: list[int]
    features: Tensor
    others: Tensor
    right: Tensor

    @classmethod
    def of(cls, originals: Originals) -> "Lineup":
        """All that there are."""
        rows = [row for row, record in enumerate(originals.records) if not record.facts.get("skin_tone")]
        facts = [originals.records[row].facts for row in rows]
        things, styles = ([str(fact.get(key)) for fact in facts] for key in ("hexcode", "style"))
        others = ~same(styles)
        return cls(rows, originals.features[rows], others, same(things) & others)

    def found(self, looks: Float[Tensor, "n f"]) -> Bool[Tensor, "n"]:
        """Which of these drawings are found by what they, or what came back of them, looks like."""
        return found(looks, self.features, self.right, self.others)


def matched(originals: Originals, features: Float[Tensor, "n f"], *, seed: int) -> dict[str, Known]:
    """How often the drawing of another style that is most like what came back is of the same thing.

    Asked among the held-out drawings without skin tones, of the things that two styles draw or more.
    """
    lineup = Lineup.of(originals)
    if not lineup.rows:
        return {}
    again, before = (lineup.found(looks) for looks in (features[lineup.rows], lineup.features))
    hits = {
        row: (bool(again[i]), bool(before[i]))
        for i, row in enumerate(lineup.rows)
        if bool(lineup.right[i].any())
    }
    return by_group(originals, hits, seed=seed)


def lost(originals: Originals, features: Float[Tensor, "n f"], *, most: int = LOST) -> list[Lost]:
    """Drawings that another style's finds until they go through the model, and for what they are taken then.

    At most `most`, which a hash chooses.
    """
    lineup = Lineup.of(originals)
    if not lineup.rows:
        return []
    looks = features[lineup.rows]
    gone = lineup.found(lineup.features) & ~lineup.found(looks)
    taken = likeness(looks, lineup.features).masked_fill(lineup.right | ~lineup.others, -torch.inf).argmax(1)

    def facts(i: int) -> tuple[str, str]:
        record = originals.records[lineup.rows[i]]
        return str(record.facts["name"]), str(record.facts["style"])

    failing = sorted(gone.nonzero().flatten().tolist(), key=lambda i: fraction("failure", *facts(i)))
    return [Lost(lineup.rows[i], *facts(i), facts(int(taken[i]))[0]) for i in failing[:most]]


def same(words: Sequence[str]) -> Bool[Tensor, "n n"]:
    """Which rows have the same word."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    ids = torch.tensor([numbers[word] for word in words])
    return rearrange(ids, "n -> n 1") == rearrange(ids, "n -> 1 n")


def found(
    queries: Float[Tensor, "n f"],
    drawings: Float[Tensor, "n f"],
    right: Bool[Tensor, "n n"],
    others: Bool[Tensor, "n n"],
) -> Bool[Tensor, "n"]:
    """Whether a right drawing is nearer to each query, by cosine, than all others of other styles.

    A tie counts against the query, or one that resembles everything alike would always be right.
    """
    scores = likeness(queries, drawings)
    nothing = -torch.inf
    best = scores.masked_fill(~right, nothing).amax(dim=1)
    return best > scores.masked_fill(right | ~others, nothing).amax(dim=1)


def likeness(queries: Float[Tensor, "n f"], drawings: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
    """Cosines about the drawings' mean."""
    middle = drawings.mean(dim=0)
    return F.normalize(queries - middle, dim=1) @ F.normalize(drawings - middle, dim=1).T


def by_group(originals: Originals, hits: Mapping[int, tuple[bool, bool]], *, seed: int) -> dict[str, Known]:
    """What is recognised, (again, before) by row: over all rows, and over each of GROUPS that is there."""
    concepts = originals.concepts
    told: dict[str, Known] = {}
    for name, group in {"all": None, **GROUPS}.items():
        rows = [row for row in hits if group in (None, originals.records[row].facts.get("group"))]
        if not rows:
            continue
        again, before = ([hits[row][which] for row in rows] for which in (0, 1))
        together = [concepts[row] for row in rows]
        told[name] = Known(
            reconstructions=share(again, together, seed=seed),
            originals=share(before, together, seed=seed),
            ratio=ratio([*map(float, again)], [*map(float, before)], together, seed=seed)
            if any(before)
            else None,
        )
    return told
