"""The judge: which of a few hundred names does a picture show?

A painting is good when somebody who never saw the painter's pictures recognises what was asked for. The judge
shares nothing with the painters: its features come from photographs (`features`), its names from sets of
drawings that no painter has trained on (JUDGE_SETS of `limner.data.sources`). What it makes of real drawings
that it has not seen either is the most that a painter can hope for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from limner import checkpoint
from limner.draws import Draws
from limner.errors import LimnerError
from limner.evaluation.features import Trunk, features_of, load_trunk
from limner.evaluation.intervals import Estimate, share
from limner.objective import Loss, Objective


@dataclass(frozen=True, kw_only=True)
class RecogniserConfig:
    """What the judge knows: `names` and their `hexcodes`, in the order of its answers.

    `features` is their width, `side` the pixels at which pictures are looked at. `dropout` of features, while
    training only.
    """

    names: tuple[str, ...]
    hexcodes: tuple[str, ...]
    features: int
    side: int
    dropout: float


class Recogniser(nn.Module):
    """Features → logits over names: standardise, drop some, compare with each name's direction."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: RecogniserConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("scale", torch.ones(config.features))
        self.dropout = nn.Dropout(config.dropout)
        self.names = nn.Linear(config.features, len(config.names))

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b n"]:
        """Logits in the order of the config's names."""
        return self.names(self.dropout((features - self.mean) / self.scale))

    def standardise(self, features: Float[Tensor, "n f"]) -> None:
        """Take these features' mean and deviation for granted from now on."""
        self.mean.copy_(features.mean(dim=0))
        # Features that never fire would otherwise be divided by nothing.
        self.scale.copy_(features.std(dim=0) + 1e-3)


@dataclass(frozen=True)
class NamedFeatures:
    """Features (B, F) of pictures and the numbers (B,) of what they show."""

    features: Tensor
    names: Tensor


def naming_objective(smoothing: float) -> Objective[NamedFeatures]:
    """Cross-entropy with a share `smoothing` of the target spread over all names; Szegedy et al. 2016."""

    def objective(model: nn.Module, batch: NamedFeatures, _draws: Draws) -> Loss:
        logits: Tensor = model(batch.features)
        right = (logits.argmax(dim=1) == batch.names).float().mean()
        loss = F.cross_entropy(logits, batch.names, label_smoothing=smoothing)
        uniform = float(torch.tensor(logits.shape[1]).log())
        return Loss(total=loss, report={"right": right.detach()}, baseline=uniform)

    return objective


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """How often the name asked for is the judge's first answer, or among its first five; and by guessing."""

    top1: Estimate
    top5: Estimate
    chance1: float
    chance5: float


@dataclass(frozen=True)
class Judge:
    """Eyes and names: a frozen trunk and the recogniser trained on it."""

    trunk: Trunk
    recogniser: Recogniser

    @property
    def names(self) -> tuple[str, ...]:
        """All names it can answer."""
        return self.recogniser.config.names

    def __call__(
        self,
        pictures: Sequence[Image.Image],
        names: Sequence[str],
        *,
        groups: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Recognised:
        """Judge pictures, each of which was painted for one of the judge's names.

        Intervals keep pictures of one group together, by default those painted for one name. Raises
        ValueError for a name that it does not know.
        """
        if len(pictures) != len(names) or not names:
            raise ValueError(f"pictures, names: {len(pictures)} and {len(names)}; give as many of each")
        return self.of(self.look(pictures, total=len(pictures)), names, groups=groups, seed=seed)

    def look(self, pictures: Iterable[Image.Image], *, total: int) -> Float[Tensor, "n f"]:
        """Features of `total` pictures at the size that this judge looks at."""
        side = self.recogniser.config.side
        return features_of(self.trunk, pictures, total=total, side=side, label="judging pictures")

    def of(
        self,
        features: Float[Tensor, "n f"],
        names: Sequence[str],
        *,
        groups: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Recognised:
        """The same for pictures that this judge has looked at already."""
        found = self.places(features, names)
        together = names if groups is None else groups
        total = len(self.names)
        return Recognised(
            top1=share((found < 1).tolist(), together, seed=seed),
            top5=share((found < 5).tolist(), together, seed=seed),
            chance1=1 / total,
            chance5=min(5, total) / total,
        )

    @torch.inference_mode()
    def places(self, features: Float[Tensor, "n f"], names: Sequence[str]) -> Int[Tensor, "n"]:
        """How many wrong names the judge puts before the right one, or level with it: 0 is recognised."""
        numbers = {name: number for number, name in enumerate(self.names)}
        unknown = [name for name in names if name not in numbers]
        if unknown:
            raise ValueError(f"names: this judge does not know {unknown[0]!r}, only its {len(numbers)} names")
        device = next(self.recogniser.parameters()).device
        logits = self.recogniser(features.to(device)).cpu()
        right = torch.tensor([numbers[name] for name in names])
        own = logits.gather(1, right.unsqueeze(1))
        return (~(logits < own)).sum(dim=1) - 1

    @torch.inference_mode()
    def answers(self, features: Float[Tensor, "n f"]) -> list[str]:
        """The name that the judge would give each of the pictures first."""
        device = next(self.recogniser.parameters()).device
        return [self.names[number] for number in self.recogniser(features.to(device)).argmax(dim=1).tolist()]


def load_judge(folder: Path, *, device: str = "cpu") -> Judge:
    """The judge trained into `folder` (or its `model/`); LimnerError, with the remedy, if there is none."""
    inside = folder / "model"
    place = inside if inside.is_dir() else folder
    if not (place / checkpoint.CONFIG).exists():
        raise LimnerError(
            f"no judge at {folder}: train one with `limner train recogniser --size small --data data/judge "
            f"--out {folder}` (the pictures come from `limner data fetch judge --out data/judge`)"
        )
    config, state = checkpoint.load(place, RecogniserConfig, device)
    recogniser = Recogniser(config)
    checkpoint.load_into(recogniser, state)
    return Judge(load_trunk(device), recogniser.to(device).eval().requires_grad_(False))
