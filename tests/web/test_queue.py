"""Who runs and who waits, without a browser."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tzd.errors import UserError
from tzd.web import listening, queue
from tzd.web.door import CANCEL, DATA, JOIN, RESET, Door
from tzd.web.limits import Limits
from tzd.web.queue import Queue, Session

LIMITS = Limits(concurrency=1, queue=2)
GONE = {"type": "http.disconnect"}


class PanicError(BaseException):
    """What libraries written in Rust raise; no Exception."""


class Work:
    """Runs that go on when they are told to."""

    def __init__(self) -> None:
        self.go, self.closed = threading.Semaphore(0), threading.Semaphore(0)

    def pictures(self, count: int) -> Iterator[tuple[str, ...]]:
        try:
            for i in range(count):
                yield f"picture {i}", "same"
                self.go.acquire()
        finally:
            self.closed.release()

    def refused(self) -> Iterator[tuple[str, ...]]:
        yield "begun", ""
        raise UserError("<b> is refused")

    def broken(self) -> Iterator[tuple[str, ...]]:
        raise ZeroDivisionError
        yield

    def panicking(self) -> Iterator[tuple[str, ...]]:
        raise PanicError
        yield


class Listener:
    """The server's side of a connection: what was sent on it, and the client's leaving."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return GONE

    async def send(self, message: Any) -> None:
        self.sent += [json.loads(line[6:]) for line in message.get("body", b"").decode().splitlines() if line]

    @property
    def kinds(self) -> list[str]:
        return [message["msg"] for message in self.sent]

    @property
    def pictures(self) -> list[str]:
        """What the first output has shown, whole or as what replaces it."""
        told = [message["output"]["data"][0] for message in self.sent if message["msg"] == "process_generating"]
        return [data if isinstance(data, str) else data[0][-1] for data in told]

    async def hears(self, kind: str) -> None:
        while kind not in self.kinds:
            await asyncio.sleep(0.001)

    async def sees(self, picture: str) -> None:
        while picture not in self.pictures:
            await asyncio.sleep(0.001)


def at(places: Queue, name: str) -> Session:
    """A session that is listened to."""
    session = places.listen(name)
    assert session is not None
    return session


async def until_empty(places: Queue) -> None:
    while not places.empty:
        await asyncio.sleep(0.001)


def lived(scene: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scene, 60)

    asyncio.run(bounded())


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.go.release(1000)  # nobody is left behind


@pytest.fixture
def places(work: Work) -> Iterator[Queue]:
    begins = {0: work.pictures, 1: work.refused, 2: work.broken, 3: work.panicking}
    places = Queue(begins, lambda number, before: (f"run {number} waits for {before}", "same"), LIMITS)
    yield places
    work.go.release(1000)
    places.close()


async def listened(places: Queue, name: str) -> tuple[Listener, asyncio.Future[None]]:
    """Somebody who listens until the stream ends or `left` is set."""
    session, listener = at(places, name), Listener()

    async def listen() -> None:
        try:
            await listening.tell(session, listener.receive, listener.send)
        finally:
            places.leave(session)

    return listener, asyncio.ensure_future(listen())


def test_the_last_picture_is_the_result(places: Queue, work: Work) -> None:
    async def scene() -> None:
        run = await places.join(0, [3], "a")
        listener, listens = await listened(places, "a")
        work.go.release(3)
        await listener.hears("close_stream")
        listener.left.set()
        await listens
        *_, result, end = listener.sent
        output = {"data": ["picture 2", "same"], "is_generating": False}
        assert result == {"msg": "process_completed", "event_id": run, "output": output, "success": True}
        assert end == {"msg": "close_stream"} and places.empty

    lived(scene())


def test_of_later_pictures_only_what_changed_is_told(places: Queue, work: Work) -> None:
    async def scene() -> None:
        await places.join(0, [2], "a")
        listener, listens = await listened(places, "a")
        await listener.hears("process_generating")
        work.go.release()
        while len(listener.sent) < 2:
            await asyncio.sleep(0.001)
        assert [message["output"]["data"] for message in listener.sent] == [
            ["picture 0", "same"],
            [[["replace", [], "picture 1"]], []],
        ]
        listener.left.set()
        work.go.release()
        await listens

    lived(scene())


def test_who_reads_slowly_gets_the_newest_picture_and_not_all(places: Queue, work: Work) -> None:
    async def scene() -> None:
        await places.join(0, [1000], "a")
        session = at(places, "a")
        (run,) = session.runs.values()
        work.go.release(500)
        while run.shown != ("picture 500", "same"):
            await asyncio.sleep(0.001)
        (message,) = session.take()
        assert message["output"]["data"] == ("picture 500", "same") and session.take() == []
        places.leave(session)
        work.go.release()
        await until_empty(places)

    lived(scene())


def test_places_are_few_and_refused_beyond(places: Queue, work: Work) -> None:
    async def scene() -> None:
        names = [await places.join(0, [1], f"s{i}") for i in range(4)]
        assert None not in names[:3] and names[3] is None and places.busy == 1
        listeners = [await listened(places, f"s{i}") for i in range(3)]
        assert places.listen("s3") is None
        work.go.release(3)
        for listener, _ in listeners:
            await listener.hears("process_completed")
            listener.left.set()
        await until_empty(places)

    lived(scene())


def test_who_starts_runs_and_does_not_hear_of_them_is_refused_more(places: Queue, work: Work) -> None:
    async def scene() -> None:
        work.go.release(1000)
        for _ in range(3):  # as many as there are places
            assert await places.join(0, [1], "a")
            while places.busy:
                await asyncio.sleep(0.001)
        session = at(places, "a")
        assert await places.join(0, [1], "a") is None
        assert len(session.take()) == 3 and await places.join(0, [1], "a")
        places.leave(session)
        await until_empty(places)

    lived(scene())


@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_the_next_run_begins_when_one_is_ended(places: Queue, work: Work, how: str) -> None:
    async def scene() -> None:
        run = await places.join(0, [1000], "a")
        first, listens = await listened(places, "a")
        await first.hears("process_generating")
        await places.join(0, [1], "b")
        second, _ = await listened(places, "b")
        if how == "cancel":
            places.cancel(run or "", "a")
            places.cancel(run or "", "a")
            await first.hears("process_completed")
            assert first.sent[-2]["output"] == {} and first.kinds[-1] == "close_stream"
        first.left.set()
        await listens
        assert second.pictures == ["run 0 waits for 0"] and places.busy == 1  # a run ends at its next picture
        work.go.release()
        await second.sees("picture 0")
        assert work.closed.acquire(blocking=False)
        work.go.release()
        await second.hears("close_stream")
        second.left.set()
        await until_empty(places)

    lived(scene())


def test_who_waits_is_told_how_many_wait_before_and_no_more_often_than_that_changes(places: Queue, work: Work) -> None:
    async def scene() -> None:
        names = [await places.join(0, [1], name) for name in "abc"]
        heard = [await listened(places, name) for name in "abc"]
        (first, _), (second, _), (third, _) = heard
        for listener, picture in ((first, "picture 0"), (second, "run 0 waits for 0"), (third, "run 0 waits for 1")):
            await listener.sees(picture)
        places.cancel(names[1] or "", "b")
        await second.hears("process_completed")
        await third.sees("run 0 waits for 0")
        await places.join(0, [1], "d")  # behind the third, which hears nothing of it
        work.go.release()
        await third.sees("picture 0")
        work.go.release(2)
        for listener, _ in heard:
            await listener.hears("close_stream")
            listener.left.set()
        assert first.pictures == ["picture 0"] and second.pictures == ["run 0 waits for 0"]
        assert third.pictures == ["run 0 waits for 1", "run 0 waits for 0", "picture 0"]
        places.leave(at(places, "d"))
        await until_empty(places)

    lived(scene())


def test_a_run_that_waits_can_be_ended(places: Queue, work: Work) -> None:
    async def scene() -> None:
        await places.join(0, [1], "a")
        waits = await places.join(0, [1], "b")
        places.cancel(waits or "", "a")  # another one's
        assert len(at(places, "b").runs) == 1
        places.cancel(waits or "", "b")
        (message,) = places._sessions["b"].take()
        assert message["msg"] == "process_completed" and message["output"] == {}
        for name in ("a", "b"):
            places.leave(places._sessions[name])
        work.go.release()
        await until_empty(places)

    lived(scene())


def test_a_run_that_nobody_listens_to_ends(places: Queue, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ALONE", 0.01)

    async def scene() -> None:
        await places.join(0, [1000], "a")
        while places._sessions:
            await asyncio.sleep(0.001)
        work.go.release()
        await until_empty(places)
        assert places.listen("a") is None

    lived(scene())


def test_a_run_that_is_heard_in_time_goes_on(places: Queue, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ALONE", 0.01)

    async def scene() -> None:
        await places.join(0, [1], "a")
        listener, _ = await listened(places, "a")
        await asyncio.sleep(0.05)
        work.go.release()
        await listener.hears("close_stream")
        assert listener.sent[-2]["success"] and listener.sent[-2]["output"] != {}
        listener.left.set()
        await until_empty(places)

    lived(scene())


def test_only_one_listens_to_a_session(places: Queue) -> None:
    async def scene() -> None:
        await places.join(0, [1], "a")
        session = at(places, "a")
        assert places.listen("a") is None
        places.leave(session)

    lived(scene())


def test_a_run_started_as_a_stream_ends_is_heard_on_the_next_one(places: Queue, work: Work) -> None:
    async def scene() -> None:
        await places.join(0, [1], "a")
        first, listens = await listened(places, "a")
        work.go.release()
        await first.hears("close_stream")
        joining = asyncio.ensure_future(places.join(0, [1], "a"))
        await asyncio.sleep(0.01)
        assert not joining.done()  # the browser might take the old stream for its own
        first.left.set()
        await listens
        assert await joining
        second, _ = await listened(places, "a")
        work.go.release()
        await second.hears("close_stream")
        second.left.set()
        await until_empty(places)

    lived(scene())


def test_who_does_not_hang_up_is_not_waited_for(places: Queue, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "LINGER", 0.01)

    async def scene() -> None:
        await places.join(0, [1], "a")
        _, listens = await listened(places, "a")
        work.go.release()
        await listens
        assert places.empty

    lived(scene())


def test_silence_is_broken_now_and_then(places: Queue, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PULSE", 0.01)

    async def scene() -> None:
        await places.join(0, [1], "a")
        listener, listens = await listened(places, "a")
        await listener.hears("heartbeat")
        listener.left.set()
        await listens
        work.go.release()
        await until_empty(places)

    lived(scene())


def test_a_refusal_is_told_in_words_after_what_was_shown(places: Queue) -> None:
    async def scene() -> None:
        await places.join(1, [], "a")
        session = at(places, "a")
        (run,) = session.runs.values()
        while not run.over:
            await asyncio.sleep(0.001)
        shown, refused = session.take()
        assert shown["output"]["data"] == ("begun", "")
        assert refused["msg"] == "process_completed" and refused["success"] is False
        assert refused["output"]["error"] == "&lt;b&gt; is refused"
        places.leave(session)

    lived(scene())


@pytest.mark.parametrize(("number", "name"), [(2, "ZeroDivisionError"), (3, "PanicError")])
def test_a_defect_frees_its_place_and_says_nothing_of_itself(
    number: int, name: str, places: Queue, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene() -> None:
        await places.join(number, [], "a")
        session = at(places, "a")
        (run,) = session.runs.values()
        while not run.over:
            await asyncio.sleep(0.001)
        (refused,) = session.take()
        assert refused["output"]["error"].startswith("this run failed by a defect") and places.busy == 0
        places.leave(session)

    lived(scene())
    assert name in capsys.readouterr().err


def test_closing_ends_everything(places: Queue, work: Work) -> None:
    async def scene() -> None:
        for name in "abc":
            await places.join(0, [1000], name)
        places.close()
        work.go.release(2)
        await until_empty(places)
        assert work.closed.acquire(blocking=False) and not work.closed.acquire(blocking=False)  # the others never began

    lived(scene())


class Asked:
    """A request at the door, in parts; None is where no more comes."""

    def __init__(self, door: Door, method: str, path: str, *parts: bytes | None, query: bytes = b"") -> None:
        self.parts, self.answered = list(parts), list[Any]()
        self.scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": query}
        self.door = door

    async def receive(self) -> dict[str, Any]:
        part = self.parts.pop(0) if self.parts else None
        if part is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}

    async def send(self, message: Any) -> None:
        self.answered.append(message)

    async def answer(self) -> tuple[int, Any]:
        await self.door(self.scope, self.receive, self.send)
        start, body = self.answered
        return start["status"], json.loads(body["body"])


@pytest.fixture
def door(places: Queue) -> Door:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the library behind the door is asked for nothing here")

    return Door(app, 100, {0: 1}, places)


@pytest.mark.parametrize(
    ("path", "body", "status", "why"),
    [
        (JOIN, b"", 400, "a request is a JSON object"),
        (JOIN, b"[]", 400, "a request is a JSON object"),
        (JOIN, b"{}", 400, "a request names a run and its session, and has the run's texts and numbers"),
        (JOIN, b'{"fn_index": false, "data": [0], "session_hash": "a"}', 400, "a request names a run and its session"),
        (JOIN, b"x" * 101, 413, "a request has at most 100 bytes"),
        (CANCEL, b"{}", 400, "what is to be cancelled is a run of a session, both by name"),
        (CANCEL, b'{"event_id": "x", "session_hash": 3}', 400, "what is to be cancelled is a run of a session"),
        ("/gradio_api/upload", b"", 404, "there is nothing here"),
    ],
)
def test_the_door_refuses_in_a_line(door: Door, path: str, body: bytes, status: int, why: str) -> None:
    async def scene() -> None:
        got, said = await Asked(door, "POST", path, body).answer()
        assert got == status and said["detail"].startswith(why)

    lived(scene())


def test_a_request_that_does_not_come_is_not_waited_for(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzd.web.door.SECONDS", 0.01)

    async def scene() -> None:
        status, said = await Asked(door, "POST", JOIN, b"{", None).answer()
        assert status == 408 and said == {"detail": "a request comes within 0.01 seconds"}

    lived(scene())


def test_what_there_is_not_can_be_cancelled_and_reset_but_not_heard(door: Door) -> None:
    async def scene() -> None:
        nothing = b'{"event_id": "x", "session_hash": "y"}'
        assert await Asked(door, "POST", CANCEL, nothing).answer() == (200, {"success": True})
        assert await Asked(door, "POST", RESET, b"{}").answer() == (200, {"success": True})
        for query in (b"", b"session_hash=y", b"\xff=%ff&session_hash=&session_hash=y"):
            status, said = await Asked(door, "GET", DATA, query=query).answer()
            assert status == 404 and said["detail"].startswith("no such session has a run")

    lived(scene())


def test_the_queue_ends_with_the_server(door: Door, places: Queue, work: Work) -> None:
    async def scene() -> None:
        await places.join(0, [1000], "a")
        told: list[str] = []

        async def send(message: Any) -> None:
            told.append(message["type"])

        async def receive() -> dict[str, Any]:
            return {}

        await door({"type": "lifespan"}, receive, send)
        assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        work.go.release(2)
        await until_empty(places)

    lived(scene())
