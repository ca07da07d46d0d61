"""The rooms put together: words in, pictures out, every step in between there to be looked at.

    >>> painter = limner.load("dalle2")
    >>> painter.paint("a red apple", count=4, seed=0)

A pipeline is a dataclass of networks whose methods are the steps of the paper's figure; `paint` runs them in
order and can hand out what each of them made.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from limner.pipelines.settings import PaintSettings, TokenSettings, checked_model
from limner.weights import shipped

if TYPE_CHECKING:
    from limner.pipelines.autoencoders import Autoencoder, load_autoencoder
    from limner.pipelines.dalle1 import Dalle1
    from limner.pipelines.dalle2 import Dalle2
    from limner.pipelines.generators import Generator, load_generator
    from limner.pipelines.ranking import rank

__all__ = [
    "Autoencoder",
    "Dalle1",
    "Dalle2",
    "Generator",
    "PaintSettings",
    "TokenSettings",
    "load",
    "load_autoencoder",
    "load_generator",
    "rank",
]


@overload
def load(model: Literal["dalle1"], *, weights: Path | None = ..., device: str = ...) -> "Dalle1": ...


@overload
def load(model: Literal["dalle2"], *, weights: Path | None = ..., device: str = ...) -> "Dalle2": ...


@overload
def load(model: str, *, weights: Path | None = ..., device: str = ...) -> "Dalle1 | Dalle2": ...


def load(model: str, *, weights: Path | None = None, device: str = "cpu") -> "Dalle1 | Dalle2":
    """The painter called `model`, with the weights that ship or those in the folder `weights`.

    `device`: cpu, cuda, mps, or auto for the fastest that is there.
    Raises ValueError for a model or device that is not offered, LimnerError for weights that do not load.
    """
    checked_model(model)
    folder = shipped(model) if weights is None else Path(weights)
    if model == "dalle1":
        from limner.pipelines.dalle1 import Dalle1

        return Dalle1.load(folder, device=device)
    from limner.pipelines.dalle2 import Dalle2

    return Dalle2.load(folder, device=device)


def __getattr__(name: str) -> Any:
    # Settings are read and prompts refused before torch is needed.
    if name == "Dalle1":
        from limner.pipelines.dalle1 import Dalle1

        return Dalle1
    if name == "Dalle2":
        from limner.pipelines.dalle2 import Dalle2

        return Dalle2
    if name == "rank":
        from limner.pipelines.ranking import rank

        return rank
    if name in ("Autoencoder", "load_autoencoder"):
        from limner.pipelines import autoencoders

        return getattr(autoencoders, name)
    if name in ("Generator", "load_generator"):
        from limner.pipelines import generators

        return getattr(generators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
