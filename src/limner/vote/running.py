"""The page from its first rater to its last: told to stop, it ends when it has answered."""

import signal
import socket
from collections.abc import Callable

import uvicorn

from limner.server.running import bound
from limner.vote.app import create_app
from limner.vote.study import Study

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def run(
    study: Study, *, host: str, port: int, names: bool, alone: bool, on_ready: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT. `on_ready` is told the address once it listens.

    `alone`: only this machine gets in, so that it answers to this machine's names alone, and a page of
    somebody else's in a browser here does not reach it. LimnerError for an address that is taken.
    """
    listening = bound(host, port)
    app = create_app(study, hosts=(*LOOPBACK, host) if alone else ("*",), names=names)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    name = f"[{host}]" if ":" in host else host
    on_ready(f"http://{name}:{listening.getsockname()[1]}")
    try:
        Stopping(config).run(sockets=[listening])
    finally:
        study.store.close()


class Stopping(uvicorn.Server):
    """To be told to stop is no failure."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, and the signal is not raised again afterwards."""
        await super().shutdown(sockets)
        self._captured_signals = [sig for sig in self._captured_signals if sig != signal.SIGTERM]
