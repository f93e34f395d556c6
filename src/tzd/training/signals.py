"""Leaving in good order: a signal is heard, the step is finished and saved, and the run ends.

Closing a terminal is such a signal (SIGHUP). What the process was told to ignore when it began stays ignored: what
`nohup` starts outlives its terminal, and what a script starts in the background does not hear the script's Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_HEARD = (signal.SIGINT, signal.SIGTERM, *filter(None, [_HANGUP]))


class Signals:
    """Hears SIGINT, SIGTERM and SIGHUP while it is open; a second one ends the process at once.

    Not a second SIGHUP: shell and system may both send one when a terminal is closed.

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
        """Listens, in place of whoever did."""
        if threading.current_thread() is threading.main_thread():
            for number in _HEARD:
                if signal.getsignal(number) in (signal.SIG_IGN, None):
                    continue  # None: a program that Python is a part of listens, and could not be given it back
                self._previous[number] = signal.signal(number, self._receive)

    def close(self) -> None:
        """Gives the signals back to who listened first."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            if self.say:
                with suppress(OSError):  # nobody may be listening any more
                    os.write(2, b"\nstopping after this step; once more stops at once, and loses what was not saved\n")
        elif number != _HANGUP:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
