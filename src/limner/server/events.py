"""Server-sent events, by the names that the images API has for them."""

import base64
import json
from collections.abc import Mapping

# What keeps a connection open while nothing happens; clients skip it.
NOTHING = b": waiting\n\n"
SECONDS = 10.0


def event(name: str, data: Mapping[str, object]) -> bytes:
    """One event: its name stands in its data as well, as clients expect it."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def failed(told: Mapping[str, object]) -> bytes:
    """The last event of a stream that broke."""
    return f"event: error\ndata: {json.dumps(told)}\n\n".encode()


def shown(png: bytes, *, side: int, created: int) -> dict[str, object]:
    """What all events say of a picture."""
    return {
        "b64_json": base64.b64encode(png).decode(),
        "created_at": created,
        "size": f"{side}x{side}",
        "quality": "auto",
        "background": "opaque",
        "output_format": "png",
    }
