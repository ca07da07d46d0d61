"""From the first word to the last table; whatever is there already is not done again."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner import __version__
from limner.comparison.claims import answers
from limner.comparison.cost import Cost, cost
from limner.comparison.entrants import Entrant, loaded, placed, precision_of, settings_of
from limner.comparison.found import Comparison, Painted
from limner.comparison.kept import fingerprints, kept
from limner.comparison.looking import Panel, Seen, seen, words
from limner.comparison.painting import PICTURES, Work, missing, opened, paint, seconds_of, settings_said
from limner.comparison.panel import opinions, preferences, seated
from limner.comparison.prompts import Asked, recognisable
from limner.comparison.reals import Reals, reals, shown
from limner.comparison.report import write
from limner.comparison.scores import Compared, Scored, scored, too_few
from limner.errors import LimnerError
from limner.evaluation import eyes
from limner.evaluation.emoji600 import Request
from limner.evaluation.features import SIDE, load_trunk
from limner.evaluation.few import warn
from limner.evaluation.recognition import Judge, load_judge
from limner.evaluation.reranking import plotter
from limner.evaluation.table import replaced
from limner.pipelines.embedding import reader
from limner.progress import watched

if TYPE_CHECKING:
    from limner.comparison.entrants import Painter
    from limner.pipelines.settings import Precision

INDEX = "comparison.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared, by whom, and how; `command` is how it was asked for.

    `data` holds real pictures, `judge` a recogniser's run, `clip` a CLIP to score with in place of the one
    that ships; each may be None, and what needs it is left out. `most_real`: how many real pictures the
    cloud has.
    """

    entrants: tuple[Entrant, ...]
    asked: Asked
    count: int
    size: int | None
    seed: int
    data: Path | None
    judge: Path | None
    clip: Path | None
    inception: bool
    radii: tuple[float, ...]
    most_real: int | None
    precision: "Precision"
    device: str
    command: str


def run(plan: Plan, out: Path, *, page: Path | None = None) -> Path:
    """Paint, look, count and write; `out`/report.html, which it returns.

    Killed at any moment and called again with the same plan, it goes on where it was: a picture, a cost and
    the features of somebody's pictures are saved whole as soon as they are there. Raises LimnerError, before
    anything is painted, for weights, data or packages that are missing, and for an `out` of another
    comparison, or with a picture in it that whoever is to paint there would not have painted.
    """
    plotter()
    placed(plan.entrants)
    judge = None if plan.judge is None else load_judge(plan.judge, device=plan.device)
    requests = requested(plan.asked, judge)
    real = None if plan.data is None else reals(plan.data, requests, most=plan.most_real)
    panel = assembled(plan, judge)
    size = size_of(plan)
    works = {
        one.name: Work(one, plan.asked.prompts, plan.count, size, plan.seed, out / PICTURES / one.folder)
        for one in plan.entrants
    }
    check_index(plan, size, out)
    # Of everybody before anybody paints: hours are not for finding out whose pictures lie there.
    prompts = {one.name: unpainted(works[one.name], plan) for one in plan.entrants}
    painted = []
    for one in plan.entrants:
        painter = loaded(one, device=plan.device, precision=plan.precision)
        # Before the first picture, so that whoever looks in between knows what the pictures are of.
        replaced(out / INDEX, index(plan, size, out, one.name, painter.digest).encode())
        paint(works[one.name], painter, prompts[one.name], behind_a_bar(one.name))
        painted.append(described(works[one.name], painter, plan, out))
        del painter
    comparison = counted(plan, works, painted, panel, requests, real, out)
    for said in comparison.warnings:
        warn(said)
    return write(comparison, out, page=page)


def unpainted(work: Work, plan: Plan) -> list[int]:
    """The numbers of the prompts that an entrant has still to paint; LimnerError for pictures not its own."""
    if not any(file.exists() for file in work.every_file()):
        return [*range(len(work.prompts))]
    return missing(work, loaded(work.entrant, device=plan.device, precision=plan.precision))


def behind_a_bar(name: str) -> Callable[[Sequence[Sequence[int]]], Iterator[Sequence[int]]]:
    """Whoever waits sees who is painting, and how much of it is done."""
    return lambda some: watched(some, f"painting: {name}")


def requested(asked: Asked, judge: Judge | None) -> list[Request | None]:
    """What must be seen in a picture of each prompt: as the list says, or what a judge finds in the words."""
    if any(one is not None for one in asked.requests) or judge is None:
        return list(asked.requests)
    return recognisable(asked.prompts, judge.names, judge.recogniser.config.hexcodes)


def assembled(plan: Plan, judge: Judge | None) -> Panel:
    """Who looks."""
    trunk = load_trunk(plan.device) if judge is None else judge.trunk
    side = SIDE if judge is None else judge.recogniser.config.side
    device = next(trunk.parameters()).device
    read = reader(plan.clip, plan.device)

    def imagenet(features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        return trunk.named(features.to(device)).cpu()

    return Panel(
        eyes=eyes.efficientnet(trunk, side=side),
        clip_eyes=eyes.clip(read),
        clip=read,
        judge=judge,
        imagenet=imagenet,
        inception=eyes.inception(plan.device) if plan.inception else None,
        radii=plan.radii,
    )


def size_of(plan: Plan) -> int:
    """The pixels a side at which everybody paints: as asked for, or the largest that all of them offer."""
    offered: dict[str, tuple[int, ...]] = {}
    for one in plan.entrants:
        if one.place() not in map(Path, offered):
            offered[str(one.place())] = loaded(one, device="cpu", precision="fp32").sizes
    common = set.intersection(*(set(sizes) for sizes in offered.values()))
    told = "; ".join(f"{one.name} {', '.join(map(str, offered[str(one.place())]))}" for one in plan.entrants)
    if not common:
        raise LimnerError(f"nobody is compared at different sizes, and no size is common to all: {told}")
    if plan.size is not None and plan.size not in common:
        raise ValueError(f"size is {plan.size}, which not all of them paint ({told}): leave it out")
    return max(common) if plan.size is None else plan.size


def asked_of(plan: Plan, size: int) -> dict[str, object]:
    """What is asked of everybody, as the index says it."""
    return {
        "prompts": list(plan.asked.prompts),
        "prompts_sha256": plan.asked.digest,
        "count": plan.count,
        "size": size,
        "seed": plan.seed,
    }


def read_index(out: Path) -> dict[str, Any]:
    """What lies in the folder already; nothing where there is no index, or one that cannot be read."""
    try:
        known = json.loads((out / INDEX).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def check_index(plan: Plan, size: int, out: Path) -> None:
    """Refuse a folder where something else was asked for. Painters may be added to it."""
    known = read_index(out)
    for name, value in asked_of(plan, size).items():
        if name in known and known[name] != value:
            told = (
                "prompts are others" if isinstance(value, list) else f"{name} is {known[name]}, here {value}"
            )
            raise LimnerError(f"{out} holds another comparison: its {told}; give another --out")


def index(plan: Plan, size: int, out: Path, name: str, weights: str) -> str:
    """What lies in the folder: prompts, and who paints them where; `weights` are those of `name`.

    Who painted there before stays in it.
    """
    before = {str(one["name"]): one for one in read_index(out).get("entrants", [])}
    for one in plan.entrants:
        known = before.get(one.name, {"weights": None})
        before[one.name] = {
            "name": one.name,
            "title": one.title,
            "pictures": f"{PICTURES}/{one.folder}",
            "weights": weights if one.name == name else known["weights"],
        }
    told = {
        "limner": __version__,
        "prompts_of": plan.asked.name,
        **asked_of(plan, size),
        "entrants": [*before.values()],
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def described(work: Work, painter: "Painter", plan: Plan, out: Path) -> Painted:
    """One entrant when its pictures are there, with what they cost."""
    spent: Cost = cost(
        work,
        out,
        weights=painter.digest,
        device=plan.device,
        precision=precision_of(work.entrant, plan.precision),
    )
    seconds = seconds_of(work, str(painter.device))
    return Painted(
        name=work.entrant.name,
        title=work.entrant.title,
        weights=painter.digest,
        settings=settings_said(settings_of(work.entrant, painter.usual, count=work.count)),
        files=tuple(work.every_file()),
        seconds=sum(seconds) / len(seconds) if seconds else None,
        alone=spent.seconds,
        megabytes=spent.megabytes,
    )


def counted(
    plan: Plan,
    works: dict[str, Work],
    painted: Sequence[Painted],
    panel: Panel,
    requests: Sequence[Request | None],
    real: Reals | None,
    out: Path,
) -> Comparison:
    """Look at everything and measure it."""
    each = [request for request in requests for _ in range(plan.count)]
    groups = [prompt for prompt in plan.asked.prompts for _ in range(plan.count)]
    said = words(panel.clip, plan.asked.prompts)
    prompts = said.repeat_interleave(plan.count, dim=0)
    size = next(iter(works.values())).size
    compared = None if real is None else looked_at(panel, real, size, out)
    judges = seated(panel, compared)
    scores, opinion, told = [], {}, list[str]()
    for one in painted:
        found = seen(
            panel,
            works[one.name].entrant.folder,
            partial(opened, one.files),
            fingerprints(one.files),
            groups,
            out,
            detail=f"{size} pixels",
            requests=each,
        )
        scores.append(scored(panel, found, prompts, compared, name=one.name, title=one.title, seed=plan.seed))
        opinion[one.name] = opinions(judges, found)
        told = told or too_few(panel, found, compared)
    preferred = preferences(opinion, seed=plan.seed)
    return Comparison(
        command=plan.command,
        prompts=plan.asked.prompts,
        prompts_name=plan.asked.name,
        prompts_digest=plan.asked.digest,
        count=plan.count,
        size=size,
        painted=tuple(painted),
        scores=tuple(scores),
        real=answered(panel, plan, requests, real, said, compared, size, out),
        classifier=panel.classifier,
        preferences=tuple(preferred),
        answers=tuple(answers(preferred, scores, prompts=len(plan.asked.prompts))),
        settings=settings(plan, panel, real, compared),
        warnings=tuple(told),
    )


def looked_at(panel: Panel, real: Reals, size: int, out: Path) -> Compared:
    """The real pictures, at the size of the painted ones."""

    def images(files: Sequence[Path]) -> Iterator[Image.Image]:
        return shown(files, size)

    cloud = seen(
        panel,
        "real",
        lambda: images(real.cloud),
        fingerprints(real.cloud),
        [str(file) for file in real.cloud],
        out,
        detail=f"{size} pixels",
    )
    rest = [file for file in (*real.trained, *real.held_out) if file not in set(real.cloud)]
    rows = dict(zip(real.cloud, cloud.features, strict=True))
    if rest:
        others = kept(
            out,
            f"real-others.{panel.eyes.name.lower()}",
            [panel.eyes.known_as, f"{size} pixels", real.digest],
            lambda: eyes.look(
                panel.eyes, images(rest), total=len(rest), label="looking at training pictures"
            ),
        )
        rows |= dict(zip(rest, others, strict=True))

    def stacked(files: Sequence[Path]) -> Float[Tensor, "n f"]:
        return torch.stack([rows[file] for file in files]) if files else torch.empty(0, panel.eyes.width)

    return Compared(cloud, stacked(real.trained), stacked(real.held_out))


def answered(
    panel: Panel,
    plan: Plan,
    requests: Sequence[Request | None],
    real: Reals | None,
    said: Float[Tensor, "n d"],
    compared: Compared | None,
    size: int,
    out: Path,
) -> Scored | None:
    """What the real drawings score that were asked for, one of each prompt; None where they are not known."""
    pictures = None if real is None else real.answers(requests, size)
    if pictures is None:
        return None
    names = [f"{plan.asked.digest} {prompt}" for prompt in plan.asked.prompts]
    found: Seen = seen(
        panel,
        "answers",
        lambda: iter(pictures),
        names,
        plan.asked.prompts,
        out,
        detail=f"{size} pixels of {'' if real is None else real.digest}",
        requests=requests,
    )
    return scored(panel, found, said, compared, name="real", title="real drawings", seed=plan.seed)


def settings(plan: Plan, panel: Panel, real: Reals | None, compared: Compared | None) -> dict[str, str]:
    """With what everything was measured."""
    found = {
        "seeds": f"{plan.seed} to {plan.seed + plan.count - 1} of every prompt, candidates from the next",
        "limner, PyTorch": f"{__version__}, {torch.__version__}",
        "device, arithmetic": f"{plan.device}, {plan.precision}; {torch.get_num_threads()} threads",
        "features": f"{panel.eyes.known_as}; {panel.clip_eyes.known_as}",
        "classes": panel.classifier,
    }
    if real is not None and compared is not None:
        found["real pictures"] = (
            f"{len(real.cloud)} to compare with, {len(compared.trained)} trained on, "
            f"{len(compared.held_out)} held out; names and sizes {real.digest}"
        )
    if panel.inception is not None:
        found["Inception"] = panel.inception.known_as
    return found
