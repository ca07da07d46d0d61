"""The images API that every DALL-E client speaks, on your own machine.

    >>> limner serve --models dalle2,glide
    >>> client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
    >>> client.images.generate(prompt="a red apple", size="256x256")

A request comes in (`door`, `origins`), is read (`wire`, `forms`, `pictures`), waits for its turn (`queue`),
is painted beside others that want the same settings (`painters`), and its pictures are kept for an hour
(`gallery`). `painting` and `embedding` have the routes that work, `app` puts all together.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.server.app import create_app
    from limner.server.running import run
    from limner.server.service import Limits, Service

__all__ = ["Limits", "Service", "create_app", "run"]


def __getattr__(name: str) -> Any:
    # Read without fastapi, so that the command can be helped where it is not installed.
    if name == "create_app":
        from limner.server.app import create_app

        return create_app
    if name == "run":
        from limner.server.running import run

        return run
    if name in ("Limits", "Service"):
        from limner.server import service

        return getattr(service, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
