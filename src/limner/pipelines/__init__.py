"""The rooms put together: words in, pictures out, every step in between there to be looked at.

    >>> painter = limner.load("dalle2")
    >>> painter.paint("a red apple", count=4, seed=0)

A pipeline is a dataclass of networks whose methods are the steps of the paper's figure; `paint` runs them in
order and can hand out what each of them made.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.pipelines.settings import PaintSettings, checked_model
from limner.weights import shipped

if TYPE_CHECKING:
    from limner.pipelines.dalle2 import Dalle2

__all__ = ["Dalle2", "PaintSettings", "load"]


def load(model: str, *, weights: Path | None = None, device: str = "cpu") -> "Dalle2":
    """The painter called `model`, with the weights that ship or those in the folder `weights`.

    `device`: cpu, cuda, mps, or auto for the fastest that is there.
    Raises ValueError for a model or device that is not offered, LimnerError for weights that do not load.
    """
    checked_model(model)
    folder = shipped(model) if weights is None else Path(weights)
    from limner.pipelines.dalle2 import Dalle2

    return Dalle2.load(folder, device=device)


def __getattr__(name: str) -> Any:
    # Settings are read and prompts refused before torch is needed.
    if name == "Dalle2":
        from limner.pipelines.dalle2 import Dalle2

        return Dalle2
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
