"""Runs that a page has shown, kept for those who want a file of them."""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tzd.viewers.save import save

if TYPE_CHECKING:
    from tzd.viewers.panel import Panel
    from tzd.web.showing import Moment

KEPT = 8
FORMATS = {".gif": "image/gif", ".html": "text/html"}


class Recordings:
    """The last runs, each under a name that cannot be guessed."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, tuple[Sequence[Panel], Sequence[Moment]]] = OrderedDict()
        self._drawing = threading.Lock()  # one file at a time: drawing takes a whole core

    def keep(self, panels: Sequence[Panel], moments: Sequence[Moment]) -> str:
        """Keeps a run and returns its name; the oldest of more than `KEPT` is let go."""
        name = secrets.token_urlsafe(16)
        self._runs[name] = (panels, moments)
        if len(self._runs) > KEPT:
            self._runs.popitem(last=False)
        return name

    def file(self, name: str, ending: str) -> bytes | None:
        """A file of a run, one of `FORMATS`, drawn anew; None where the run is not kept any more."""
        run = self._runs.get(name)
        if run is None or ending not in FORMATS:
            return None
        panels, moments = run
        with self._drawing, tempfile.TemporaryDirectory(prefix="tzd-") as folder:
            path = Path(folder, f"run{ending}")
            save(panels, iter(moments), path)
            return path.read_bytes()
