"""A painter's report: every number of the README's table, by one command, as Markdown and JSON.

No number stands alone. What is painted stands beside what real drawings reach where the same is asked of
them, and beside what somebody reaches who knows nothing.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from jaxtyping import Float
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from limner.data.folder import Record, read
from limner.data.words import named
from limner.draws import mix
from limner.errors import LimnerError
from limner.evaluation.features import features_of
from limner.evaluation.frechet import frechet_distance, gaussian, kernel_distance
from limner.evaluation.likelihood import likelihood
from limner.evaluation.names import plain
from limner.evaluation.prior_cosine import prior_cosine
from limner.evaluation.recognition import Judge, Recognised, load_judge
from limner.evaluation.retrieval import STYLED, clip_retrieval
from limner.evaluation.table import HELD_OUT, Distance, Recognition, Report, show, write

if TYPE_CHECKING:
    from limner.pipelines import Dalle1, Dalle2, DfGan, Glide, GlideSettings, PaintSettings, TokenSettings
    from limner.pipelines.progress import Tick
    from limner.pipelines.stages import Imagined

# Prompts, and who wants to hear of every step → so many pictures of each prompt as the report asks for.
Paint: TypeAlias = Callable[[Sequence[str], Callable[["Tick"], None]], list[Image.Image]]

AT_ONCE = 16
# Which requests and which real drawings are compared, by their splits.
KINDS = {
    "all names": ({"train", "concept"}, {"train", "pair", "concept"}),
    "names trained on": ({"train"}, {"train", "pair"}),
    "names held out": ({"concept"}, {"concept"}),
    "unseen pairs of style and name": ({"pair"}, {"pair"}),
}


@dataclass(frozen=True)
class Asked:
    """One picture that is asked for: the prompt, the name it must be recognised by, and what is drawn.

    `split`: "pair" for a style and name that training never saw together; else whether training saw the name
    in any style ("train") or in none ("concept").
    """

    prompt: str
    name: str
    hexcode: str
    split: str


@dataclass(frozen=True)
class Task:
    """What is asked, `names` and then `pairs`, by whom it is judged, and real `drawings` of the names."""

    judge: Judge
    names: tuple[Asked, ...]
    pairs: tuple[Asked, ...]
    drawings: tuple[Record, ...]


def of_dalle2(
    painter: "Dalle2",
    data: Path,
    judge: Path,
    out: Path,
    *,
    names: int = 300,
    seed: int = 0,
    count: int = 1,
) -> Path:
    """Paint `count` pictures for each of `names` names and each unseen pair; measure; `out`/report.md.

    `data`: the folder that was trained on, for what it holds out, which CLIP and the prior are asked about as
    well. `judge`: a recogniser's run. Beside the table, `out` gets report.json and the pictures. Raises
    LimnerError where data and judge have no names in common or a part is missing.
    """
    task = set_task(data, judge, names=names, device=str(painter.device))
    # Before anything is painted, which takes longest: a folder that holds nothing out is refused here.
    retrieval = clip_retrieval(painter.seeing, painter.tokenizer, data, seed=seed)
    prior = {
        split: prior_cosine(
            imagination(painter, seed), painter.seeing, painter.tokenizer, data, split=split, seed=seed
        )
        for split in HELD_OUT
    }

    def paint(prompts: Sequence[str], on_tick: Callable[["Tick"], None]) -> list[Image.Image]:
        return painter.paint(prompts, count=count, size=painter.sizes[1], seed=seed, on_tick=on_tick)

    report = replace(
        measured("dalle2", painter, paint, task, out, seed=seed, count=count),
        retrieval=retrieval,
        prior=prior,
    )
    show(report)
    return write(report, out)


def of_dalle1(
    painter: "Dalle1",
    data: Path,
    judge: Path,
    out: Path,
    *,
    names: int = 300,
    seed: int = 0,
    count: int = 1,
    settings: "TokenSettings | None" = None,
) -> Path:
    """The same of DALL-E 1, whose transformer is asked how well it foresees what training held out.

    With `settings` that name a number of candidates, each picture is among CLIP's `count` best of so many.
    """
    task = set_task(data, judge, names=names, device=str(painter.device))
    foreseen = {
        split: likelihood(painter.transformer, painter.tokenizer, painter.dvae, data, split=split, seed=seed)
        for split in HELD_OUT
    }

    def paint(prompts: Sequence[str], on_tick: Callable[["Tick"], None]) -> list[Image.Image]:
        return painter.paint(prompts, count=count, seed=seed, settings=settings, on_tick=on_tick)

    report = replace(
        measured("dalle1", painter, paint, task, out, seed=seed, count=count),
        candidates=None if settings is None else settings.candidates,
        likelihood=foreseen,
    )
    show(report)
    return write(report, out)


def of_glide(
    painter: "Glide",
    data: Path,
    judge: Path,
    out: Path,
    *,
    names: int = 300,
    seed: int = 0,
    count: int = 1,
    settings: "GlideSettings | None" = None,
) -> Path:
    """The same of GLIDE, which stands on nothing else that could be asked."""
    task = set_task(data, judge, names=names, device=str(painter.device))

    def paint(prompts: Sequence[str], on_tick: Callable[["Tick"], None]) -> list[Image.Image]:
        return painter.paint(
            prompts, count=count, size=painter.sizes[1], seed=seed, settings=settings, on_tick=on_tick
        )

    report = measured("glide", painter, paint, task, out, seed=seed, count=count)
    show(report)
    return write(report, out)


def of_dfgan(
    painter: "DfGan",
    data: Path,
    judge: Path,
    out: Path,
    *,
    names: int = 300,
    seed: int = 0,
    count: int = 1,
) -> Path:
    """The same of DF-GAN, which foresees nothing that could be asked for."""
    task = set_task(data, judge, names=names, device=str(painter.device))

    def paint(prompts: Sequence[str], on_tick: Callable[["Tick"], None]) -> list[Image.Image]:
        return painter.paint(prompts, count=count, seed=seed, on_tick=on_tick)

    report = measured("dfgan", painter, paint, task, out, seed=seed, count=count)
    show(report)
    return write(report, out)


def set_task(data: Path, judge: Path, *, names: int, device: str) -> Task:
    """The first `names` names that judge and data share, and the unseen pairs of these."""
    referee = load_judge(judge, device=device)
    records = [record for record in read(data).records if plain(record)]
    by_name = asked_names(records, referee, names)
    hexcodes = {one.hexcode for one in by_name}
    drawings = [record for record in records if record.facts["hexcode"] in hexcodes]
    return Task(referee, tuple(by_name), tuple(asked_pairs(drawings)), tuple(drawings))


def measured(
    model: str,
    painter: "Dalle1 | Dalle2 | DfGan | Glide",
    paint: Paint,
    task: Task,
    out: Path,
    *,
    seed: int,
    count: int,
) -> Report:
    """What every painter is measured by: pictures of the task, judged and compared with real drawings."""
    asked = [one for one in (*task.names, *task.pairs) for _ in range(count)]
    pictures = painted(paint, asked, out / "painted", count=count)
    detail = painter.sizes[0]
    return Report(
        model=model,
        weights=painter.digest,
        size=pictures[0].width,
        detail=detail,
        names=len(task.names),
        judge_names=len(task.judge.names),
        count=count,
        seed=seed,
        candidates=None,
        recognition=recognition(task.judge, asked, pictures, task.drawings, detail=detail, seed=seed),
        distance=distances(task.judge, pictures[: count * len(task.names)], task.drawings, seed=seed),
    )


def asked_names(records: Sequence[Record], judge: Judge, names: int) -> list[Asked]:
    """The first `names` of the judge's names that the folder draws, each by its plain name."""
    split = {str(record.facts["hexcode"]): record.facts.get("split") for record in records}
    known = zip(judge.recogniser.config.hexcodes, judge.names, strict=True)
    asked = [
        Asked(named(name), name, hexcode, "concept" if split[hexcode] == "concept" else "train")
        for hexcode, name in known
        if hexcode in split
    ]
    if not asked:
        raise LimnerError("the judge knows no name of this data: both must come from `limner data fetch`")
    return asked[:names]


def asked_pairs(drawings: Sequence[Record]) -> list[Asked]:
    """Every held-out pair of style and name among these drawings, by name and style."""
    return [
        Asked(record.captions[STYLED], str(record.facts["name"]), str(record.facts["hexcode"]), "pair")
        for record in drawings
        if record.facts.get("split") == "pair"
    ]


def painted(paint: Paint, asked: Sequence[Asked], out: Path, *, count: int) -> list[Image.Image]:
    """The paintings, one for each row of `asked`, where each stands `count` times; kept as PNGs in `out`."""
    with Progress(transient=True) as bar:
        task = bar.add_task("painting")
        images = paint(
            [one.prompt for one in asked[::count]],
            lambda tick: bar.update(task, completed=tick.done, total=tick.total),
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number, (one, image) in enumerate(zip(asked, images, strict=True)):
            image.save(out / f"{number:04d}_{one.hexcode.lower()}.png")
    except OSError as error:
        raise LimnerError(f"cannot write the paintings into {out}: {error.strerror or error}") from error
    return images


def recognition(
    judge: Judge,
    asked: Sequence[Asked],
    pictures: Sequence[Image.Image],
    drawings: Sequence[Record],
    *,
    detail: int,
    seed: int,
) -> dict[str, Recognition]:
    """The judge on paintings and on real drawings, for each kind of request that was made."""
    names = [str(drawing.facts["name"]) for drawing in drawings]
    splits = [str(drawing.facts.get("split")) for drawing in drawings]
    paintings = judge.look(pictures, total=len(pictures))
    real, small = (judge.look(opened(drawings, side), total=len(drawings)) for side in (None, detail))

    def judged(features: Float[Tensor, "n f"], named: Sequence[str], rows: Sequence[int]) -> Recognised:
        return judge.of(features[list(rows)], [named[row] for row in rows], seed=seed)

    found = {}
    for kind, (requests, of_real) in KINDS.items():
        rows = [row for row, one in enumerate(asked) if one.split in requests]
        places = [row for row, split in enumerate(splits) if split in of_real]
        if rows and places:
            found[kind] = Recognition(
                painted=judged(paintings, [one.name for one in asked], rows),
                real=judged(real, names, places),
                real_small=judged(small, names, places),
            )
    return found


def opened(records: Sequence[Record], detail: int | None) -> Iterator[Image.Image]:
    """Real drawings, on white, one at a time; with `detail`, at that many pixels."""
    for record in records:
        with Image.open(record.file) as file:
            rgba = file.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        yield flat if detail is None else flat.resize((detail, detail), Image.Resampling.BOX)


def distances(
    judge: Judge, pictures: Sequence[Image.Image], drawings: Sequence[Record], *, seed: int
) -> Distance:
    """Fréchet and kernel distance of paintings, and of one real drawing of each name, from all the others."""
    by_name: dict[str, list[Record]] = {}
    for drawing in drawings:
        by_name.setdefault(str(drawing.facts["hexcode"]), []).append(drawing)
    apart = {
        random.Random(mix("apart", seed, hexcode)).choice(found).file for hexcode, found in by_name.items()
    }

    def look(images: Iterator[Image.Image] | Sequence[Image.Image], total: int) -> Float[Tensor, "n f"]:
        return features_of(judge.trunk, images, total=total, label="measuring distances")

    paintings = look(pictures, len(pictures))
    real = look(opened(drawings, None), len(drawings))
    is_apart = torch.tensor([drawing.file in apart for drawing in drawings])
    others = real[~is_apart]
    reference = gaussian(others)
    return Distance(
        painted=frechet_distance(reference, gaussian(paintings)),
        real=frechet_distance(reference, gaussian(real[is_apart])),
        painted_kernel=kernel_distance(others, paintings, seed=seed),
        real_kernel=kernel_distance(others, real[is_apart], seed=seed),
    )


def imagination(
    painter: "Dalle2", seed: int, settings: "PaintSettings | None" = None
) -> Callable[[Sequence[str]], Float[Tensor, "n d"]]:
    """Captions → the prior's embeddings, as this painter samples them."""

    def imagine(captions: Sequence[str]) -> Float[Tensor, "n d"]:
        parts = []
        for start in range(0, len(captions), AT_ONCE):
            some = list(captions[start : start + AT_ONCE])
            stages = painter.paint(some, seed=seed, settings=settings, stages=True)
            next(stages)  # the words; nothing after the embedding is painted, for nobody asks
            parts.append(cast("Imagined", next(stages)).embeddings.cpu())
        return torch.cat(parts)

    return imagine
