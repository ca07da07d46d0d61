"""Which prior, and is one worth it? Diffusion, autoregressive and none, on captions that training held out.

Ramesh et al. 2022, table 1 and figure 8, by machines: the cosine of what is imagined with CLIP's view of the
true picture, and recognition and Fréchet distance of what is painted from it. Beside them what it costs:
operations of a training row and of an embedding, and seconds.
"""

import copy
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from jaxtyping import Float
from PIL import Image
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from limner.dalle2.objective import (
    EmbeddingsAndCaptions,
    autoregressive_prior_objective,
    clip_reader,
    prior_objective,
)
from limner.data.folder import Record
from limner.data.loader import open_gallery
from limner.draws import Draws
from limner.errors import LimnerError
from limner.evaluation.frechet import frechet_distance, gaussian
from limner.evaluation.intervals import Estimate, bootstrap
from limner.evaluation.prior_cosine import cosines
from limner.evaluation.recognition import Recognised
from limner.evaluation.report import Task, imagination, opened, set_task
from limner.evaluation.reranking import points
from limner.evaluation.retrieval import STYLED, embedded, styled
from limner.evaluation.table import HELD_OUT, replaced
from limner.evaluation.trials import Painted, Way, difference, painted, real_features, table
from limner.pipelines.png import contact_sheet
from limner.pipelines.settings import PRIOR_GUIDANCE, PRIOR_SAMPLER, PRIOR_STEPS, PaintSettings

if TYPE_CHECKING:
    from limner.pipelines import Dalle2

NAME = "priors"
GUIDANCES = (1.0, PRIOR_GUIDANCE)
# The paper's: 64 strided steps with the analytic variance.
ANALYTIC_STEPS = 64
# Captions that are imagined together where seconds are taken, and how often; rows of a counted training step.
TIMED, REPEATS, COUNTED = 16, 3, 8
SHOWN = 10
# How often a caption is empty where a training step is counted: as often as both are trained with.
DROP = 0.1
HEADER = (
    "prior",
    "guidance",
    *(f"cosine, {name}" for name in HELD_OUT.values()),
    "held-out captions: top-1",
    "top-5",
    "Fréchet",
    "names: top-1",
    "top-5",
    "top-5, points above the first row",
    "Fréchet",
    "GFLOP an embedding",
    "milliseconds",
)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What training held out: true embeddings, captions, and which concept each row is of."""

    truth: Float[Tensor, "n d"]
    captions: tuple[str, ...]
    concepts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Imagining:
    """A way to imagine: how near it comes by split, what it costs, and how its pictures fare."""

    line: str
    guidance: float
    cosine: dict[str, Estimate]
    held: Recognised
    held_frechet: float
    names: Recognised
    names_frechet: float
    above: Estimate
    operations: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """A prior's parameters, and the operations of one row of its training, backward too."""

    line: str
    parameters: int
    operations: float


def ways() -> list[Way[PaintSettings]]:
    """Every prior at every guidance; the first is the default."""
    found = []
    for guidance in sorted(GUIDANCES, reverse=True):
        for line, settings in (
            (f"diffusion, {PRIOR_SAMPLER} {PRIOR_STEPS}", PaintSettings()),
            (
                f"diffusion, analytic {ANALYTIC_STEPS}",
                PaintSettings(prior_sampler="ancestral", prior_steps=ANALYTIC_STEPS),
            ),
            ("autoregressive", PaintSettings(prior="autoregressive")),
        ):
            found.append(Way(line, guidance, dataclasses.replace(settings, prior_guidance=guidance)))
    return [*found, Way("none", 1.0, PaintSettings(prior="none"))]


def run(painter: "Dalle2", data: Path, judge: Path, out: Path, *, names: int = 300, seed: int = 0) -> Path:
    """Ask every prior for what `data` held out, and paint it; `out`/priors.md, which it returns.

    Painted are `names` names and every held-out caption of these, at the smallest size. Beside it .json and a
    sheet. Raises LimnerError for weights without an autoregressive prior, and as `solvers.run` does.
    """
    if painter.prior_autoregressive is None:
        raise LimnerError("these weights have no autoregressive prior: nothing to compare")
    task = set_task(data, judge, names=names, device=str(painter.device))
    drawings = [one for one in task.drawings if one.facts.get("split") in HELD_OUT]
    if not drawings:
        raise LimnerError(f"{data} holds out no drawing whose name the judge knows: take another folder")
    held = {split: held_out(painter, data, split) for split in HELD_OUT}

    def paint(prompts: Sequence[str], settings: PaintSettings) -> list[Image.Image]:
        return painter.paint(prompts, size=painter.sizes[0], seed=seed, settings=settings)

    prompts = [one.prompt for one in task.names] + [one.captions[STYLED] for one in drawings]
    found = painted(paint, task.judge, prompts, ways())
    real = real_features(task, painter.sizes[0])
    real_held = task.judge.look(opened(drawings, painter.sizes[0]), total=len(drawings))
    imagined = [
        measured(painter, way, one, found[0], held, task, drawings, real, real_held, seed=seed)
        for way, one in zip(ways(), found, strict=True)
    ]
    trained = training(painter, held["pair"])
    said = text(painter, imagined, trained, task, len(drawings), seed=seed)
    Console().print(Markdown(said))
    laid = io.BytesIO()
    sheet(found, prompts).save(laid, format="PNG", optimize=True)
    kept = {
        "weights": painter.digest,
        "precision": painter.precision,
        "names": len(task.names),
        "held": len(drawings),
        "seed": seed,
        "imagined": [dataclasses.asdict(one) for one in imagined],
        "training": [dataclasses.asdict(one) for one in trained],
    }
    replaced(out / f"{NAME}.json", (json.dumps(kept, indent=2) + "\n").encode())
    replaced(out / f"{NAME}_sheet.png", laid.getvalue())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


def held_out(painter: "Dalle2", data: Path, split: str) -> Held:
    """A split's plain drawings on white, with the captions that say name and style."""
    gallery = open_gallery([data], size=painter.seeing.config.vision.resolution, splits=(split,))
    rows = [i for i, record in enumerate(gallery.records) if not record.facts.get("skin_tone")]
    return Held(
        truth=embedded(painter.seeing, gallery, rows),
        captions=tuple(styled(gallery, row) for row in rows),
        concepts=tuple(str(gallery.records[row].facts.get("hexcode", row)) for row in rows),
    )


def measured(
    painter: "Dalle2",
    way: Way[PaintSettings],
    found: Painted,
    default: Painted,
    held: dict[str, Held],
    task: Task,
    drawings: Sequence[Record],
    real: Float[Tensor, "n f"],
    real_held: Float[Tensor, "m f"],
    *,
    seed: int,
) -> Imagining:
    """One way, beside the `default` one; `real` are features of all drawings and of those held out."""
    imagine = imagination(painter, seed, way.settings)
    cosine = {
        split: bootstrap(cosines(one.truth, imagine(one.captions)).tolist(), one.concepts, seed=seed)
        for split, one in held.items()
    }
    # Names first, then what was held out.
    cut, labels = len(task.names), [one.name for one in task.names]
    of_names, of_held = found.features[:cut], found.features[cut:]
    captions = held["pair"].captions[:TIMED]
    with FlopCounterMode(display=False) as counter:
        imagine(captions[:1])
    return Imagining(
        line=way.line,
        guidance=way.place,
        cosine=cosine,
        held=task.judge.of(of_held, [str(one.facts["name"]) for one in drawings], seed=seed),
        held_frechet=frechet_distance(gaussian(real_held), gaussian(of_held)),
        names=task.judge.of(of_names, labels, seed=seed),
        names_frechet=frechet_distance(gaussian(real), gaussian(of_names)),
        above=difference(
            dataclasses.replace(found, features=of_names),
            dataclasses.replace(default, features=default.features[:cut]),
            task,
            labels,
            seed=seed,
        ),
        operations=float(counter.get_total_flops()),
        seconds=median(timed(painter, way.settings, captions, seed) for _ in range(REPEATS)),
    )


def timed(painter: "Dalle2", settings: PaintSettings, captions: Sequence[str], seed: int) -> float:
    """Seconds an embedding, of so many at once, reading the captions included."""
    began = perf_counter()
    imagination(painter, seed, settings)(captions)
    return (perf_counter() - began) / len(captions)


def training(painter: "Dalle2", held: Held) -> list[Training]:
    """What one row of either prior's training costs, CLIP's reading of its caption included."""
    other = painter.prior_autoregressive
    assert other is not None
    context = painter.clip.config.text.context
    ids = painter.tokenizer(list(held.captions[:COUNTED]), context).to(painter.device)
    batch = EmbeddingsAndCaptions(held.truth[:COUNTED].to(painter.device), ids)
    empty = painter.tokenizer([""], context)[0]
    read = clip_reader(painter.clip)
    found = []
    for line, network, objective in (
        ("diffusion", painter.checked_prior(), prior_objective),
        ("autoregressive", other, autoregressive_prior_objective),
    ):
        # A copy, for what is loaded does not learn.
        learning = copy.deepcopy(network).requires_grad_(True)
        draws = Draws(range(len(ids)), device=painter.device)
        with FlopCounterMode(display=False) as counter:
            objective(read, empty=empty, drop_caption=DROP)(learning, batch, draws).total.backward()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        operations = counter.get_total_flops() / len(ids)
        found.append(Training(line=line, parameters=parameters, operations=operations))
    return found


def text(
    painter: "Dalle2",
    imagined: Sequence[Imagining],
    trained: Sequence[Training],
    task: Task,
    held: int,
    *,
    seed: int,
) -> str:
    """The table and what it means, as Markdown."""
    rows = [
        (
            one.line,
            "" if one.line == "none" else f"{one.guidance:g}",
            *(one.cosine[split].decimal() for split in HELD_OUT),
            one.held.top1.percent(),
            one.held.top5.percent(),
            f"{one.held_frechet:.1f}",
            one.names.top1.percent(),
            one.names.top5.percent(),
            points(one.above),
            f"{one.names_frechet:.1f}",
            f"{one.operations / 1e9:.3f}",
            f"{1000 * one.seconds:.1f}",
        )
        for one in imagined
    ]
    costs = table(
        ("training", "parameters", "GFLOP a row"),
        [(one.line, f"{one.parameters:,}", f"{one.operations / 1e9:.3f}") for one in trained],
    )
    return (
        f"{table(HEADER, rows)}\n\n{costs}\n\nDALL-E 2, weights {painter.digest} in {painter.precision}; "
        f"one picture of {painter.sizes[0]} pixels from the seed {seed} for each of {len(task.names)} names, "
        f"most of which training has seen, and of {held} held-out captions of these, name and style; the "
        f"prior keeps the better of {PaintSettings().prior_candidates}. Fréchet distance: of the judge's "
        "features from real drawings; from so few pictures it is too large, and alike so in every row. "
        f"Operations are counted, milliseconds are medians of {REPEATS} times {TIMED} embeddings at once; "
        "both include reading the captions. In brackets: 95 % intervals.\n"
    )


def sheet(found: Sequence[Painted], prompts: Sequence[str]) -> Image.Image:
    """The first names by every prior, a row each."""
    shown = min(SHOWN, len(prompts))
    pictures = [picture for one in found for picture in one.pictures[:shown]]
    captions = [f"{one.line} {one.place:g}: {prompt}" for one in found for prompt in prompts[:shown]]
    return contact_sheet(pictures, captions, columns=shown)
