"""How often zero-shot classification is right about labelled pictures, and what it takes for what.

A folder for each label, with its pictures in it. Whoever measures chose the labels, so the intervals are over
pictures, not over labels: those of Wilson.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.clip import TEMPLATES, probabilities
from limner.data.folder import pictures_in
from limner.errors import LimnerError
from limner.evaluation.intervals import Estimate, wilson
from limner.evaluation.reranking import plotter
from limner.pipelines.classification import classes_of
from limner.pipelines.embedding import Reader, looked_at
from limner.pipelines.settings import checked_labels, checked_templates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Up to so many labels the numbers are written into the picture, and up to so many their names beside it.
NUMBERED, NAMED = 16, 120


@dataclass(frozen=True, kw_only=True)
class Classified:
    """The probabilities of all `labels`, (n, classes), for pictures of which `truth` says what they show.

    `broken`: pictures that could not be read, and why.
    """

    labels: tuple[str, ...]
    truth: Int[Tensor, "n"]
    probabilities: Float[Tensor, "n classes"]
    broken: dict[Path, str]

    def top(self, k: int) -> Estimate:
        """How often the right label is among the first `k`; a tie counts against CLIP."""
        own = self.probabilities.gather(1, self.truth[:, None])
        places = (~(self.probabilities < own)).sum(dim=1)
        return wilson(int((places <= k).sum()), len(self.truth))

    def chance(self, k: int) -> float:
        """The same by guessing."""
        return min(k / len(self.labels), 1.0)

    def confusion(self) -> Int[Tensor, "classes classes"]:
        """How many pictures of each label, in rows, were taken for each, in columns."""
        classes = len(self.labels)
        pairs = self.truth * classes + self.probabilities.argmax(dim=1)
        return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def labelled(folder: Path, labels: Sequence[str] | None = None) -> tuple[list[str], dict[Path, str]]:
    """The labels, and the pictures of a folder with theirs: what the folder below `folder` is called.

    There _ stands for a space. With `labels` these may be more, and in another order. Raises LimnerError for
    a folder without folders of pictures and for two of one label, ValueError for labels that cannot be chosen
    from or that lack one. Pictures beside the folders have no label, and a warning says that there are some.
    """
    truth = {
        picture: label.replace("_", " ")
        for picture in pictures_in(folder)
        for label, *inside in [picture.relative_to(folder).parts]
        if inside
    }
    if not truth:
        raise LimnerError(
            f"{folder} holds pictures but no folders of them: make one for each label, such as {folder}/cat"
        )
    folders = {picture.relative_to(folder).parts[0]: label for picture, label in truth.items()}
    for name, label in folders.items():
        if twice := [other for other, same in folders.items() if same == label and other != name]:
            raise LimnerError(
                f"{folder} has '{name}' and '{twice[0]}', both of the label '{label}': make them one folder"
            )
    if loose := len(pictures_in(folder)) - len(truth):
        warnings.warn(
            f"pictures that lie beside the folders have no label and are left out: {loose}", stacklevel=2
        )
    there = list(dict.fromkeys(truth.values()))
    chosen = there if labels is None else list(labels)
    checked_labels(chosen)
    if absent := [label for label in there if label not in chosen]:
        raise ValueError(f"labels lacks '{absent[0]}', which {folder} has a folder of: add it")
    return chosen, truth


def measured(
    read: Reader, labels: Sequence[str], truth: dict[Path, str], *, templates: Sequence[str] = TEMPLATES
) -> Classified:
    """Ask CLIP about every picture. Raises LimnerError where none can be read."""
    checked_templates(templates)
    classes = classes_of(read, labels, templates).float().cpu()
    looks = list(looked_at(read.clip, list(truth), "classifying"))
    files = [file for look in looks for file in look.files]
    broken = {file: reason for look in looks for file, reason in look.broken.items()}
    if not files:
        file, reason = next(iter(broken.items()))
        raise LimnerError(f"no picture can be read, such as {file} ({reason}): give other pictures")
    number = {label: place for place, label in enumerate(labels)}
    return Classified(
        labels=tuple(labels),
        truth=torch.tensor([number[truth[file]] for file in files]),
        probabilities=probabilities(
            torch.cat([look.embeddings for look in looks]), classes, read.clip.scale.cpu()
        ),
        broken=broken,
    )


def confusion_png(classified: Classified) -> bytes:
    """The picture of what is taken for what, as the bytes of a PNG. LimnerError without matplotlib."""
    packed = io.BytesIO()
    plot(classified).savefig(packed, format="png")
    return packed.getvalue()


def plot(classified: Classified) -> "Figure":
    """A square for each pair of labels, as dark as the share of the row's pictures that is taken for it."""
    counts = classified.confusion()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    classes = len(classified.labels)
    side = min(3.5 + 0.35 * classes, 16.0)
    figure = plotter()(figsize=(side, side), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("taken for")
    axes.set_ylabel("shown")
    top = classified.top(1)
    axes.set_title(f"{top.percent()} of {top.total} pictures", fontsize="medium")
    if classes <= NAMED:
        size = "small" if classes <= NUMBERED else "xx-small"
        axes.set_xticks(range(classes), classified.labels, rotation=90, fontsize=size)
        axes.set_yticks(range(classes), classified.labels, fontsize=size)
    if classes <= NUMBERED:
        for row, column in counts.nonzero().tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = str(int(counts[row, column]))
            axes.text(column, row, number, ha="center", va="center", color=colour, fontsize="small")
    return figure
