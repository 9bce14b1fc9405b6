"""Connections of the live page's server: none is held by who says nothing, and all end with it."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from experiments.exploring.workers import Workers

HEAD_S = 10.0
"""How long the head of a request may take, from the connection or the answer before it."""
GRACE_S = 5
"""How long answers may take to end once nothing is simulated; who does not read is cut off."""


class Connection(H11Protocol):
    """A connection that ends where no request comes of it, however slowly its bytes arrive."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def _wait(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(HEAD_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """A server that stops what it simulates before it waits for its answers to end."""

    def __init__(self, workers: Workers, app: Any) -> None:
        config = uvicorn.Config(
            app, log_level="error", server_header=False, ws="none", http=Connection,
            timeout_graceful_shutdown=GRACE_S,
        )  # fmt: skip
        super().__init__(config)
        self._workers = workers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End runs, then answers, then the rest."""
        self._workers.close()
        await super().shutdown(sockets)
