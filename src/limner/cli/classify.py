"""`limner classify`: what a picture shows, of the labels that somebody names, or how often that is right."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.lines import lines_of
from limner.cli.places import try_picture
from limner.cli.weights import Weights
from limner.pipelines.settings import checked_labels, checked_templates, checked_whole

if TYPE_CHECKING:
    from limner.evaluation.classification import Classified

HELP = """Say which of your labels a picture shows, by CLIP, which was trained for none of them.
  limner classify apple.png --labels "apple,pear,cat"
  limner classify pictures --confusion confusion.png"""

# Of how many labels a picture's probabilities are printed.
TOP = 5


@dataclass(frozen=True, kw_only=True)
class Classify:
    """The options of `limner classify`."""

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE ...", help_behavior_hint="")] = ()
    """Pictures of any size and kind; or one folder, with a folder of pictures for each label, to measure how
    often CLIP is right about them."""
    labels: Annotated[str | None, arg(metavar="A,B", help_behavior_hint="")] = None
    """What to choose from, with commas between; of a folder by default the names of the folders in it."""
    labels_file: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """The same from a text file, one label a line."""
    templates_file: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Sentences that each label is said in, one a line, with {} for the label."""
    top: Annotated[int | None, arg(metavar="K", help_behavior_hint=f"(default: {TOP}, or all)")] = None
    """How many labels to print, likeliest first."""
    confusion: Annotated[Path | None, arg(metavar="PNG", help_behavior_hint="")] = None
    """Where to draw which label of a folder is taken for which."""
    json: bool = False
    """Print JSON."""
    weights: Weights = None
    """A CLIP of your own or of somebody else: its folder or file, or a folder with a clip in it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Classify pictures, or measure how well a labelled folder is classified."""
        labels = self._labels()
        if labels is not None:
            checked_labels(labels)
        if self.templates_file is not None:
            checked_templates(lines_of(self.templates_file, "templates_file"))
        if not self.images:
            raise ValueError("images is empty: give the path of at least one picture, or of a folder")
        folders = [path for path in self.images if path.is_dir()]
        if not folders:
            self._classify(labels)
        elif len(self.images) == 1:
            self._measure(folders[0], labels)
        else:
            raise ValueError(
                f"images holds the folder '{folders[0]}' and {len(self.images) - 1} more: give pictures, or "
                "one folder alone"
            )

    def _labels(self) -> list[str] | None:
        if self.labels is not None and self.labels_file is not None:
            raise ValueError("labels and labels_file are both given: leave one of them out")
        if self.labels_file is not None:
            return lines_of(self.labels_file, "labels_file")
        return None if self.labels is None else [label.strip() for label in self.labels.split(",")]

    def _templates(self) -> Sequence[str]:
        from limner.clip import TEMPLATES

        return TEMPLATES if self.templates_file is None else lines_of(self.templates_file, "templates_file")

    def _classify(self, labels: list[str] | None) -> None:
        if labels is None:
            raise ValueError("labels is missing: say what to choose from, as in --labels cat,dog")
        if self.confusion is not None:
            raise ValueError(
                f"confusion is '{self.confusion}', which is of a folder of labelled pictures: leave it out"
            )
        top = min(TOP, len(labels)) if self.top is None else self.top
        checked_whole("top", top, 1, len(labels))

        from limner.pipelines import classify
        from limner.pipelines.pictures import open_picture

        pictures = [open_picture(path) for path in self.images]
        found = classify(
            pictures, labels, templates=self._templates(), weights=self.weights, device=self.device
        )
        best = [sorted(one.items(), key=lambda pair: -pair[1])[:top] for one in found]
        if self.json:
            rows = [
                {"image": str(path), "probabilities": {label: round(p, 6) for label, p in likely}}
                for path, likely in zip(self.images, best, strict=True)
            ]
            print(json.dumps(rows, indent=2, ensure_ascii=False))
        else:
            print_table(self.images, best)

    def _measure(self, folder: Path, labels: list[str] | None) -> None:
        if self.top is not None:
            raise ValueError(f"top is {self.top}: a folder is measured at 1 and at 5, so leave it out")
        if self.confusion is not None:
            try_picture(self.confusion, "confusion")
        from limner.evaluation.classification import confusion_png, labelled, measured
        from limner.evaluation.reranking import plotter
        from limner.pipelines.embedding import reader
        from limner.pipelines.png import write

        if self.confusion is not None:
            plotter()
        chosen, truth = labelled(folder, labels)
        classified = measured(reader(self.weights, self.device), chosen, truth, templates=self._templates())
        for path, reason in classified.broken.items():
            warnings.warn(f"{path} is left out: {reason}", stacklevel=2)
        if self.json:
            print(json.dumps(described(classified), ensure_ascii=False))
        else:
            print_measures(classified)
        if self.confusion is not None:
            write(self.confusion, confusion_png(classified))
            if not self.json:
                print(self.confusion)


def print_table(images: Sequence[Path], best: Sequence[Sequence[tuple[str, float]]]) -> None:
    """Every picture's likeliest labels, one a line."""
    from rich.console import Console
    from rich.table import Table

    table = Table("picture", "label", box=None)
    table.add_column("probability", justify="right")
    for path, likely in zip(images, best, strict=True):
        for place, (label, probability) in enumerate(likely):
            table.add_row("" if place else str(path), label, f"{100 * probability:.1f} %")
    Console(highlight=False, markup=False).print(table)


def print_measures(classified: "Classified") -> None:
    """How often CLIP is right, and how often guessing is."""
    from rich.console import Console
    from rich.table import Table

    classes = len(classified.labels)
    table = Table("right", f"{len(classified.truth)} pictures, {classes} labels", "guessing", box=None)
    for k in (1, 5):
        # Among five of five labels there is always the right one.
        if k < classes:
            table.add_row(f"top-{k}", classified.top(k).percent(), f"{100 * classified.chance(k):.1f} %")
    Console(highlight=False, markup=False).print(table)


def described(classified: "Classified") -> dict[str, object]:
    """The same, and the confusion, for programs."""
    measures = {
        f"top{k}": {
            "value": round(found.value, 6),
            "low": round(found.low, 6),
            "high": round(found.high, 6),
            "chance": round(classified.chance(k), 6),
        }
        for k in (1, 5)
        if k < len(classified.labels)
        for found in [classified.top(k)]
    }
    return {
        "pictures": len(classified.truth),
        **measures,
        "labels": list(classified.labels),
        "confusion": classified.confusion().tolist(),
        "broken": [str(path) for path in classified.broken],
    }
