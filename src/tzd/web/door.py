"""What reaches the page: its own requests, from its own address, of a bounded size. All else ends here."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

GET = ("/", "/config", "/theme.css", "/favicon.ico", "/gradio_api/queue/data", "/gradio_api/startup-events")
BELOW = ("/assets/", "/static/", "/gradio_api/heartbeat/", "/run/")  # GET too
JOIN = "/gradio_api/queue/join"
POST = (JOIN, "/gradio_api/cancel", "/gradio_api/reset")


class Door:
    """ASGI middleware: the library behind the page also serves files, takes uploads, fetches addresses; not here.

    Args:
        app: what is behind it.
        largest: bytes of a request's body.
    """

    def __init__(self, app: App, largest: int) -> None:
        self._app, self._largest = app, largest

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it in a line."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD") and (path in GET or path.startswith(BELOW)) and ".." not in path:
            await self._app(scope, receive, send)
        elif method == "POST" and path in POST:
            await self._post(scope, receive, send)
        else:
            await _refuse(send, 404, "there is nothing here")

    async def _post(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if "origin" in headers and urlsplit(headers["origin"]).netloc != headers.get("host"):
            await _refuse(send, 403, "requests from other pages are refused")
            return
        body, more = b"", True
        while more and len(body) <= self._largest:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > self._largest:
            await _refuse(send, 413, f"a request has at most {self._largest} bytes")
        elif scope["path"] == JOIN and not _is_plain(body):
            await _refuse(send, 400, "a request is a JSON object whose data are texts and numbers")
        else:
            await self._app(scope, _again(body, receive), send)


def _is_plain(body: bytes) -> bool:
    """Whether all values of a form are texts, numbers, truth values or nothing: no files, no addresses to fetch."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return False
    data = asked.get("data") if isinstance(asked, dict) else None
    return isinstance(data, list) and all(isinstance(value, (str, int, float, type(None))) for value in data)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that has been read to who comes next."""
    parts = [body]

    async def received() -> Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        return await receive()  # the client's leaving

    return received


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"detail": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
