"""The report as a table: what the painter scores, what real drawings score, what knowing nothing scores."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from limner.errors import LimnerError
from limner.evaluation.frechet import KernelDistance
from limner.evaluation.likelihood import Likelihood
from limner.evaluation.prior_cosine import PriorCosine
from limner.evaluation.recognition import Recognised
from limner.evaluation.retrieval import Recall


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """The judge on paintings; on real drawings of the same names; on these with a painting's detail."""

    painted: Recognised
    real: Recognised
    real_small: Recognised


@dataclass(frozen=True, kw_only=True)
class Distance:
    """From real drawings, of paintings and of other real drawings of the same names, as many."""

    painted: float
    real: float
    painted_kernel: KernelDistance
    real_kernel: KernelDistance


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is measured, and with what: `weights` are their digest, `names` those that were asked for.

    Pictures of `size` pixels have the detail of `detail` pixels, at which real drawings are judged as well.
    `candidates`: how many CLIP chose from for each prompt, None where nothing was chosen. `retrieval` and
    `prior` are of DALL-E 2, `likelihood` is of DALL-E 1; the last two by split.
    """

    model: str
    weights: str
    size: int
    detail: int
    names: int
    judge_names: int
    count: int
    seed: int
    candidates: int | None
    recognition: dict[str, Recognition]
    distance: Distance
    retrieval: Recall | None = None
    prior: dict[str, PriorCosine] = field(default_factory=dict)
    likelihood: dict[str, Likelihood] = field(default_factory=dict)


# What the splits are called that training has not seen.
HELD_OUT = {"pair": "unseen pairs", "concept": "held-out concepts"}


def rows(report: Report) -> list[tuple[str, str, str, str]]:
    """The table: what is measured, the painter's number, real drawings', and that of knowing nothing."""
    table: list[tuple[str, str, str, str]] = []
    for kind, found in report.recognition.items():
        for answers in ("top1", "top5"):
            painted, real, small = (
                getattr(judged, answers).percent() for judged in (found.painted, found.real, found.real_small)
            )
            pictures = getattr(found.painted, answers).total
            chance = found.painted.chance1 if answers == "top1" else found.painted.chance5
            table.append(
                (
                    f"recognised, {kind} ({pictures} pictures), {'top-1' if answers == 'top1' else 'top-5'}",
                    painted,
                    f"{real}; at {report.detail} pixels {small}",
                    f"{100 * chance:.2f} %",
                )
            )
    if report.retrieval is not None:
        table += retrieved(report.retrieval)
    for split, cosine in report.prior.items():
        table.append(
            (
                f"prior, {HELD_OUT[split]} ({cosine.prior.total} captions), cosine with the true embedding",
                cosine.prior.decimal(),
                "1",
                f"{cosine.mean_picture.decimal()} for the mean picture, {cosine.caption.decimal()} for the "
                f"caption's own embedding, {cosine.other_caption.decimal()} for another caption",
            )
        )
    for split, bits in report.likelihood.items():
        for what, ours, counted in (
            ("text", bits.text, bits.text_unigram),
            ("image", bits.image, bits.image_unigram),
        ):
            table.append(
                (
                    f"transformer, {HELD_OUT[split]} ({ours.total} pictures), bits per {what} token",
                    ours.decimal(),
                    "",
                    f"{counted.decimal()} for counted tokens",
                )
            )
    distance = report.distance
    table.append(("Fréchet distance", f"{distance.painted:.1f}", f"{distance.real:.1f}", ""))
    kernels = (distance.painted_kernel, distance.real_kernel)
    painted, real = (f"{1000 * kernel.value:.1f} ± {1000 * kernel.error:.1f}" for kernel in kernels)
    table.append(("kernel distance × 1000", painted, real, ""))
    return table


def retrieved(recall: Recall) -> list[tuple[str, str, str, str]]:
    """The lines of CLIP's retrieval."""
    return [
        (
            f"CLIP, held-out concepts ({found.total} pictures), {way}, recall@{k}",
            found.percent(),
            "100 %",
            f"{100 * chance:.1f} %",
        )
        for way, first, five in (
            ("picture → caption", recall.to_caption, recall.to_caption5),
            ("caption → picture", recall.to_picture, recall.to_picture5),
        )
        for k, found, chance in ((1, first, recall.chance), (5, five, recall.chance5))
    ]


HEADER = ("what is measured", "painter", "real drawings", "knowing nothing")


def show(report: Report) -> None:
    """The table on the screen."""
    table = Table(title=f"{report.model}, weights {report.weights}")
    for title in HEADER:
        table.add_column(title)
    for row in rows(report):
        table.add_row(*row)
    Console().print(table)


def write(report: Report, out: Path) -> Path:
    """`report.md` and `report.json` in `out`; the path of the former."""
    lines = [" | ".join(row) for row in (HEADER, ("---",) * len(HEADER), *rows(report))]
    choice = "" if report.candidates is None else f" the best by CLIP of {report.candidates} candidates,"
    notes = (
        f"Weights {report.weights}; {report.names} names, {report.count} of each,{choice} "
        f"{report.size} pixels, seed {report.seed}. The judge answers with one of {report.judge_names} "
        "names. In brackets: 95 % intervals, Wilson's, or the bootstrap's over names where a name has "
        "several pictures. Distances are between EfficientNet-Lite0 features of the paintings of the names "
        "and real drawings of them; "
        f"{report.names} pictures are few for the Fréchet distance, which is why it stands beside that of as "
        "many real drawings."
    )
    if report.likelihood:
        notes += (
            " Bits are −log₂ of the probability of each token given all before it; counted tokens are a "
            "unigram model's, from the training split; a picture's bits are of its tokens, given its caption."
        )
    text = "\n".join(f"| {line} |" for line in lines) + f"\n\n{notes}\n"
    described = json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False) + "\n"
    replaced(out / "report.json", described.encode())
    replaced(out / "report.md", text.encode())
    return out / "report.md"


def replaced(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise LimnerError(f"cannot write {path}: {error.strerror or error}") from error
