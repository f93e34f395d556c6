"""What a browser hears of its runs: events, on a connection that it keeps open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tzd.web.queue import Session

PULSE = 15.0  # seconds after which silence is broken, so that nobody in between takes a connection for dead
LINGER = 30.0  # seconds that a browser has for hanging up

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def tell(session: Session, receive: Receive, send: Send) -> None:
    """Tells a session's news until its runs are over or the browser has gone."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
    going: asyncio.Future[Any] = asyncio.ensure_future(_gone(receive))
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not going.done():
            for message in session.take():
                await _say(send, message)
            if not session.runs:
                session.closing = True
                await _say(send, {"msg": "close_stream"})
                await asyncio.wait([going], timeout=LINGER)
                break
            if not await _either(going, session.news):
                await _say(send, {"msg": "heartbeat"})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        going.cancel()


async def _say(send: Send, message: Any) -> None:
    await send(
        {"type": "http.response.body", "body": b"data: %s\n\n" % json.dumps(message).encode(), "more_body": True}
    )


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _either(going: asyncio.Future[Any], news: asyncio.Event) -> bool:
    """Waits for one of them; whether it came before a pulse is due."""
    heard: asyncio.Future[Any] = asyncio.ensure_future(news.wait())
    try:
        return bool((await asyncio.wait([going, heard], timeout=PULSE, return_when=asyncio.FIRST_COMPLETED))[0])
    finally:
        heard.cancel()
