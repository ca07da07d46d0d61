"""One connection, which has to say what it wants in a while, or is closed.

Uvicorn waits for the head of a request as long as it takes; who sends a byte a minute would hold a connection
for ever, and there are only so many.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds for the head of a request: from when the connection was made, or from the first byte after another.
HEAD = 30.0


class Connection(H11Protocol):
    """As uvicorn's, with a bound on how long a head may take."""

    _late: asyncio.TimerHandle | None = None

    # Narrower than asyncio's, as uvicorn's own is, which this one calls.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection stands, and nothing was asked yet."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._rest()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._rest()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(HEAD, self.transport.close)

    def _rest(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
