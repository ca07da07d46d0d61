"""Who paints: a model, maybe in a variant of its own, maybe with weights of your own. Needs no torch.

`dalle1`, `dalle1:reranked`, `dalle2:autoregressive=runs/mine/line`: NAME, NAME:VARIANT, and =PATH after
either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from limner.errors import LimnerError
from limner.pipelines.settings import (
    MOST_RANKED,
    NO_UNET,
    DfGanSettings,
    GlideSettings,
    GuidanceKind,
    PaintSettings,
    Precision,
    Prior,
    TokenSettings,
)
from limner.weights import PAINTERS, shipped

if TYPE_CHECKING:
    from limner.pipelines import Dalle1, Dalle2, DfGan, Glide

    Painter: TypeAlias = Dalle1 | Dalle2 | DfGan | Glide

Settings: TypeAlias = DfGanSettings | GlideSettings | PaintSettings | TokenSettings

# What each model may be asked for besides, its usual way first, as people read it.
VARIANTS: dict[str, dict[str, str]] = {
    "dfgan": {"plain": "DF-GAN", "truncated": "DF-GAN (truncated noise)"},
    "dalle1": {"plain": "DALL-E 1", "reranked": "DALL-E 1 (re-ranked)"},
    "glide": {
        "classifier-free": "GLIDE (classifier-free)",
        "clip": "GLIDE (CLIP guidance)",
        "both": "GLIDE (both guidances)",
    },
    "dalle2": {
        "diffusion": "DALL-E 2 (diffusion prior)",
        "autoregressive": "DALL-E 2 (autoregressive prior)",
        "none": "DALL-E 2 (no prior)",
    },
}
# The article's four systems in the variants that their papers compare.
ARTICLE = "dfgan,dalle1,dalle1:reranked,glide:clip,glide,dalle2:autoregressive,dalle2"
# As the released code of DF-GAN paints for its published distance.
TRUNCATION = 0.88
# How many candidates CLIP chooses each picture from. The paper has 512.
CANDIDATES = 4


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """Who paints. `variant`: one of `VARIANTS` of its `model`; `weights`: None for those that ship."""

    model: str
    variant: str
    weights: Path | None = None

    @property
    def name(self) -> str:
        """As it is asked for, without its weights: its usual way goes by the model's name alone."""
        usual = next(iter(VARIANTS[self.model]))
        return self.model if self.variant == usual else f"{self.model}:{self.variant}"

    @property
    def folder(self) -> str:
        """Its name as a folder's."""
        return self.name.replace(":", "-")

    @property
    def title(self) -> str:
        """As people read it."""
        return VARIANTS[self.model][self.variant]

    @property
    def word(self) -> str:
        """As it is asked for, with its weights."""
        return self.name if self.weights is None else f"{self.name}={self.weights}"

    def place(self) -> Path:
        """Where its weights lie. LimnerError, with the remedy, where they do not."""
        if self.weights is None:
            return shipped(self.model)
        if not self.weights.is_dir():
            raise LimnerError(
                f"models holds '{self.name}={self.weights}', where no folder is: give OUT/line of `limner "
                "train`"
            )
        return self.weights


def entrants(models: str) -> tuple[Entrant, ...]:
    """Who is named, with commas between. ValueError for nobody, an unknown name or variant, or a double."""
    found: dict[str, Entrant] = {}
    for word in (part.strip() for part in models.split(",")):
        if not word:
            raise ValueError(
                f"models is '{models}', which names nobody somewhere: give names such as {ARTICLE}"
            )
        one = entrant(word)
        if one.name in found:
            raise ValueError(f"models holds '{one.name}' twice: name everybody once")
        found[one.name] = one
    return tuple(found.values())


def placed(everybody: Sequence[Entrant]) -> None:
    """Raise LimnerError unless everybody's weights are there: once, for all who have none in this copy."""
    waiting = []
    for one in everybody:
        try:
            one.place()
        except LimnerError:
            if one.weights is not None:
                raise
            waiting.append(one)
    if not waiting:
        return
    whose = "its" if len(waiting) == 1 else "their"
    names = ", ".join(one.name for one in waiting)
    told = f"{names} cannot paint: {whose} weights are not in this copy of limner; "
    if rest := ",".join(one.word for one in everybody if one not in waiting):
        told += f"compare the others, with --models {rest}, or "
    models = dict.fromkeys(one.model for one in waiting)
    own = ",".join(f"{one.name}=OUT/line" for one in waiting)
    train = " and ".join(
        f"`limner train {name} --size small --data DIR{more} --out OUT`"
        for name, more in (PAINTERS[model] for model in models)
    )
    raise LimnerError(f"{told}give weights of your own, as in --models {own}, from {train}")


def entrant(word: str) -> Entrant:
    """The one that a word names: NAME, NAME:VARIANT, either with =PATH."""
    named, _, path = word.partition("=")
    model, colon, variant = named.partition(":")
    if model not in VARIANTS:
        raise ValueError(
            f"models holds '{word}': choose among {', '.join(VARIANTS)}, a variant after a colon and "
            "weights of your own after an equals sign, as in dalle2:autoregressive=runs/mine/line"
        )
    offered = VARIANTS[model]
    if not colon:
        variant = next(iter(offered))
    if variant not in offered:
        raise ValueError(f"models holds '{word}': of {model} there is {', '.join(offered)}")
    if "=" in word and not path:
        raise ValueError(
            f"models holds '{word}', with no path after the equals sign: give one, or leave it out"
        )
    return Entrant(model=model, variant=variant, weights=Path(path) if path else None)


def settings_of(one: Entrant, usual: Settings, *, count: int) -> Settings:
    """How it paints `count` pictures of a prompt, from how its model does unless somebody says otherwise."""
    match usual:
        case DfGanSettings():
            return replace(usual, truncation=TRUNCATION) if one.variant == "truncated" else usual
        case TokenSettings():
            chosen = min(CANDIDATES * count, MOST_RANKED) if one.variant == "reranked" else None
            return replace(usual, candidates=chosen)
        case GlideSettings():
            return replace(usual, guidance_kind=cast("GuidanceKind", one.variant))
        case PaintSettings():
            return replace(usual, prior=cast("Prior", one.variant))


def loaded(one: Entrant, *, device: str, precision: Precision) -> "Painter":
    """Its painter, with its weights; half precision for those that have it."""
    from limner.pipelines import load

    place = one.place()
    match one.model:
        case "dfgan":
            return load("dfgan", weights=place, device=device)
        case "dalle1":
            return load("dalle1", weights=place, device=device)
        case "glide":
            return load("glide", weights=place, device=device, precision=precision)
        case _:
            return load("dalle2", weights=place, device=device, precision=precision)


def precision_of(one: Entrant, precision: Precision) -> Precision:
    """The arithmetic that it paints in, where this is asked for."""
    return "fp32" if one.model in NO_UNET else precision
