"""Automatic judges that stand in for people who are not there: asked the same, by their own name, kept apart.

They are asked what a rater is asked, checks and repeats too, so that a judge who cannot tell a drawing from
noise is found out as a person would be. Who they are, and what they go by, is `limner.comparison.panel`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from limner.comparison.panel import PanelJudge, by_clip, by_recogniser
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.evaluation import eyes
from limner.evaluation.recognition import load_judge
from limner.pipelines.embedding import reader
from limner.pipelines.pictures import open_picture
from limner.progress import watched
from limner.vote.checks import on_white
from limner.vote.schedule import ANSWERS, Answer, Question
from limner.vote.study import Study


def clip(*, weights: Path | None, device: str) -> PanelJudge:
    """The CLIP that ships, or another one, beside real drawings."""
    return beside_drawings(by_clip(reader(weights, device), None))


def recogniser(folder: Path, *, device: str) -> PanelJudge:
    """The recogniser in a folder, beside real drawings."""
    return beside_drawings(by_recogniser(load_judge(folder, device=device), None))


def beside_drawings(judge: PanelJudge) -> PanelJudge:
    """With drawings of the sample to compare with that no painter was trained on, and no check is made of."""
    drawings = [on_white(open_picture(record.file)) for record in read(sample_dir("judge")).records]
    return replace(judge, real=eyes.look(judge.eyes, drawings, total=len(drawings)))


def answer(
    judge: PanelJudge,
    question: Question,
    caption: str,
    left: Sequence[Image.Image],
    right: Sequence[Image.Image],
) -> Answer | None:
    """Which side; neither where both are the same to it, or the left where one must be chosen.

    None where it does not know the words: that is no even match, and no check that was failed.
    """
    one, other = (
        judge.opinion(question, judge.eyes.see(side), [caption] * len(side)) for side in (left, right)
    )
    if one is None or other is None:
        return None
    if one.values[0] == other.values[0]:
        return "neither" if "neither" in ANSWERS[question] else "left"
    return "left" if one.values[0] > other.values[0] else "right"


def sit(study: Study, judges: Sequence[PanelJudge]) -> Iterator[tuple[str, int]]:
    """Every judge answers what it has not answered yet and can; yields its name and how many it answered now.

    Raises ValueError for a study that is of people.
    """
    if study.store.whose != "panel":
        raise ValueError(f"study is of {study.store.whose}: a panel votes in a file of its own")
    for judge in judges:
        rater = study.join(judge.name)
        done, total = study.store.progress(rater)
        for shown in watched(study.store.waiting(rater, total), f"{judge.name} votes"):
            left, right = (study.showing.pictures(shown.task, side) for side in ("left", "right"))
            said = answer(judge, shown.task.question, shown.task.prompt, left, right)
            if said is not None:
                study.store.vote(shown, said, 0.0)
        yield judge.name, study.store.progress(rater)[0] - done
