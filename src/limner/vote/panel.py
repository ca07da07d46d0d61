"""Automatic judges that stand in for people who are not there: asked the same, by their own name, kept apart.

They are asked what a rater is asked, checks and repeats too, so that a judge who cannot tell a drawing from
noise is found out as a person would be.

- realism: Kynkäänniemi et al. 2019, equation 3: how near a picture is to real drawings, of their own distance
  to each other. A proxy for "looks real", and for beauty no proxy at all.
- caption: how well a picture goes with the words, by CLIP's cosine or by the recogniser's logits.
- diversity: the mean distance between the pictures of a grid (`limner.evaluation.coverage`).

What paints by CLIP is liked by CLIP: where a model was guided or chosen by it, that judge is no witness.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.evaluation.coverage import realism, spread
from limner.evaluation.recognition import Judge, load_judge
from limner.pipelines.embedding import pictured, reader, worded
from limner.pipelines.pictures import open_picture
from limner.progress import watched
from limner.vote.checks import on_white
from limner.vote.schedule import ANSWERS, Answer, Question
from limner.vote.study import Study

WORD = r"[\w-]+"
# A picture's features: (n, d) of n pictures.
Look: TypeAlias = Callable[[Sequence[Image.Image]], Float[Tensor, "n d"]]
# How well pictures go with words, given their features; None where the judge knows none of the words.
Fits: TypeAlias = Callable[[Float[Tensor, "n d"], str], list[float] | None]


@dataclass(frozen=True)
class PanelJudge:
    """A judge: its name, its eyes, its ear for words, and features of real drawings."""

    name: str
    look: Look
    fits: Fits
    real: Float[Tensor, "n d"]

    def answer(
        self, question: Question, caption: str, left: Sequence[Image.Image], right: Sequence[Image.Image]
    ) -> Answer:
        """Which side; neither where both are the same to it, or the left where one must be chosen."""
        features = [self.look(left), self.look(right)]
        marks = self._marks(question, caption, features)
        if marks is None or marks[0] == marks[1]:
            return "neither" if "neither" in ANSWERS[question] else "left"
        return "left" if marks[0] > marks[1] else "right"

    def _marks(
        self, question: Question, caption: str, features: Sequence[Float[Tensor, "_n d"]]
    ) -> list[float] | None:
        if question == "realism":
            return [realism(self.real, one[:1])[0].item() for one in features]
        if question == "diversity":
            return [spread(one, ["grid"] * len(one))[0] for one in features]
        return self.fits(torch.cat([*features]), caption)


def by_clip(*, weights: Path | None, device: str) -> PanelJudge:
    """The CLIP that ships, or another one."""
    read = reader(weights, device)

    def look(pictures: Sequence[Image.Image]) -> Float[Tensor, "n d"]:
        return pictured(read.clip, pictures).float().cpu()

    def fits(features: Float[Tensor, "n d"], caption: str) -> list[float] | None:
        words = worded(read.clip, read.tokenizer, caption).float().cpu()
        found: list[float] = (features @ words).tolist()
        return found

    return PanelJudge("clip", look, fits, look(_real()))


def by_recogniser(folder: Path, *, device: str) -> PanelJudge:
    """The recogniser in a folder, which shares nothing with the painters."""
    judge = load_judge(folder, device=device)

    def look(pictures: Sequence[Image.Image]) -> Float[Tensor, "n d"]:
        return judge.look(pictures, total=len(pictures))

    def fits(features: Float[Tensor, "n d"], caption: str) -> list[float] | None:
        return named_logits(judge, features, caption)

    return PanelJudge("recogniser", look, fits, look(_real()))


@torch.inference_mode()
def named_logits(judge: Judge, features: Float[Tensor, "n d"], caption: str) -> list[float] | None:
    """Log-probabilities of the longest name that a caption has in it; None where it has none."""
    words = _words(caption)
    found = [name for name in judge.names if _words(name) in words]
    if not found:
        return None
    device = next(judge.recogniser.parameters()).device
    logits = judge.recogniser(features.to(device)).log_softmax(dim=1).cpu()
    marks: list[float] = logits[:, judge.names.index(max(found, key=len))].tolist()
    return marks


def _words(text: str) -> str:
    """The words of a text with a space before and behind each, so that whole words are found in it."""
    return f" {' '.join(re.findall(WORD, text.lower()))} "


def _real() -> list[Image.Image]:
    """Drawings of the sample that no painter was trained on, and no check is made of."""
    return [on_white(open_picture(record.file)) for record in read(sample_dir("judge")).records]


def sit(study: Study, judges: Sequence[PanelJudge]) -> Iterator[tuple[str, int]]:
    """Every judge answers what it has not answered yet; yields its name and how many it answered now.

    Raises ValueError for a study that is of people.
    """
    if study.store.whose != "panel":
        raise ValueError(f"study is of {study.store.whose}: a panel votes in a file of its own")
    for judge in judges:
        rater = study.join(judge.name)
        done, total = study.store.progress(rater)
        waiting = study.store.waiting(rater, total)
        for shown in watched(waiting, f"{judge.name} votes"):
            left, right = (study.showing.pictures(shown.task, side) for side in ("left", "right"))
            study.store.vote(shown, judge.answer(shown.task.question, shown.task.prompt, left, right), 0.0)
        yield judge.name, total - done
