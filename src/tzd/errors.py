"""What can go wrong, and whose doing it was.

Every error that a user can meet is one of these: its message is one line that says what was wrong, where, and
the mend. The command line prints that line and leaves with `exit_code`; nothing else needs to know.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

from tzd.printable import printable

_LONGEST = 2000  # characters of a message


class TzdError(Exception):
    """Something failed that the user did not cause: no network, a full disk, a loss that is not finite.

    Args:
        message: one line, whatever it quotes: line breaks and other control characters become signs, and of a text
            that is much too long the middle is left out.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        line = printable(message, keep="")
        super().__init__(line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 3 :]}")


class UserError(TzdError, ValueError):
    """Something that the user gave cannot be used: a value, a file, a name."""

    exit_code = 2


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type or out of its range."""


class CorpusError(UserError):
    """A text, or a character of it, that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, of another shape or of a newer format."""


class InterruptedRunError(TzdError):
    """A signal ended a run in good order.

    Args:
        message: what was saved and how to go on.
        signal: its number; the exit code is 128 more, as a shell has it.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels between processes."""
        return type(self), (str(self), self.exit_code - 128)


class MissingExtraError(TzdError):
    """An optional dependency that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra '{extra}': uv sync --extra {extra} (or pip install 'tinyzero-diffusion[{extra}]')"
        )
        self._given = (what, extra)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels between processes."""
        return type(self), self._given


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them.

    Args:
        name: what was given.
        known: what there is.

    Returns:
        " (did you mean 'x'?)" or " (known: a, b, c)"; nothing, and at once, for a name that is known: most messages
        are written before it is seen whether they are needed.
    """
    names = sorted(map(str, known))
    if name in names:
        return ""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else f" (known: {', '.join(names)})"


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 200
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = 12
_BRIEF.maxlong = 60


def brief(value: Any) -> str:
    """What `repr` says of a value, shortened: one from a file may hold itself, or be a thousand times as long as it."""
    return _BRIEF.repr(value)


def first_line(error: BaseException) -> str:
    """The first line of what a library says; the error's kind, where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_NO_MEMORY = ("can't allocate memory", "out of memory", "unable to allocate", "insufficient memory", "malloc]")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short. Array libraries have kinds of their own for it, or words alone."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)
