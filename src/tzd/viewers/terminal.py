"""The denoising, live and in place, in a terminal.

The canvas is a fixed grid: every token has a cell of the same width from the first frame to the last, so nothing moves
while [MASK] turns into text. Line breaks are shown as a sign; whoever wants the text itself prints it afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tzd.printable import printable

if TYPE_CHECKING:
    from tzd.corpus import Tokenizer
    from tzd.sampling import Frame

MASK = "░"
WIDEST_CELL = 8  # longer pieces of text are cut, in the live view only
FRAMES_PER_SECOND = 30.0
SMALLEST = (20, 4)  # columns and rows below which there is no live view

_STYLES = ("dim", "bold", "red", "yellow", "green", "")  # [MASK], given, then by rising confidence
_CONFIDENCE = (0.3, 0.6, 0.9)
_FRESH = len(_STYLES)  # added to a style's number


def can_show(console: Console) -> bool:
    """Whether the console is a terminal on which frames can be drawn in place."""
    columns, rows = SMALLEST
    return console.is_terminal and not console.is_dumb_terminal and console.width >= columns and console.height >= rows


def watch(frames: Iterable[Frame], tokenizer: Tokenizer, console: Console | None = None) -> Iterator[Frame]:
    """Draws frames as they pass; the drawing is gone when the last one has.

    Args:
        frames: what a sampler yields.
        tokenizer: the model's.
        console: where to draw; stdout if None. Nothing is drawn where it is no terminal, or too small.

    Yields:
        The same frames.
    """
    console = console or Console()
    if not can_show(console):
        yield from frames
        return
    grid = Grid(tokenizer)
    drawn, fresh = 0.0, np.zeros(0, dtype=bool)
    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
        for frame in frames:
            fresh = frame.revealed | fresh if fresh.size else frame.revealed
            now = time.monotonic()
            if now - drawn >= 1 / FRAMES_PER_SECOND or not frame.masked.any():
                live.update(grid.draw(frame, fresh, console.width, console.height - 1), refresh=True)
                drawn, fresh = now, np.zeros_like(fresh)
            yield frame


class Grid:
    """Frames as lines of cells.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = [printable(piece, keep="") for piece in tokenizer.pieces(np.arange(tokenizer.vocab_size))]
        self.width = max(1, min(WIDEST_CELL, max(map(cell_len, pieces))))
        pieces.append("")  # padding
        self.cells = np.array([set_cell_size(piece, self.width) for piece in pieces], dtype=object)
        self.mask = MASK if self.width == 1 else set_cell_size(MASK * (self.width - 1), self.width)
        self.unit = "characters" if self.width == 1 else "tokens"
        self.given: np.ndarray | None = None  # (B, T) bool, what the first frame shows

    def draw(self, frame: Frame, fresh: np.ndarray, columns: int, rows: int) -> Group:
        """A frame that fills at most `rows` lines of `columns` columns.

        Args:
            frame: what to draw; the first one says what is given.
            fresh: (B, T) bool, the tokens to stress.
            columns: of the terminal.
            rows: of the terminal; where they do not suffice, the lines around the first [MASK] are shown, and as many
                samples as fit.
        """
        if self.given is None:
            self.given = ~frame.masked
        samples, length = frame.tokens.shape
        across = max(1, columns // self.width)
        height = -(-length // across)
        shown = min(samples, max(1, rows // (height + 1)))
        room = max(1, min(height, rows - 1))
        styles = self._styles(frame, fresh)
        padding = np.arange(length) >= frame.lengths[:, None]
        cells = np.where(frame.masked, self.mask, self.cells[np.where(frame.masked | padding, -1, frame.tokens)])
        lines = []
        for row in range(shown):
            first = self._first_line(frame.masked[row], across, height, room)
            for start in range(first * across, min(length, (first + room) * across), across):
                lines.append(_line(cells[row, start : start + across], styles[row, start : start + across]))
            if row + 1 < shown:
                lines.append(Text())
        return Group(*lines, self._status(frame, shown, columns))

    def _styles(self, frame: Frame, fresh: np.ndarray) -> np.ndarray:
        styles = 2 + np.searchsorted(_CONFIDENCE, frame.confidence, side="right") + _FRESH * fresh
        return np.where(frame.masked, 0, np.where(self.given & ~frame.revealed, 1, styles))

    def _first_line(self, masked: np.ndarray, across: int, height: int, room: int) -> int:
        first_mask = int(masked.argmax()) // across if masked.any() else height
        return max(0, min(first_mask - room // 2, height - room))

    def _status(self, frame: Frame, shown: int, columns: int) -> Text:
        samples = len(frame.tokens)
        status = f"step {frame.step} · NFE {frame.nfe} · {int(frame.masked.sum())} {self.unit} left"
        if shown < samples:
            status += f" · {shown} of {samples} samples shown"
        return Text(set_cell_size(status, min(columns, cell_len(status))), style="dim", no_wrap=True)


def _line(cells: np.ndarray, styles: np.ndarray) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    for style, run in groupby(zip(styles, cells, strict=True), key=lambda pair: pair[0]):
        name = f"{_STYLES[style % _FRESH]}{' bold reverse' if style >= _FRESH else ''}"
        line.append("".join(cell for _, cell in run), style=name)
    return line
