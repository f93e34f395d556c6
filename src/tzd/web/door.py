"""What reaches the page: its own requests, from its own address, of a bounded size. All else ends here."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

DATA = "/gradio_api/queue/data"
GET = ("/", "/config", "/theme.css", "/favicon.ico", DATA, "/gradio_api/startup-events")
BELOW = ("/assets/", "/static/", "/gradio_api/heartbeat/", "/run/")  # GET too
JOIN = "/gradio_api/queue/join"
POST = (JOIN, "/gradio_api/cancel", "/gradio_api/reset")
SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


class Door:
    """ASGI middleware: the library behind the page also serves files, takes uploads, fetches addresses; not here.

    Args:
        app: what is behind it.
        largest: bytes of a request's body.
        runs: how many values each run takes, by its number.
    """

    def __init__(self, app: App, largest: int, runs: Mapping[int, int]) -> None:
        self._app, self._largest, self._runs = app, largest, runs

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it in a line."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD") and (path in GET or path.startswith(BELOW)) and ".." not in path:
            query = scope["query_string"] if path == DATA else b""  # what the others would do with one, nobody asks for
            await self._app({**scope, "query_string": query}, receive, send)
        elif method == "POST" and path in POST:
            await self._post(scope, receive, send)
        else:
            await _refuse(send, 404, "there is nothing here")

    async def _post(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if "origin" in headers and _host(headers["origin"]) != headers.get("host"):
            await _refuse(send, 403, "requests from other pages are refused")
            return
        body, more = b"", True
        while more and len(body) <= self._largest:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > self._largest:
            await _refuse(send, 413, f"a request has at most {self._largest} bytes")
            return
        asked = self._run(body) if scope["path"] == JOIN else body
        if asked is None:
            await _refuse(send, 400, "a request names a run and its session, and has the run's texts and numbers")
        else:
            await self._app(scope, _again(asked, receive), send)

    def _run(self, body: bytes) -> bytes | None:
        """What a request says of a run, and nothing else; None where it is none.

        All values are texts, numbers, truth values or nothing: no files, no addresses to fetch.
        """
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(asked, dict):
            return None
        which, data, session = (asked.get(key) for key in ("fn_index", "data", "session_hash"))
        if not isinstance(session, str) or not SESSION.fullmatch(session) or not isinstance(which, int):
            return None
        if not isinstance(data, list) or len(data) != self._runs.get(which):
            return None
        if not all(isinstance(value, (str, int, float, type(None))) for value in data):
            return None
        return json.dumps({"fn_index": which, "data": data, "session_hash": session}).encode()


def _host(origin: str) -> str:
    """Host and port of an address; nothing where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


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
