"""The rooms put together: words in, pictures out, every step in between there to be looked at.

    >>> painter = limner.load("dalle2")
    >>> painter.paint("a red apple", count=4, seed=0)

A pipeline is a dataclass of networks whose methods are the steps of the paper's figure; `paint` runs them in
order and can hand out what each of them made.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from limner.errors import on_disk
from limner.pipelines.settings import (
    DfGanSettings,
    GlideSettings,
    PaintSettings,
    Precision,
    TokenSettings,
    checked_arithmetic,
    checked_model,
    is_place,
)
from limner.weights import shipped

if TYPE_CHECKING:
    from limner.pipelines.autoencoders import Autoencoder, load_autoencoder
    from limner.pipelines.classification import classify
    from limner.pipelines.dalle1 import Dalle1
    from limner.pipelines.dalle2 import Dalle2
    from limner.pipelines.dalle_mini import DalleMini
    from limner.pipelines.dfgan import DfGan
    from limner.pipelines.explaining import explain
    from limner.pipelines.generators import Generator, load_generator
    from limner.pipelines.glide import Glide
    from limner.pipelines.ranking import rank
    from limner.pipelines.search import find, index

__all__ = [
    "Autoencoder",
    "Dalle1",
    "Dalle2",
    "DalleMini",
    "DfGan",
    "DfGanSettings",
    "Generator",
    "Glide",
    "GlideSettings",
    "PaintSettings",
    "TokenSettings",
    "classify",
    "explain",
    "find",
    "index",
    "load",
    "load_autoencoder",
    "load_generator",
    "rank",
]


@overload
def load(
    model: Literal["dalle1"],
    *,
    weights: Path | None = ...,
    device: str = ...,
    precision: Precision = ...,
    compile: bool = ...,
) -> "Dalle1": ...


@overload
def load(
    model: Literal["dalle2"],
    *,
    weights: Path | None = ...,
    device: str = ...,
    precision: Precision = ...,
    compile: bool = ...,
) -> "Dalle2": ...


@overload
def load(
    model: Literal["dfgan"],
    *,
    weights: Path | None = ...,
    device: str = ...,
    precision: Precision = ...,
    compile: bool = ...,
) -> "DfGan": ...


@overload
def load(
    model: Literal["glide"],
    *,
    weights: Path | None = ...,
    device: str = ...,
    precision: Precision = ...,
    compile: bool = ...,
) -> "Glide": ...


@overload
def load(
    model: Literal["dalle_mini"],
    *,
    weights: Path,
    device: str = ...,
    precision: Precision = ...,
    compile: bool = ...,
) -> "DalleMini": ...


@overload
def load(
    model: str | Path,
    *,
    weights: Path | None = ...,
    device: str = ...,
    precision: Precision = ...,
    compile: bool = ...,
) -> "Dalle1 | Dalle2 | DalleMini | DfGan | Glide": ...


def load(
    model: str | Path,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    precision: Precision = "fp32",
    compile: bool = False,
) -> "Dalle1 | Dalle2 | DalleMini | DfGan | Glide":
    """The painter called `model`, with the weights that ship or those in the folder `weights`.

    `model` may be the path of weights that paint instead, of limner's own or as others released them, or
    hub:owner/name; what paints with them is told by what lies there.
    `device`: cpu, cuda, mps, or auto for the fastest that is there. `precision`: "bf16" lets U-Nets multiply
    in half precision, which is faster where the processor can. `compile`: PyTorch's compiler fuses U-Nets at
    their first steps, which takes minutes (and a C++ compiler on a CPU) and pays for many pictures. dalle1,
    dalle_mini and dfgan have no U-Net and take neither; weights of dalle_mini do not ship. Raises ValueError
    for a model, device or precision that is not offered, LimnerError for weights that do not load.
    """
    with on_disk(Path(model) if weights is None else Path(weights)):
        return _load(model, weights=weights, device=device, precision=precision, compile=compile)


def _load(
    model: str | Path, *, weights: Path | None, device: str, precision: Precision, compile: bool
) -> "Dalle1 | Dalle2 | DalleMini | DfGan | Glide":
    if is_place(model):
        if weights is not None:
            raise ValueError(f"weights is {weights}, and model is {model}, weights already: give one of them")
        from limner.formats.hub import resolved
        from limner.pipelines.folders import model_of

        weights = resolved(Path(model))
        model = model_of(weights)
    model = str(model)
    checked_model(model, weights=weights)
    checked_arithmetic(model, precision=precision, compile=compile)
    from limner.formats.hub import resolved

    folder = shipped(model) if weights is None else resolved(Path(weights))
    if model == "dalle1":
        from limner.pipelines.dalle1 import Dalle1

        return Dalle1.load(folder, device=device)
    if model == "dalle_mini":
        from limner.pipelines.dalle_mini import DalleMini

        return DalleMini.load(folder, device=device)
    if model == "dfgan":
        from limner.pipelines.dfgan import DfGan

        return DfGan.load(folder, device=device)
    if model == "glide":
        from limner.pipelines.glide import Glide

        return Glide.load(folder, device=device, precision=precision, compile=compile)
    from limner.pipelines.dalle2 import Dalle2

    return Dalle2.load(folder, device=device, precision=precision, compile=compile)


def __getattr__(name: str) -> Any:
    # Settings are read and prompts refused before torch is needed.
    if name == "Dalle1":
        from limner.pipelines.dalle1 import Dalle1

        return Dalle1
    if name == "Dalle2":
        from limner.pipelines.dalle2 import Dalle2

        return Dalle2
    if name == "DalleMini":
        from limner.pipelines.dalle_mini import DalleMini

        return DalleMini
    if name == "DfGan":
        from limner.pipelines.dfgan import DfGan

        return DfGan
    if name == "Glide":
        from limner.pipelines.glide import Glide

        return Glide
    if name == "rank":
        from limner.pipelines.ranking import rank

        return rank
    if name == "classify":
        from limner.pipelines.classification import classify

        return classify
    if name == "explain":
        from limner.pipelines.explaining import explain

        return explain
    if name in ("find", "index"):
        from limner.pipelines import search

        return getattr(search, name)
    if name in ("Autoencoder", "load_autoencoder"):
        from limner.pipelines import autoencoders

        return getattr(autoencoders, name)
    if name in ("Generator", "load_generator"):
        from limner.pipelines import generators

        return getattr(generators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
