"""Standard error that may lose its reader, for what goes on without one: a run whose terminal was closed."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unheard() -> Iterator[None]:
    """Lets nobody be stopped by what cannot be said on standard error: it is lost, as its reader is."""
    said = sys.stderr
    if said is not sys.__stderr__ or not isinstance(said, io.TextIOWrapper):  # somebody else's, as in a notebook
        yield
        return
    raw = _Unheard(said.fileno(), "w", closefd=False)
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=said.encoding, errors=said.errors, line_buffering=True, write_through=True
    )
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = said


class _Unheard(io.FileIO):
    def write(self, data) -> int:  # type: ignore[no-untyped-def]  # any buffer
        try:
            return super().write(data)
        except OSError:  # a closed pipe or terminal, a full disk
            return len(data)
