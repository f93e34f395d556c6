"""Connections whose clients send half, read nothing, or are too many."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("gradio")
from uvicorn import Config
from uvicorn.server import ServerState

from tzd.web import connection
from tzd.web.connection import Connection

ASKED = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
PART, PARTS = b"x" * 50_000, 400  # more than what lies between a server and its client


class App:
    """Sends a lot, and notices when the client has gone."""

    def __init__(self) -> None:
        self.left, self.sent = asyncio.Event(), 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending = asyncio.ensure_future(self._send(send))
        await receive()
        while not sending.done() and (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()
        self.left.set()

    async def _send(self, send: Any) -> None:
        for i in range(PARTS):
            await send({"type": "http.response.body", "body": PART, "more_body": i + 1 < PARTS})
            self.sent += 1


@contextlib.asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """A server of such connections; its port."""
    config = Config(app, http=Connection, ws="none", lifespan="off", log_config=None, log_level="critical")
    config.load()
    state = ServerState()

    def made() -> Connection:
        return Connection(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for left in list(state.connections):
            left.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client."""
    end = socket.socket()
    end.setblocking(False)
    await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=end)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side hangs up."""
    said = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(2**20):
            said += part
    return bytes(said)


def lived(scene: Any) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scene, 60)

    asyncio.run(bounded())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TICK", 0.05)


@pytest.mark.parametrize("sent", [b"", b"G", ASKED[:-2], ASKED[:-2] + b"x-long: "], ids=str)
def test_who_does_not_finish_a_request_is_let_go(sent: bytes) -> None:
    async def scene() -> None:
        async with listening(App()) as port, connected(port) as (reader, writer):
            writer.write(sent)
            assert await ended(reader) == b""

    lived(scene())


def test_who_goes_on_about_it_byte_by_byte_is_let_go() -> None:
    async def scene() -> None:
        async with listening(App()) as port, connected(port) as (reader, writer):
            writer.write(ASKED[:-2] + b"x: ")
            gone = asyncio.ensure_future(ended(reader))
            while not gone.done():
                writer.write(b"y")
                await asyncio.sleep(0.005)
            assert await gone == b""

    lived(scene())


def test_who_reads_nothing_is_let_go_and_the_app_hears_of_it() -> None:
    async def scene() -> None:
        app = App()
        async with listening(app) as port, connected(port) as (_, writer):
            writer.write(ASKED)
            await app.left.wait()
            assert app.sent < PARTS

    lived(scene())


def test_who_reads_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 400)  # looks: this machine may be busy

    async def scene() -> None:
        app = App()
        async with listening(app) as port, connected(port) as (reader, writer):
            writer.write(ASKED.replace(b"here\r\n", b"here\r\nconnection: close\r\n"))
            said = await ended(reader)
            assert said.count(PART) == PARTS

    lived(scene())


def test_too_many_are_let_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST", 1)

    async def scene() -> None:
        app = App()
        async with listening(app) as port, connected(port) as (first, writer):
            writer.write(ASKED)
            assert await first.readexactly(12) == b"HTTP/1.1 200"
            async with connected(port) as (second, _):
                assert await ended(second) == b""

    lived(scene())
