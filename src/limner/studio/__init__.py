"""The page: painting, mending, blending and looking inside, on your own machine.

    >>> limner studio

A page of Gradio in the server of `limner serve`, so that both live at one address. Every tab is a file with
two halves: plain functions that do the work, and one that builds the tab from them. Whatever computes waits
its turn in the service's line (`turns`), beside the requests of the API. `shown` makes HTML of what came out,
`page` puts the tabs together. Nothing is fetched from anywhere else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.studio.page import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    # Read without gradio, so that the command can be helped where it is not installed.
    if name == "create_app":
        from limner.studio.page import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
