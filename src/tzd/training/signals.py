"""Leaving in good order: a signal is heard, the step is finished and saved, and the run ends."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Signals:
    """Hears SIGINT and SIGTERM while it is open; a second one ends the process at once.

    Args:
        say: whether to tell the user; of several processes that all hear Ctrl-C, one is enough.

    Attributes:
        received: the signal's number, None until there is one.
    """

    def __init__(self, *, say: bool = True) -> None:
        self.say = say
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def open(self) -> None:
        """Listens, in place of whoever did; once more, in place of whoever listens by now."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous.setdefault(number, signal.signal(number, self._receive))

    def close(self) -> None:
        """Gives the signals back to who listened first."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        if self.say:
            os.write(2, b"\nstopping after this step; once more stops at once, and loses what was not saved\n")
