"""What reaches the page: its own requests, from its own address, of a bounded size. All else ends here."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tzd.web.listening import tell
from tzd.web.queue import Queue

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

DATA = "/gradio_api/queue/data"
GET = ("/", "/config", "/theme.css", "/favicon.ico")
BELOW = ("/assets/", "/static/", "/run/")  # GET too
JOIN, CANCEL, RESET = "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset"
POST = (JOIN, CANCEL, RESET)
SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
SECONDS = 10.0  # that a request may take to come

Answer = tuple[int, dict[str, Any]]  # status and JSON


class Door:
    """ASGI: runs and what is heard of them; beside these, what a page is made of, from the library behind it.

    That library also serves files, takes uploads, fetches addresses, and has a queue of its own; not here.

    Args:
        app: what is behind it.
        largest: bytes of a request's body.
        takes: how many values each run takes, by its number.
        queue: who runs and who waits.
    """

    def __init__(self, app: App, largest: int, takes: Mapping[int, int], queue: Queue) -> None:
        self._app, self._largest, self._takes, self._queue = app, largest, takes, queue

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it in a line."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] != "http":
            return
        elif scope["method"] == "GET" and scope["path"] == DATA:
            await self._listen(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD") and _is_of_the_page(scope["path"]):
            await self._app({**scope, "query_string": b""}, receive, send)  # with a query it would do other things
        elif scope["method"] == "POST" and scope["path"] in POST:
            await _answer(send, *await self._post(scope, receive))
        else:
            await _answer(send, 404, {"detail": "there is nothing here"})

    async def _live(self, receive: Receive, send: Send) -> None:
        """From the server's begin to its end; the library's own threads and timers never begin."""
        for now in ("startup", "shutdown"):
            await receive()
            if now == "shutdown":
                self._queue.close()
            await send({"type": f"lifespan.{now}.complete"})

    async def _listen(self, scope: Message, receive: Receive, send: Send) -> None:
        names = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
        session = self._queue.listen(names[0])
        if session is None:
            await _answer(send, 404, {"detail": "no such session has a run, or somebody listens to it already"})
            return
        try:
            await tell(session, receive, send)
        finally:
            self._queue.leave(session)

    async def _post(self, scope: Message, receive: Receive) -> Answer:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if "origin" in headers and _host(headers["origin"]) != headers.get("host"):
            return 403, {"detail": "requests from other pages are refused"}
        try:
            body = await asyncio.wait_for(self._body(receive), SECONDS)
        except asyncio.TimeoutError:
            return 408, {"detail": f"a request comes within {SECONDS:g} seconds"}
        if len(body) > self._largest:
            return 413, {"detail": f"a request has at most {self._largest} bytes"}
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            return 400, {"detail": "a request is a JSON object"}
        if scope["path"] == JOIN:
            return await self._join(asked)
        if scope["path"] == CANCEL and not self._cancel(asked):
            return 400, {"detail": "what is to be cancelled is a run of a session, both by name"}
        return 200, {"success": True}

    async def _body(self, receive: Receive) -> bytes:
        body, more = b"", True
        while more and len(body) <= self._largest:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body

    async def _join(self, asked: dict[str, Any]) -> Answer:
        number, data, session = (asked.get(key) for key in ("fn_index", "data", "session_hash"))
        if not (
            type(number) is int  # and no truth value
            and isinstance(session, str)
            and SESSION.fullmatch(session)
            and isinstance(data, list)
            and len(data) == self._takes.get(number)
            and all(isinstance(value, (str, int, float, type(None))) for value in data)
        ):
            return 400, {"detail": "a request names a run and its session, and has the run's texts and numbers"}
        name = await self._queue.join(number, data, session)
        if name is None:
            return 503, {"detail": "all places are taken and the queue is full: try again in a moment"}
        return 200, {"event_id": name}

    def _cancel(self, asked: dict[str, Any]) -> bool:
        name, session = asked.get("event_id"), asked.get("session_hash")
        if not isinstance(name, str) or not isinstance(session, str):
            return False
        self._queue.cancel(name, session)
        return True


def _is_of_the_page(path: str) -> bool:
    return (path in GET or path.startswith(BELOW)) and ".." not in path


def _host(origin: str) -> str:
    """Host and port of an address; nothing where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


async def _answer(send: Send, status: int, said: dict[str, Any]) -> None:
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status != 200:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
