"""Who comes in, by what name, and how much may be carried: asked before anything is read.

An ASGI middleware, for a body must be stopped while it comes.
"""

import hmac
import time
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.server.errors import Refused
from limner.server.metrics import Metrics

# What needs no key: whether the server lives, how it is spoken to, and pictures, whose names are keys.
OPEN = ("/", "/healthz", "/docs", "/openapi.json")
PICTURES = "/pictures/"


class Door:
    """Lets requests in to `app` that have one of the `keys`, if there are any, and at most `body` bytes.

    All that are being answered have at most `carried` bytes together, for each is held until it is. `hosts`:
    the names that may be asked by, beside loopback addresses, and that pages may be from; any if empty. Else
    a page of somebody else's, in a browser on this machine, reaches what listens to this machine alone.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[str],
        hosts: Sequence[str],
        body: int,
        carried: int,
        metrics: Metrics,
    ) -> None:
        self.app = app
        self.hosts = tuple(host.lower() for host in hosts)
        self.keys = tuple(key.encode() for key in keys)
        self.body = body
        self.carried = carried
        self._held = 0
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
            await self._let_in(scope, receive, counted)
        except Exception:  # Counted as a fault of ours and passed on: what answers it is further out.
            status = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status or "gone")).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        for said in (f"//{headers.get('host', '')}", headers.get("origin")):
            if said is not None and not self._ours(said):
                refused = Refused(
                    f"{said[:60]!r} is not this server: ask for http://{self.hosts[0]}, or start it with "
                    "a --url of that name",
                    status=403,
                    code="wrong_host",
                )
                await refused.response()(scope, receive, send)
                return
        key = self._key(headers)
        if self.keys and key is None and scope["path"] not in OPEN and not scope["path"].startswith(PICTURES):
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
        came = 0

        async def bounded() -> Message:
            nonlocal came
            message = await receive()
            size = len(message.get("body", b""))
            came += size
            self._held += size
            # Of all exceptions this is the one that whoever reads the body lets through.
            if came > self.body:
                raise HTTPException(413, self._too_much().message, {"Connection": "close"})
            if self._held > self.carried:
                said = "as many bytes as the server holds are on their way: try again in 5 s"
                raise HTTPException(429, said, {"Connection": "close", "Retry-After": "5"})
            return message

        try:
            await self.app(scope, bounded, send)
        finally:
            self._held -= came

    def _ours(self, address: str) -> bool:
        """Whether an address is by one of the names that may be asked by."""
        if not self.hosts:
            return True
        try:
            host = urlsplit(address).hostname or ""
            return host in self.hosts or ip_address(host).is_loopback
        except ValueError:
            return False

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
