"""Who comes in, by what name, and how much may be carried: asked before anything is read.

An ASGI middleware, for a body must be stopped while it comes.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.server.errors import Refused
from limner.server.metrics import Metrics
from limner.server.origins import Origins, asks_permission, permission

# What needs no key: whether the server lives, how it is spoken to, and pictures, whose names are keys.
OPEN = ("/", "/healthz", "/docs", "/openapi.json")
PICTURES = "/pictures/"


@dataclass
class Room:
    """How many requests are being answered, and how many bytes they hold."""

    within: int = 0
    held: int = 0


class Door:
    """Lets requests in to `app` that have one of the `keys`, if there are any, and at most `body` bytes.

    `origins` says by what names it may be asked and by pages from where. At most `at_once` requests are being
    answered, with `carried` bytes together, for each is held until it is; a body is waited for `arriving`
    seconds. `guarded`: what begins so asks for a key by itself, and of requests that come without one `known`
    says whether it has let them in before.

    Who has no key is counted apart, within the same bounds: strangers may fill a room, and it is not that of
    those who have one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[str],
        origins: Origins,
        at_once: int,
        body: int,
        carried: int,
        arriving: float,
        metrics: Metrics,
        guarded: tuple[str, ...] = (),
        known: Callable[[Headers], bool] = lambda _: False,
    ) -> None:
        self.app = app
        self.origins = origins
        self.keys = tuple(key.encode() for key in keys)
        self.body = body
        self.open = (PICTURES, *guarded)
        self.at_once = at_once
        self.carried = carried
        self.arriving = arriving
        self.known = known
        self._inside, self._outside = Room(), Room()
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket":
            # None are served, and none are to slip by.
            await send({"type": "websocket.close", "code": 1008})
            return
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
            await self._let_pages_in(scope, receive, counted)
        except Exception:  # Counted as a fault of ours and passed on: what answers it is further out.
            status = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status or "gone")).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)

    async def _let_pages_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refused = self.origins.refusal(headers)
        if refused is not None:
            await refused.response()(scope, receive, send)
            return
        readable = self.origins.told(headers)
        if readable and asks_permission(scope["method"], headers):
            await Response(status_code=204, headers={**readable, **permission(headers)})(scope, receive, send)
            return

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Who may read is said here and nowhere further in: a page's framework has rules of its own.
                raw = [
                    (name, value)
                    for name, value in message.get("headers", [])
                    if not name.lower().startswith(b"access-control-")
                ]
                more = MutableHeaders(raw=raw)
                if readable:
                    more.update(readable)
                    more.add_vary_header("Origin")
                message = {**message, "headers": more.raw}
            await send(message)

        await self._let_in(scope, receive, telling, headers)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        key = self._key(headers)
        if self.keys and key is None and not self._is_open(scope["path"]):
            what = "is missing" if "authorization" not in headers else "is not one of this server's"
            refused = Refused(
                f"the API key {what}: send Authorization: Bearer KEY", status=401, code="invalid_api_key"
            )
            await refused.response()(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = self._caller(scope, key)
        told = headers.get("content-length", "0")
        if not told.isdecimal() or int(told[:20]) > self.body:
            await self._too_much().response({"Connection": "close"})(scope, receive, send)
            return
        welcome = not self.keys or key is not None or self.known(headers)
        room = self._inside if welcome else self._outside
        if room.within >= self.at_once and scope["path"] not in OPEN:
            refused = Refused(
                f"{self.at_once} requests are being answered, which is as many as may: try again in 5 s",
                status=429,
                code="rate_limit_exceeded",
                retry_after=5,
            )
            await refused.response({"Connection": "close"})(scope, receive, send)
            return
        room.within += 1
        try:
            await self._answer(scope, receive, send, room)
        finally:
            room.within -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send, room: Room) -> None:
        came, whole = 0, False
        loop = asyncio.get_running_loop()
        until = loop.time() + self.arriving

        async def bounded() -> Message:
            nonlocal came, whole
            # Behind the body comes only that the client has gone, which may take as long as it likes.
            try:
                async with asyncio.timeout_at(None if whole else until):
                    message = await receive()
            except TimeoutError:
                said = f"the body was not whole after {self.arriving:g} s: send it again, by a better line"
                raise HTTPException(408, said, {"Connection": "close"}) from None
            whole = not message.get("more_body", False)
            size = len(message.get("body", b""))
            came += size
            room.held += size
            # Of all exceptions this is the one that whoever reads the body lets through.
            if came > self.body:
                raise HTTPException(413, self._too_much().message, {"Connection": "close"})
            if room.held > self.carried:
                said = "as many bytes as the server holds are on their way: try again in 5 s"
                raise HTTPException(429, said, {"Connection": "close", "Retry-After": "5"})
            return message

        try:
            await self.app(scope, bounded, send)
        finally:
            room.held -= came

    def _is_open(self, path: str) -> bool:
        return path in OPEN or path.startswith(self.open)

    def _key(self, headers: Headers) -> int | None:
        """Which of the keys was given, if one of them was."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        # All are compared, in a time that says nothing of how much of a key was right.
        same = [hmac.compare_digest(given.strip().encode("latin-1", "replace"), key) for key in self.keys]
        return same.index(True) if kind.lower() == "bearer" and any(same) else None

    def _caller(self, scope: Scope, key: int | None) -> str:
        """Who takes turns with others: whoever has a key of several, else whoever is at an address."""
        if len(self.keys) > 1 and key is not None:
            return f"key {key}"
        client = scope.get("client")
        return client[0] if client else ""

    def _too_much(self) -> Refused:
        return Refused(
            f"the body is larger than {self.body:,} bytes: send smaller pictures, or fewer",
            status=413,
            code="body_too_large",
        )


def caller(request: Request) -> str:
    """Who asks, as the door knows them: whose turn it is goes by that."""
    name: str = request.state.caller
    return name
