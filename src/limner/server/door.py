"""Who comes in, and how much may be carried: asked before anything is read.

An ASGI middleware, for a body must be stopped while it comes.
"""

import hmac
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.server.errors import Refused
from limner.server.metrics import Metrics

# What needs no key: whether the server lives, how it is spoken to, and pictures, whose names are keys.
OPEN = ("/", "/healthz", "/docs", "/openapi.json")
PICTURES = "/pictures/"


class Door:
    """Lets requests in to `app` that have one of the `keys`, if there are any, and at most `body` bytes.

    `guarded`: what begins so asks for a key by itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[str],
        body: int,
        metrics: Metrics,
        guarded: tuple[str, ...] = (),
    ) -> None:
        self.app = app
        self.keys = tuple(key.encode() for key in keys)
        self.body = body
        self.open = (PICTURES, *guarded)
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._let_in(scope, receive, counted)
        except Exception:
            status = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status or "gone")).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not self._known(scope["path"], headers):
            said = "is missing" if "authorization" not in headers else "is not one of this server's"
            refused = Refused(
                f"the API key {said}: send Authorization: Bearer KEY", status=401, code="invalid_api_key"
            )
            await refused.response()(scope, receive, send)
            return
        told = headers.get("content-length", "0")
        if not told.isdecimal() or int(told[:20]) > self.body:
            await self._too_much().response({"Connection": "close"})(scope, receive, send)
            return
        came = 0

        async def bounded() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self.body:
                # Of all exceptions the one that whoever reads the body lets through.
                raise HTTPException(413, self._too_much().message, {"Connection": "close"})
            return message

        await self.app(scope, bounded, send)

    def _known(self, path: str, headers: Headers) -> bool:
        if not self.keys or path in OPEN or path.startswith(self.open):
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        # All are compared, in a time that says nothing of how much of a key was right.
        same = [hmac.compare_digest(given.strip().encode("latin-1", "replace"), key) for key in self.keys]
        return kind.lower() == "bearer" and any(same)

    def _too_much(self) -> Refused:
        return Refused(
            f"the body is larger than {self.body:,} bytes: send smaller pictures, or fewer",
            status=413,
            code="body_too_large",
        )
