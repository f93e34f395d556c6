"""The denoising, live and in place, in a terminal: several runs side by side, texts and boards.

The canvas is a fixed grid: every token has a cell of the same width from the first frame to the last, so nothing moves
while [MASK] turns into text. Line breaks are shown as a sign; whoever wants the text itself prints it afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.style import Style
from rich.text import Text

from tzd.viewers.looks import ALIVE, BLANK, CONFIDENCE, FRESH, GIVEN, LOOKS, STATES, THEMES, WRITTEN, Looks
from tzd.viewers.panel import MASK, Panel

if TYPE_CHECKING:
    from tzd.corpus import Tokenizer
    from tzd.sampling import Frame

FRAMES_PER_SECOND = 30.0  # where nobody asks for a speed
SMALLEST = (20, 4)  # columns and rows below which there is no live view
NARROW = 24  # columns that a panel beside others has at least
GAP = 3  # columns between panels
ROOMY = 12  # rows from which on a legend stands below

_ALIVE = "color(18)"  # the ground of living cells: blue, on a dark terminal and on a light one
_STYLES = ("dim", "bold", "red", "yellow", "green", "")  # [MASK], given, then by rising confidence


def can_show(console: Console) -> bool:
    """Whether the console is a terminal on which frames can be drawn in place."""
    columns, rows = SMALLEST
    return console.is_terminal and not console.is_dumb_terminal and console.width >= columns and console.height >= rows


def watch(frames: Iterable[Frame], tokenizer: Tokenizer, console: Console | None = None) -> Iterator[Frame]:
    """Draws the frames of one run as they pass; see `in_place`.

    Args:
        frames: what a sampler yields.
        tokenizer: the model's.
        console: where to draw; stdout if None.

    Yields:
        The same frames.
    """
    for (frame,) in in_place([Panel.of(tokenizer)], ((frame,) for frame in frames), console=console):
        yield frame


def in_place(
    panels: Sequence[Panel],
    moments: Iterable[tuple[Frame, ...]],
    *,
    speed: float | None = None,
    console: Console | None = None,
) -> Iterator[tuple[Frame, ...]]:
    """Draws moments as they pass; the drawing is gone when the last one has.

    Args:
        panels: what is shown, side by side as far as they have room.
        moments: a frame for each panel, one after the other.
        speed: frames a second, never more, and every one is drawn. If None, those are left out that would come
            `FRAMES_PER_SECOND` times a second or faster, what they wrote being stressed in the next one.
        console: where to draw; stdout if None. Nothing is drawn where it is no terminal, or too small.

    Yields:
        The same moments.
    """
    console = console or Console()
    if not can_show(console):
        yield from moments
        return
    screen, due = Screen(panels, coloured=bool(console.color_system) and not console.no_color), 0.0
    lines: list[Text] = []
    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
        try:
            for moment in moments:
                screen.take(moment)
                if speed is not None:
                    time.sleep(max(0.0, due - time.monotonic()))
                if time.monotonic() >= due or not any(frame.masked.any() for frame in moment):
                    _unwrap(console, lines)
                    lines = screen.draw(console.width, console.height - 1)
                    live.update(Group(*lines), refresh=True)
                    due = time.monotonic() + 1 / (speed or FRAMES_PER_SECOND)
                yield moment
            if speed is not None:  # the last one is seen as long as the others
                time.sleep(max(0.0, due - time.monotonic()))
        finally:
            _unwrap(console, lines)


def _unwrap(console: Console, lines: Sequence[Text]) -> None:
    """Erases the rows that a drawing has more than lines, since its terminal has become narrower."""
    more = sum(max(0, line.cell_len - 1) // console.width for line in lines)
    up = (ControlType.CARRIAGE_RETURN,), (ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)
    console.control(Control(*up * more))


class Screen:
    """Panels as the lines of a terminal.

    Args:
        panels: what is shown.
        coloured: whether there are colours; living cells are underlined where there are none.
    """

    def __init__(self, panels: Sequence[Panel], *, coloured: bool = True) -> None:
        self._styles, self._coloured, self._lives = styles(coloured), coloured, False
        self.grids = [Grid(panel, self._styles) for panel in panels]

    def take(self, moment: tuple[Frame, ...]) -> None:
        """The next moment; it need not be drawn."""
        for grid, frame in zip(self.grids, moment, strict=True):
            grid.take(frame)
            self._lives |= frame.alive is not None

    def draw(self, columns: int, rows: int) -> list[Text]:
        """At most `rows` lines of at most `columns` columns."""
        legend = self._legend()
        if rows < ROOMY or columns < legend.cell_len or not self._coloured:
            return self._panels(columns, rows)
        return [*self._panels(columns, rows - 2), Text(), legend]

    def _panels(self, columns: int, rows: int) -> list[Text]:
        """The panels in bands, as many beside each other as fit."""
        across = self._across(columns)
        bands = [self.grids[i : i + across] for i in range(0, len(self.grids), across)]
        most = max(1, (rows + 1) // (SMALLEST[1] + 1))  # bands that are high enough to show something
        hidden = sum(map(len, bands[most:]))
        bands = bands[:most]
        height = (rows - bool(hidden) - (len(bands) - 1)) // len(bands)
        width = (columns - GAP * (across - 1)) // across
        lines: list[Text] = []
        for i, band in enumerate(bands):
            lines += [Text()] if i else []
            lines += _beside([grid.draw(width, height) for grid in band], width)
        ways = [f"{hidden} more in a larger terminal", f"{hidden} more hidden"]
        return [*lines, _faint(_fitting(ways, columns), columns)] if hidden else lines

    def _legend(self) -> Text:
        """What the colours say."""
        levels = [f"{low:.0%}–{high:.0%}".replace("%", "", 1) for low, high in pairwise((0, *CONFIDENCE, 1))]
        names = [f"{MASK} blank", "given", *levels]
        looks = [*range(STATES), FRESH + STATES - 1, *([ALIVE + STATES - 1] if self._lives else [])]
        parts = [(name, self._styles[look]) for name, look in zip([*names, "new", "alive"], looks, strict=False)]
        return Text("  ", no_wrap=True).join(Text(*part) for part in parts)

    def _across(self, columns: int) -> int:
        """How many panels stand beside each other."""
        needs = max((grid.columns_needed for grid in self.grids), default=1)
        return min(len(self.grids), max(1, (columns + GAP) // (needs + GAP)))


class Grid:
    """A panel as lines of cells: its title, the cells, and where the run is.

    Args:
        panel: what is shown.
        styles: of each look.
    """

    def __init__(self, panel: Panel, styles: Sequence[Style]) -> None:
        self.panel, self._styles, self._seen = panel, styles, Looks()
        self._fresh: np.ndarray | None = None  # what has been written since the last drawing
        self._frame: Frame | None = None

    @property
    def columns_needed(self) -> int:
        """Columns of a terminal that it has at least, beside others: a whole board, or a narrow text."""
        return self.panel.columns * self.panel.width if self.panel.columns else NARROW

    def take(self, frame: Frame) -> None:
        """The next frame, or the same again where others go on; the first one says what is given."""
        written = frame.revealed if frame is not self._frame else np.zeros_like(frame.revealed)
        self._fresh = written if self._fresh is None else written | self._fresh
        self._frame, self._looks = frame, self._seen.of(frame, self._fresh)

    def draw(self, columns: int, rows: int) -> list[Text]:
        """The last frame in at most `rows` lines of `columns` columns.

        Where these do not suffice, the lines around the first [MASK] are shown (of a board, its first ones), and as
        many samples as fit.
        """
        panel, frame, self._fresh = self.panel, self._frame, None
        assert frame is not None  # what is drawn has been taken
        samples, length = frame.tokens.shape
        title = [_title(panel.title, columns)] if panel.title else []
        rows -= len(title)
        fits = max(1, columns // panel.width)
        across = panel.columns or fits
        height = -(-length // across)
        shown = min(samples, max(1, rows // (height + 1)))
        room = max(1, min(height, rows - 1))
        glyphs = panel.glyphs[panel.cells(frame)]
        lines = []
        for row in range(shown):
            first = 0 if panel.columns else _first_line(frame.masked[row], across, height, room)
            for start in range(first * across, min(length, (first + room) * across), across):
                stop = min(length, start + min(across, fits))
                lines.append(self._line(glyphs[row, start:stop], self._looks[row, start:stop]))
            if row + 1 < shown:
                lines.append(Text())
        notes = [f"{shown} of {samples} samples shown"] if shown < samples else []
        if panel.columns and (fits < across or room < height):
            notes.append(f"{min(fits, across)}×{room} of {across}×{height} shown")
        return [*title, *lines, _status(panel, frame, notes, columns)]

    def _line(self, glyphs: np.ndarray, looks: np.ndarray) -> Text:
        line = Text(no_wrap=True, overflow="crop")
        edges = [0, *(np.flatnonzero(np.diff(looks)) + 1).tolist(), len(looks)]
        for start, stop in pairwise(edges):
            line.append("".join(glyphs[start:stop]), style=self._styles[looks[start]])
        return line


def styles(coloured: bool = True) -> list[Style]:
    """The style of each look, in the terminal's own colours; of living cells, both ground and ink are ours."""
    return [_style(look, coloured) for look in range(LOOKS)]


def _style(look: int, coloured: bool) -> Style:
    state, theme = look % STATES, THEMES["dark"]
    style = Style.parse(_STYLES[state] or "none")
    if look >= ALIVE:
        ink = {BLANK: theme.faint, GIVEN: theme.text}.get(state) or theme.levels[state - WRITTEN]
        on = Style.parse("rgb({},{},{}) on {}".format(*ink, _ALIVE))
        style = on if coloured else style + Style(underline=True)
    return style + Style(bold=True, reverse=True) if look % ALIVE >= FRESH else style


def _first_line(masked: np.ndarray, across: int, height: int, room: int) -> int:
    first_mask = int(masked.argmax()) // across if masked.any() else height
    return max(0, min(first_mask - room // 2, height - room))


def _beside(blocks: Sequence[Sequence[Text]], width: int) -> list[Text]:
    """Blocks of lines side by side, each `width` columns wide."""
    height = max(map(len, blocks))
    lines = []
    for at in range(height):
        line = Text(no_wrap=True, overflow="crop")
        for i, block in enumerate(blocks):
            if i:
                line.pad_right(i * (width + GAP) - line.cell_len)
            if at < len(block):
                line.append_text(block[at])
        lines.append(line)
    return lines


def _title(title: str, columns: int) -> Text:
    line = Text(title, style="bold", no_wrap=True)
    line.truncate(columns, overflow="ellipsis")
    return line


def _status(panel: Panel, frame: Frame, notes: Sequence[str], columns: int) -> Text:
    """Where a run is, in as many words as there is room for."""
    *counts, nfe, left = panel.status(frame)
    briefly = left.replace(f" {panel.unit}", "")
    ways = ([*counts, nfe, left, *notes], [*counts, nfe, briefly, *notes], [nfe, briefly, *notes], [nfe, briefly])
    return _faint(_fitting([" · ".join(way) for way in ways], columns), columns)


def _fitting(ways: Sequence[str], columns: int) -> str:
    """The first way to say it for which there is room, or else the last."""
    return next((line for line in ways if cell_len(line) <= columns), ways[-1])


def _faint(line: str, columns: int) -> Text:
    return Text(set_cell_size(line, min(columns, cell_len(line))), style="dim", no_wrap=True)
