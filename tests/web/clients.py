"""Clients of the page, most of them badly behaved: what they ask, and what they are answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from serving import STEPS, Server

JOIN, CANCEL, DATA = "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/queue/data?session_hash="
LONG = ["", "renoise", STEPS, 0.8, 20, 0, 0]  # a run that somebody has to end
WRITTEN = ["apple ", "ancestral", 4, 0.8, 30, 0]  # one that ends by itself, without its seed
WAITS: tuple[Any, ...] = ({"__type__": "update"}, [])  # what stands in the place of a picture while a run waits
SEEDS = 4
HUGE = 100_000_000
PATIENCE = 60.0  # seconds in which a busy machine answers

Answer = tuple[int, bytes]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Load:
    """Clients of a server, what they were answered, and what was wrong with it."""

    server: Server
    expected: dict[int, str]  # a text by its seed
    until: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many were answered, or refused by hanging up."""
        return self.answers.total()

    async def during(self, seconds: float, clients: int) -> None:
        """All of them for a while; each kind of client is there as often as any other."""
        self.until = time.monotonic() + seconds
        await asyncio.gather(*(self._client(number) for number in range(clients)))

    async def _client(self, number: int) -> None:
        draw, kind = random.Random(number), KINDS[number % len(KINDS)]
        while time.monotonic() < self.until:
            try:
                await asyncio.wait_for(kind(self, draw), PATIENCE)
            except asyncio.TimeoutError:
                self.wrong.append(f"{kind.__name__}: no answer in {PATIENCE:g} s")
            except (OSError, EOFError):  # hung up: a refusal, which only some are to meet
                self.count(kind.__name__, 0, ROUGH.get(kind.__name__, ()))
            await asyncio.sleep(draw.random() * 0.5)

    def count(self, kind: str, status: int, allowed: tuple[int, ...] = (200,)) -> None:
        """Notes an answer; 0 is a connection that ended without one."""
        self.answers[f"{kind} {status or 'hung up'}"] += 1
        if status not in allowed:
            self.wrong.append(f"{kind}: {status}")

    @contextlib.asynccontextmanager
    async def connected(self, head: bytes, buffer: int = 0) -> AsyncIterator[Stream]:
        """A connection on which something has been sent, and `buffer` bytes are read ahead; it ends as by a kill."""
        host, port = self.server.url.removeprefix("http://").split(":")
        end = socket.socket()
        if buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        end.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(end, (host, int(port)))
        except BaseException:
            end.close()
            raise
        reader, writer = await asyncio.open_connection(sock=end, limit=buffer or 2**20)
        try:
            writer.write(head)  # what is refused early may not be read to its end: nothing waits for that
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(self, path: str, body: Any = None, *headers: str) -> Answer:
        """A request and its answer."""
        content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        async with self.connected(request(path, content, *headers)) as (reader, _):
            status = await status_of(reader)
            return status, await reader.read()

    async def join(self, data: list[Any], session: str, which: int = 0) -> tuple[int, str]:
        """Starts a run: status and its name."""
        body = {"data": data, "fn_index": self.server.runs[which], "session_hash": session}
        status, answer = await self.ask(JOIN, body)
        self.count("join", status, (200, 503))
        if status == 503 and b"queue is full" not in answer:
            self.wrong.append(f"join: {answer!r}")
        return status, json.loads(answer).get("event_id", "")

    async def messages(self, session: str) -> AsyncGenerator[dict[str, Any], None]:
        """What a session hears, to the end of its stream."""
        async with self.connected(request(DATA + session)) as (reader, _):
            self.count("listen", await status_of(reader))
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    message = json.loads(line[6:])
                    if message["msg"] == "close_stream":
                        return
                    yield message


def request(path: str, body: bytes | None = None, *headers: str) -> bytes:
    """The bytes of it."""
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "host: 127.0.0.1", "connection: close", *headers]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def status_of(reader: asyncio.StreamReader) -> int:
    """Reads the head of an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split()[1])


def session_of(draw: random.Random) -> str:
    return f"s{draw.getrandbits(48):x}"


async def _write(load: Load, draw: random.Random) -> str:
    """Begins to write, and reads to the end; the last picture's links."""
    seed, session = draw.randrange(SEEDS), session_of(draw)
    status, _ = await load.join([*WRITTEN, seed], session)
    if status == 503:
        return ""
    last = [message async for message in load.messages(session)][-1]
    if not last["success"] or last["output"]["data"][2] != load.expected[seed]:
        load.wrong.append(f"write: {last}"[:300])
    return str(last["output"]["data"][3])


async def reads(load: Load, draw: random.Random) -> None:
    """As a browser does."""
    for path in ("/", "/theme.css", "/config"):
        load.count("page", (await load.ask(path))[0])
    await _write(load, draw)


async def downloads(load: Load, draw: random.Random) -> None:
    """A text, and files of its run, which others may have pushed out by then."""
    links = await _write(load, draw)
    for part in links.split('"'):
        if part.startswith("run/"):
            load.count("file", (await load.ask(f"/{part}"))[0], (200, 404, 503))


async def _first_picture(load: Load, draw: random.Random) -> AsyncGenerator[tuple[str, str], None]:
    """A long run, of which a first picture has been seen: session and run."""
    session = session_of(draw)
    status, run = await load.join(LONG, session)
    if status == 200:
        async with contextlib.aclosing(load.messages(session)) as messages:
            async for message in messages:
                if message["msg"] == "process_generating" and message["output"]["data"][0] not in WAITS:
                    yield session, run


async def stops(load: Load, draw: random.Random) -> None:
    """A run that is stopped by its button, twice."""
    async for session, run in _first_picture(load, draw):
        body = {"event_id": run, "session_hash": session, "fn_index": load.server.runs[0]}
        for _ in range(2):
            load.count("cancel", (await load.ask(CANCEL, body))[0])


async def closes(load: Load, draw: random.Random) -> None:
    """A tab that is closed in the middle."""
    pictures = _first_picture(load, draw)
    async with contextlib.aclosing(pictures):
        async for _ in pictures:
            return


async def never_listens(load: Load, draw: random.Random) -> None:
    """Starts a run and is not heard of again."""
    await load.join(LONG, session_of(draw))
    await asyncio.sleep(min(15.0, max(0.0, load.until - time.monotonic())))


async def reads_slowly(load: Load, draw: random.Random) -> None:
    """A byte a second, until the server has enough of it."""
    session = session_of(draw)
    if (await load.join(LONG, session))[0] == 200:
        async with load.connected(request(DATA + session), buffer=1024) as (reader, _):
            for _ in range(50):
                if time.monotonic() > load.until or not await reader.read(1):
                    break
                await asyncio.sleep(1)
        load.count("slow", 200)


async def sends_half(load: Load, draw: random.Random) -> None:
    """Half a request, in its head or its body, and then nothing."""
    whole = request(JOIN, b'{"data": [], "fn_index": 0}')
    async with load.connected(whole[: draw.randrange(1, len(whole))]) as (reader, _):
        with contextlib.suppress(asyncio.TimeoutError):
            said = await asyncio.wait_for(reader.read(), max(0.0, min(40.0, load.until - time.monotonic())))
            load.count("half", int(said.split()[1]) if said else 0, (0, 408))


async def sends_much(load: Load, draw: random.Random) -> None:
    """A hundred megabytes."""
    head = request(JOIN).replace(b"GET", b"POST")[:-2] + b"content-length: %d\r\n\r\n" % HUGE
    async with load.connected(head) as (reader, writer):
        answer = asyncio.ensure_future(status_of(reader))
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # lost with the connection, or not
        while not answer.done():
            writer.write(b"[" * 2**18)
            await asyncio.wait([answer], timeout=0.01)
            await writer.drain()
        load.count("much", await answer, (413,))


async def sends_nonsense(load: Load, draw: random.Random) -> None:
    """What is no request to write; each is refused in a line."""
    session = session_of(draw)
    good = {"data": [*WRITTEN, 0], "fn_index": load.server.runs[0], "session_hash": session}
    bodies: list[Any] = [b"", b"{", b"\xff\xfe", b"[" * 20_000, b"null", b'"x"', b"[]", json.dumps(good).encode()[:-5]]
    bodies += [{**good, name: value} for name in good for value in (None, {}, [], True, -1, 1e400, "\ud800", "x" * 999)]
    for body in draw.sample(bodies, 10):
        status, said = await load.ask(JOIN, body)
        load.count("nonsense", status, (400,))
        if b"\n" in said or b"Traceback" in said:
            load.wrong.append(f"nonsense: {said[:200]!r}")


async def asks_wrongly(load: Load, draw: random.Random) -> None:
    """Values of the wrong kind or too long, which are refused in words; or, for want of a place, not at all."""
    session = session_of(draw)
    values: list[Any] = ["x" * 10_000, 7, None, "\U0001f600" * 400, "<Ω>", "_" * 1024 + "x"]
    status, _ = await load.join([draw.choice(values), *WRITTEN[1:], 0], session)
    if status == 200:
        last = [message async for message in load.messages(session)][-1]
        if last["success"] or "Traceback" in last["output"]["error"]:
            load.wrong.append(f"asks_wrongly: {last}"[:300])


async def sends_headers(load: Load, draw: random.Random) -> None:
    """Many headers, long ones, and what is not HTTP at all."""
    for headers in ([f"x-{i}: {i}" for i in range(500)], [f"x-{i}: {'y' * 1000}" for i in range(200)]):
        async with load.connected(request("/theme.css", None, *headers)) as (reader, _):
            load.count("headers", await status_of(reader), (200, 400))
    async with load.connected(bytes(draw.randrange(256) for _ in range(200)) + b"\r\n\r\n") as (reader, _):
        load.count("noise", await status_of(reader), (400,))


async def looks_around(load: Load, draw: random.Random) -> None:
    """Sessions, runs and places that there are not."""
    for path in (DATA + session_of(draw), DATA, "/gradio_api/info", "/assets/%2e%2e/x", "/x" * 3000):
        load.count("unknown", (await load.ask(path))[0], (404,))
    load.count("unknown file", (await load.ask("/run/x/.gif"))[0], (404, 503))
    for body, status in (({"event_id": "x", "session_hash": "y"}, 200), ({"event_id": 3}, 400), ([], 400)):
        load.count("unknown cancel", (await load.ask(CANCEL, body))[0], (status,))


async def repeats(load: Load, draw: random.Random) -> None:
    """The same request again and again, and two who listen to one session."""
    session = session_of(draw)
    begun = [await load.join([*WRITTEN, 0], session) for _ in range(3)]
    if any(status == 200 for status, _ in begun):
        statuses = await asyncio.gather(_heard(load, session), _heard(load, session))
        load.count("repeated", 200 if sorted(statuses)[0] == 200 else 0)


async def _heard(load: Load, session: str) -> int:
    """Listens to the end; the status."""
    async with load.connected(request(DATA + session)) as (reader, _):
        status = await status_of(reader)
        while status == 200 and (line := await reader.readline()) and b"close_stream" not in line:
            pass
        return status


Kind = Callable[[Load, random.Random], Awaitable[None]]
KINDS: tuple[Kind, ...] = (
    reads, stops, closes, sends_nonsense, asks_wrongly, reads, reads_slowly, sends_half, sends_much, sends_headers,
    looks_around, repeats, reads, downloads, closes, stops, never_listens, reads, downloads, asks_wrongly,
)  # fmt: skip
# Who sends what will not be read may find the connection gone before the answer; noise may end within a request.
ROUGH: dict[str, tuple[int, ...]] = {
    "sends_much": (0,),
    "sends_half": (0,),
    "sends_headers": (0,),
    "reads_slowly": (0,),
}
