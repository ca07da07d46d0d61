"""A server from its first request to its last: what is being painted when it is told to stop is finished."""

import asyncio
import contextlib
import os
import signal
import socket
import warnings
from collections.abc import Callable
from types import FrameType

import uvicorn
from PIL import Image
from starlette.types import ASGIApp

from limner.errors import LimnerError
from limner.server.app import create_app
from limner.server.connection import Connection
from limner.server.service import Service
from limner.text import CutCaptionWarning, UnknownCharacterWarning

# Seconds for connections that were asked to end.
PATIENCE = 10
# Seconds after which it is looked whether something has ended, or is to end at once.
BEAT = 0.1


def run(
    service: Service,
    *,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    app: ASGIApp | None = None,
    let_go: Callable[[], None] | None = None,
    give_up: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is being painted and answer 503 to all that waits.

    `port`: 0 for any that is free. `on_ready` is told the server's address once it listens. `app`: the API of
    the service with something beside it; the API alone without. `let_go` is called after the last picture, to
    end connections that would last for ever. A second signal ends the process at once, with the status that
    signals have (130 of Ctrl-C), after `give_up`, which waits for nothing. Raises LimnerError for an address
    that cannot be listened at.
    """
    listening = bound(host, port)
    config = configured(
        service,
        create_app(service) if app is None else app,
        patience=None if let_go is None else PATIENCE,
    )
    name = f"[{host}]" if ":" in host else host
    on_ready(f"http://{name}:{listening.getsockname()[1]}")
    with warnings.catch_warnings():
        # What a stranger sent is no news to whoever runs the server, would come to their terminal as it was
        # sent, and every one would be remembered.
        for kind in (CutCaptionWarning, UnknownCharacterWarning, Image.DecompressionBombWarning):
            warnings.simplefilter("ignore", kind)
        Draining(config, service, let_go, give_up).run(sockets=[listening])


def configured(service: Service, app: ASGIApp, *, patience: int | None = None) -> uvicorn.Config:
    """How uvicorn is to serve it, and end connections in `patience` seconds, or None for as they please.

    Who asks is whoever is at the other end, unless that is one of the service's proxies.
    """
    return uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(service.proxies),
        forwarded_allow_ips=list(service.proxies),
        timeout_keep_alive=30,
        timeout_graceful_shutdown=patience,
    )


class Draining(uvicorn.Server):
    """Begins nothing new from the moment it is told to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        let_go: Callable[[], None] | None = None,
        give_up: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self.service = service
        self.let_go = let_go
        self.give_up = give_up

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does; and to be told to stop is no failure."""
        self.service.close()
        ended = asyncio.ensure_future(self._drain(sockets))
        # Whatever is waited for there, a second signal does not wait for it.
        while not ended.done() and not self.force_exit:
            await asyncio.wait({ended}, timeout=BEAT)
        if self.force_exit:
            self._end_at_once()
        await ended
        self._captured_signals = [sig for sig in self._captured_signals if sig != signal.SIGTERM]

    async def _drain(self, sockets: list[socket.socket] | None) -> None:
        if self.let_go is not None:
            while not self.service.painting.ended:
                await asyncio.sleep(BEAT)
            self.let_go()
        await super().shutdown(sockets)

    def _end_at_once(self) -> None:
        if self.give_up is not None:
            self.give_up()
        with contextlib.suppress(OSError):  # The next server takes away what is left.
            self.service.gallery.close()
        # Python would wait for the threads that wait for pictures.
        os._exit(128 + self._captured_signals[-1])


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. LimnerError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise LimnerError(f"cannot listen at {host}:{port}: {said}; give another --host or --port") from error
