"""Moments of samplers as HTML, no more often than a browser can draw them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from tzd.errors import TzdError
from tzd.viewers.html import frame_html
from tzd.viewers.looks import ALIVE, FRESH, Looks

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

FRAMES_PER_SECOND = 15.0

Moment = tuple["Frame", ...]


@dataclass(frozen=True)
class View:
    """What a page shows at a time.

    Attributes:
        pictures: the HTML of each panel.
        status: HTML: where the run is.
        moments: all moments so far.
        done: whether this is the last one, and all is well.
    """

    pictures: tuple[str, ...]
    status: str
    moments: Sequence[Moment]
    done: bool


def views(panels: Sequence[Panel], moments: Iterator[Moment]) -> Iterator[View]:
    """What to show, `FRAMES_PER_SECOND` at most; the first and the last always.

    Args:
        panels: what is shown, side by side.
        moments: a frame for each.
    """
    began = time.monotonic()
    kept: list[Moment] = []
    shown = -np.inf
    pictures = [_Picture(panel) for panel in panels]

    def view(head: str) -> View:
        over = head != "writing"
        said = _status(panels, kept, [head], max(1e-6, time.monotonic() - began), over)
        drawn = tuple(picture.html(bare=len(panels) == 1, calm=over) for picture in pictures)
        return View(drawn, said, kept, head == "done")

    try:
        for moment in moments:
            kept.append(moment)
            for picture, frame in zip(pictures, moment, strict=True):
                picture.take(frame)
            if time.monotonic() - shown >= 1 / FRAMES_PER_SECOND:
                yield view("writing")
                shown = time.monotonic()
    except TzdError:
        if kept:
            yield view("failed")
        raise
    yield view("done")


class _Picture:
    """A panel, with what has happened since it was drawn last."""

    def __init__(self, panel: Panel) -> None:
        self._panel, self._looks = panel, Looks()
        self._frame: Frame | None = None

    def take(self, frame: Frame) -> None:
        if frame is self._frame:  # of a run that is over
            return
        if self._frame is None:
            self._steps = np.zeros(frame.tokens.shape, np.int64)
            self._fresh = np.zeros(frame.tokens.shape, bool)
        self._frame = frame
        self._steps = np.where(frame.revealed, frame.step, self._steps)
        self._fresh |= frame.revealed
        self._drawn = self._looks.of(frame, self._fresh)

    def html(self, bare: bool, calm: bool) -> str:
        """The picture; `bare` of a line where the page has one, and `calm`, with nothing stressed, at the end."""
        assert self._frame is not None
        self._fresh = np.zeros_like(self._fresh)
        looks = np.where(self._drawn % ALIVE >= FRESH, self._drawn - FRESH, self._drawn) if calm else self._drawn
        caption = "" if bare else None
        return frame_html(self._panel, self._frame, looks, steps=self._steps, caption=caption)


def _status(panels: Sequence[Panel], moments: Sequence[Moment], parts: list[str], seconds: float, over: bool) -> str:
    """A line on where the runs are, which begins with `parts`."""
    first, last = moments[0], moments[-1]
    unit = panels[0].unit
    if last[0].alive is not None:
        generation = last[0].generation or 0
        parts += [f"generation {generation}", f"{int(last[0].alive.sum())} alive", f"NFE {last[0].nfe}"]
        parts.append(f"{generation / seconds:.1f} generations/s")
    else:
        if len(panels) == 1:
            parts += [f"step {last[0].step}", f"NFE {last[0].nfe}", f"{int(last[0].masked.sum())} {unit} left"]
        written = sum(int((before.masked & ~after.masked).sum()) for before, after in zip(first, last, strict=True))
        parts.append(f"{written / seconds:.0f} {unit}/s")
    return status([*parts, f"{seconds:.1f} s"], "over" if over else "running")


def status(parts: Sequence[str], state: str) -> str:
    """A status line; `state` is "idle", "running" or "over"."""
    head, *rest = parts
    return f'<div class="tzd-status {state}"><b>{escape(head)}</b> {escape(" · ".join(rest))}</div>'
