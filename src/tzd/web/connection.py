"""Connections that hold nobody up: whoever sends half a request, or does not read what is sent, is let go."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

TICK = 5.0  # seconds between two looks
PATIENCE = 3  # looks at which nothing moves
SLOWEST = 1024  # bytes a second; who reads less does not read
BUFFER = 4096  # bytes on their way to a reader before others wait
MOST = 200  # connections; a browser has six at most for a page, and one while it waits


class Connection(H11Protocol):
    """HTTP/1.1 with an end to patience."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to watch."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=BUFFER)
        self._request: Any = self  # the last one seen; at first none has been, and there is time for one
        self._left = self._idle = 0
        self._moved = False
        self._look = self.loop.call_later(TICK, self._watch)
        if len(self.connections) > MOST:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends watching."""
        self._look.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Called when a reader has caught up."""
        self._moved = True
        super().resume_writing()

    def _watch(self) -> None:
        if self._asks_nothing() or self._reads_nothing():
            self.transport.abort()
        else:
            self._look = self.loop.call_later(TICK, self._watch)

    def _asks_nothing(self) -> bool:
        """Whether no request has begun since the last look, and none is being answered."""
        before, self._request = self._request, self.cycle
        return (
            before is self.cycle and (self.cycle is None or self.cycle.response_complete) and not self._left_to_send()
        )

    def _reads_nothing(self) -> bool:
        """Whether what has been written does not get through, at one look after the other."""
        left = self._left_to_send()
        waits = self.flow.write_paused or self.transport.is_closing()
        stuck = waits and left > 0 and not self._moved and left > self._left - SLOWEST * TICK
        self._idle = self._idle + 1 if stuck else 0
        self._left, self._moved = left, False
        return self._idle >= PATIENCE

    def _left_to_send(self) -> int:
        return int(self.transport.get_write_buffer_size())
