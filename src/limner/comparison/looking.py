"""Everything that is seen of one entrant's pictures, and of the real ones: features by several eyes, kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.comparison.kept import kept
from limner.evaluation.blur import all_blurred
from limner.evaluation.emoji600 import Request
from limner.evaluation.eyes import Eyes, look
from limner.evaluation.marks import Marks, at_side, looked, marks
from limner.evaluation.recognition import Judge
from limner.evaluation.suite_scores import DRAWINGS
from limner.pipelines.embedding import Reader, worded
from limner.progress import watched


@dataclass(frozen=True)
class Panel:
    """Who looks: EfficientNet's `eyes` and the judge on them, CLIP, maybe Inception; and at which `radii`.

    Without a `judge` nothing is recognised, and the score is of ImageNet's thousand names.
    """

    eyes: Eyes
    clip_eyes: Eyes
    clip: Reader
    judge: Judge | None
    imagenet: Callable[[Float[Tensor, "n f"]], Float[Tensor, "n c"]]
    inception: Eyes | None
    radii: tuple[float, ...]

    def probabilities(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        """How likely each name is, by the judge, or by ImageNet's classifier where there is none."""
        with torch.inference_mode():
            if self.judge is None:
                return self.imagenet(features).softmax(dim=1)
            device = next(self.judge.recogniser.parameters()).device
            return self.judge.recogniser(features.to(device)).softmax(dim=1).cpu()

    @property
    def classifier(self) -> str:
        """Whose probabilities these are, in words."""
        if self.judge is None:
            return "EfficientNet-Lite0 on ImageNet's 1000 names"
        return f"the judge on its {len(self.judge.names)} names"


@dataclass(frozen=True)
class Seen:
    """Features of pictures, row by row, and the marks of those that something can be recognised in.

    `groups`: the prompt of each row; `blurred`: by radius, the same features of blurred pictures.
    """

    groups: tuple[str, ...]
    features: Tensor
    clip: Tensor
    inception: Tensor | None
    blurred: dict[float, Tensor]
    marks: dict[int, Marks] = field(default_factory=dict)

    @property
    def first(self) -> list[int]:
        """The first row of each prompt."""
        rows: dict[str, int] = {}
        for row, group in enumerate(self.groups):
            rows.setdefault(group, row)
        return [*rows.values()]


def seen(
    panel: Panel,
    name: str,
    images: Callable[[], Iterator[Image.Image]],
    which: Sequence[str],
    groups: Sequence[str],
    folder: Path,
    *,
    detail: str,
    requests: Sequence[Request | None] | None = None,
) -> Seen:
    """Look at pictures, or take what is kept of the last time.

    `images` opens them anew at every call, for they do not stay; `which` says which they are, and `detail` at
    what size. `requests`: for each picture what must be seen in it.
    """
    total = len(groups)
    of = [detail, *which]

    def by(eyes: Eyes, radius: float = 0.0) -> Float[Tensor, "n d"]:
        label = f"{eyes.name}: {name}" + (f", blurred by {radius:g}" if radius else "")
        ending = eyes.name.lower() + (f"-blurred-{radius:g}" if radius else "")
        return kept(
            folder,
            f"{name}.{ending}",
            [eyes.known_as, f"{radius:g}", *of],
            lambda: look(eyes, all_blurred(images(), radius), total=total, label=label),
        )

    features = by(panel.eyes)
    return Seen(
        groups=tuple(groups),
        features=features,
        clip=by(panel.clip_eyes),
        inception=None if panel.inception is None else by(panel.inception),
        blurred={radius: by(panel.eyes, radius) for radius in panel.radii if radius},
        marks=recognised(panel, name, images, features, requests),
    )


def recognised(
    panel: Panel,
    name: str,
    images: Callable[[], Iterator[Image.Image]],
    features: Float[Tensor, "n f"],
    requests: Sequence[Request | None] | None,
) -> dict[int, Marks]:
    """The marks of each picture of which something is asked that the judge knows, by its row."""
    if panel.judge is None or requests is None:
        return {}
    known = set(panel.judge.names)
    found = {}
    shown = watched(zip(images(), requests, strict=True), f"judging: {name}", total=len(requests))
    for row, (image, request) in enumerate(shown):
        if request is None or not known.issuperset(request.names):
            continue
        picture = at_side(image)
        parts = looked(request, picture)
        # Of a single drawing the whole is shown, which has been looked at.
        one = features[row : row + 1]
        if request.group not in DRAWINGS:
            one = panel.eyes.see(parts.shown)
        found[row] = marks(panel.judge, request, picture, parts, one)
    return found


def words(read: Reader, prompts: Sequence[str]) -> Float[Tensor, "n d"]:
    """CLIP's unit embedding of each prompt."""
    once = {
        prompt: worded(read.clip, read.tokenizer, prompt).float().cpu() for prompt in dict.fromkeys(prompts)
    }
    return torch.stack([once[prompt] for prompt in prompts])
