"""Who writes and who waits: the runs of a page, in as many places as there are, each for a browser that listens.

A session is one open page. Its runs live as long as it listens: when it goes, or does not come, they end and their
places are free. What it has not heard yet is the last picture of each run and not all of them, so that who reads slowly
costs no memory. Everything here happens on the event loop, but for the runs themselves, which have a thread for each
place.
"""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html import escape
from typing import Any

from tzd.errors import TzdError
from tzd.web.limits import Limits

ALONE = 10.0  # seconds within which a browser begins to listen to what it has started

Begin = Callable[..., Any]  # a generator of what the page's outputs show
Shown = tuple[Any, ...]  # by them
Message = dict[str, Any]


class Run:
    """One press of a button."""

    def __init__(self, session: Session, begin: Callable[[], Any], waits: Callable[[int], Shown]) -> None:
        self.name, self.session, self.begin, self._waits = secrets.token_hex(16), session, begin, waits
        self.shown: Shown | None = None  # the last picture; a thread sets it once the run has begun
        self.refusal: str | None = None
        self.stopped = self.over = False
        self._told: Shown | None = None
        self._before: int | None = None

    def wait(self, before: int) -> None:
        """Shows how many wait before it."""
        if before != self._before:
            self._before, self.shown = before, self._waits(before)
            self.session.news.set()

    def news(self) -> list[Message]:
        """What has happened since it was asked last, as the library's page wants to hear it."""
        said, shown = [], self.shown
        if shown is not None and shown is not self._told and (not self.over or self.refusal):
            told = self._told
            # The first picture is whole; of later ones each output says what replaces it, if anything does.
            data = (
                shown
                if told is None
                else [[["replace", [], new]] if new != old else [] for old, new in zip(told, shown, strict=True)]
            )
            said.append(self._message("process_generating", {"data": data, "is_generating": True}))
            self._told = shown
        if self.over and self.refusal is not None:
            refusal = {"error": self.refusal, "title": "Error", "duration": 10, "visible": True}
            said.append(self._message("process_completed", refusal, success=False))
        elif self.over:
            output = {} if self.stopped else {"data": shown, "is_generating": False}
            said.append(self._message("process_completed", output))
        return said

    def _message(self, kind: str, output: Message, success: bool = True) -> Message:
        return {"msg": kind, "event_id": self.name, "output": output, "success": success}


class Session:
    """An open page, its runs, and whether it listens."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs: dict[str, Run] = {}
        self.news, self.gone = asyncio.Event(), asyncio.Event()
        self.listens = self.closing = False
        self.patience: asyncio.TimerHandle | None = None

    def take(self) -> list[Message]:
        """What there is to tell; runs that are over are forgotten by it."""
        self.news.clear()
        said = [message for run in self.runs.values() for message in run.news()]
        self.runs = {name: run for name, run in self.runs.items() if not run.over}
        return said


class Queue:
    """Places for runs.

    Args:
        begins: what each number starts, with a request's values.
        waits: what a run of a number shows while it waits, by how many wait before it.
        limits: how many places there are.
    """

    def __init__(self, begins: Mapping[int, Begin], waits: Callable[[int, int], Shown], limits: Limits) -> None:
        self._begins, self._waits, self._limits = begins, waits, limits
        self._threads = ThreadPoolExecutor(limits.concurrency, thread_name_prefix="tzd-run")
        self._waiting: deque[Run] = deque()
        self._sessions: dict[str, Session] = {}
        self.busy = 0

    @property
    def empty(self) -> bool:
        """Whether nothing computes, nothing waits, and nobody is remembered."""
        return not (self.busy or self._waiting or self._sessions)

    async def join(self, number: int, values: list[Any], name: str) -> str | None:
        """Starts a run, or has it wait.

        Args:
            number: one of those that `begins` has.
            values: of the form.
            name: of the session.

        Returns:
            The run's name; None where no place is free.
        """
        while (session := self._sessions.get(name)) is not None and session.closing:
            await session.gone.wait()  # else a browser would take the stream that ends for one that goes on
        computing, waiting = self._limits.concurrency, self._limits.queue
        if self.busy >= computing and len(self._waiting) >= waiting:
            return None
        if session is not None and len(session.runs) >= computing + waiting:
            return None  # it does not hear that they are over, and each keeps its last picture
        if session is None:
            session = self._sessions[name] = Session(name)
            session.patience = asyncio.get_running_loop().call_later(ALONE, self.leave, session)
        run = Run(session, lambda: self._begins[number](*values), lambda before: self._waits(number, before))
        session.runs[run.name] = run
        self._waiting.append(run)
        self._fill()
        return run.name

    def cancel(self, name: str, session_name: str) -> None:
        """Ends a run of a session; nothing happens where there is none of that name."""
        session = self._sessions.get(session_name)
        run = session and session.runs.get(name)
        if run:
            self._stop(run)

    def listen(self, name: str) -> Session | None:
        """A session that is listened to from now on, until `leave`; None where there is none, or it is already."""
        session = self._sessions.get(name)
        if session is None or session.listens:
            return None
        if session.patience is not None:
            session.patience.cancel()
        session.listens = True
        return session

    def leave(self, session: Session) -> None:
        """Nobody listens any more: its runs end."""
        for run in session.runs.values():
            self._stop(run)
        session.gone.set()
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]

    def close(self) -> None:
        """Ends everything."""
        for session in list(self._sessions.values()):
            self.leave(session)
        self._threads.shutdown(wait=False)

    def _fill(self) -> None:
        while self._waiting and self.busy < self._limits.concurrency:
            self.busy += 1
            self._threads.submit(self._compute, self._waiting.popleft(), asyncio.get_running_loop())
        self._count()

    def _count(self) -> None:
        """Tells who waits of how many before it."""
        for before, run in enumerate(self._waiting):
            run.wait(before)

    def _stop(self, run: Run) -> None:
        if run.over:
            return
        run.stopped = run.over = True  # its thread looks at every picture
        run.session.news.set()
        if run in self._waiting:
            self._waiting.remove(run)
            self._count()

    def _compute(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own."""
        refusal = None
        try:
            with closing(run.begin()) as pictures:
                for shown in _until(pictures, run):
                    run.shown = shown
                    loop.call_soon_threadsafe(run.session.news.set)
        except TzdError as error:
            refusal = escape(str(error))  # what a browser sent is not HTML in it
        except BaseException:  # whatever it is, the place is free again: what is written in Rust raises no Exception
            traceback.print_exc()  # a defect of ours: whoever serves wants to see it
            refusal = "this run failed by a defect of tzd: the command that serves this page says more"
        loop.call_soon_threadsafe(self._ended, run, refusal)

    def _ended(self, run: Run, refusal: str | None) -> None:
        self.busy -= 1
        if not run.over:
            run.over, run.refusal = True, refusal
            run.session.news.set()
        self._fill()


def _until(pictures: Iterator[Shown], run: Run) -> Iterator[Shown]:
    for shown in pictures:
        if run.stopped:
            return
        yield shown
