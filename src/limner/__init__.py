"""limner: the DALL-E line, whole, trained here, small enough for a laptop.

*limner (n.): one who illuminates a text; a painter of pictures from words.*

    >>> import limner
    >>> limner.load("dalle2").paint("a red apple")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.pipelines import load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `import limner` answers at once: torch comes in with the first call that needs it.
    if name == "load":
        from limner.pipelines import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
