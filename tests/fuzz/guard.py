"""What a reader may do with a hostile file: take it, or refuse it in one line. All else escapes, and is told here."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tzd.errors import TzdError

MOST_MEMORY = 100 << 20  # bytes that a small file may make
SECONDS, PATIENCE = 10, 20  # of processor time, and on the clock without any, after which a reader hangs
LONGEST = 4000  # characters of a message

_RUNS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.startfile",
    "subprocess.Popen",
    "pty.spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "pickle.find_class",
    "ctypes.dlopen",
)
_MAKERS = ("typing.py", "dataclasses.py", "collections/__init__.py")  # of classes, from their names and annotations
_ASKING_FOR_A_GPU = ("ctypes.dlopen", ("libnvidia-ml.so.1",))  # PyTorch does, by a name of its own
_WRITES = {
    "os.remove": 1,
    "os.rename": 2,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.link": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "shutil.rmtree": 1,
    "shutil.move": 2,
    "shutil.copyfile": 2,
}
_IN_A_FOLDER = ("os.remove", "os.rmdir", "shutil.rmtree")  # whose path may be one in a folder that is open
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Hangs(BaseException):
    """A reader does not come back."""


@dataclass
class Guard:
    """Watches what this process does while a reader reads.

    Args:
        root: holds `case`, where reading may write, and `outside`, where nothing may change.
        traced: whether every allocation of Python's is counted, which takes as long again as reading.
    """

    root: Path
    traced: bool = False
    accepted: int = 0
    refused: int = 0
    escaped: list[str] = field(default_factory=list)
    _armed: bool = False
    _computed: float = 0.0
    _done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.case, self.outside = self.root / "case", self.root / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "canary").write_text("unharmed")
        sys.addaudithook(self._heard)
        signal.signal(signal.SIGPROF, self._rung)
        signal.signal(signal.SIGALRM, self._waited)

    @contextmanager
    def limits(self) -> Iterator[None]:
        """Time; and `MOST_MEMORY` twice beyond what this process has, so that a reader cannot take the machine's."""
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * MOST_MEMORY, hard))
        self._computed = time.process_time() - 1
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

    def _rung(self, number: int, frame: FrameType | None) -> None:
        raise Hangs

    def _waited(self, number: int, frame: FrameType | None) -> None:
        """On a busy machine a reader may wait for its turn; one that waits for a pipe computes nothing."""
        before, self._computed = self._computed, time.process_time()
        if self._computed - before < 0.01:
            raise Hangs

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event.startswith(_RUNS) and (event, arguments) != _ASKING_FOR_A_GPU:
            self._done.append(f"{event}{arguments!r}"[:300])
        elif event == "exec" and arguments[0].co_filename == "<string>":
            if not sys._getframe(1).f_code.co_filename.endswith(_MAKERS):
                self._done.append("exec of <string>")
        elif event == "open" and isinstance(arguments[0], (str, bytes)) and (arguments[2] or 0) & _WRITING:
            self._wrote(event, arguments[0])
        elif event in _WRITES:
            at = arguments[-1] if event in _IN_A_FOLDER and arguments[-1] != -1 else None
            for path in arguments[: _WRITES[event]]:
                self._wrote(event, path if at is None else f"{os.readlink(f'/proc/self/fd/{at}')}/{path}")  # noqa: PTH115

    def _wrote(self, event: str, path: Any) -> None:
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        if not place.startswith((str(self.case), "/dev/null")):
            self._done.append(f"{event} of {place}")

    def watch(self, read: Callable[[], Any], *, names: bool) -> str | None:
        """Reads, and returns what escaped, if anything did.

        Args:
            read: the reader.
            names: whether a refusal names the folder or file.
        """
        self._done.clear()
        if self.traced:
            tracemalloc.start()
        peak = _peak()
        self._armed, problem = True, None
        try:
            with self.limits():
                read()
            self.accepted += 1
        except TzdError as error:
            self.refused += 1
            problem = self._unfit(error, names)
        except Hangs:
            problem = f"it hangs: {_where(sys.exc_info()[2])}"
        except BaseException as error:
            problem = f"{type(error).__name__}: {str(error)[:200]} at {_where(error.__traceback__)}"
        finally:
            self._armed = False
        traced, grown = tracemalloc.get_traced_memory()[1], _peak() - peak
        tracemalloc.stop()
        if max(traced, grown) > MOST_MEMORY:
            problem = problem or f"it takes {max(traced, grown) >> 20} MiB"
        if self._done:
            problem = f"it does {self._done[0]}"
        if sorted(os.listdir(self.outside)) != ["canary"] or (self.outside / "canary").read_text() != "unharmed":  # noqa: PTH208
            problem = "it changed what lies outside"
            raise SystemExit(problem)
        if problem:
            self.escaped.append(problem)
        return problem

    def _unfit(self, error: TzdError, names: bool) -> str | None:
        """What is wrong with a message."""
        message = str(error)
        if not message or len(message) > LONGEST:
            return f"a message of {len(message)} characters: {message[:100]!r}"
        if not message.isprintable() or "\n" in message:
            return f"a message that is not one printable line: {message[:300]!r}"
        if names and str(self.case) not in message:
            return f"a message that names no file: {message[:300]}"
        if "allocat" in message or "out of memory" in message or "bad_alloc" in message:
            return f"memory was asked for: {message[:300]}"
        return None


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _where(tb: Any) -> str:
    frames = [frame for frame in traceback.extract_tb(tb) if "/tzd/" in frame.filename][-2:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in reversed(frames))
