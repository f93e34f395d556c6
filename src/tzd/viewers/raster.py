"""Moments as pixels: panels side by side, in a layout that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tzd.viewers.atlas import SHADES, Atlas
from tzd.viewers.layout import TEXT, Block, Layout
from tzd.viewers.looks import ALIVE, BLANK, CONFIDENCE, FRESH, GIVEN, LOOKS, STATES, THEMES, WRITTEN, Looks, Theme

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

_FAINT, _PLAIN = LOOKS, LOOKS + 1  # text that is no cell


class Raster:
    """Draws moments.

    Args:
        panels: what is shown.
        moment: the first one; it fixes where everything is.
        theme: "dark" or "light".

    Attributes:
        shape: (height, width) of the pictures.
        palette: (N, 3) uint8, their colours in sRGB, N < 256.
        ground: the colour behind everything.
    """

    def __init__(self, panels: Sequence[Panel], moment: tuple[Frame, ...], theme: str) -> None:
        self.ground = THEMES[theme].ground
        self.palette, self._colours = _palette(THEMES[theme])
        self._text = Atlas(TEXT)
        legend = self._legend(moment)
        self._layout = Layout.of(panels, moment, legend.shape[1])
        self.shape = self._layout.shape
        self._still = np.full(self.shape, self._colours[SHADES * _PLAIN], dtype=np.uint8)
        _put(self._still, self._colours[legend], self._layout.legend)
        for i, (panel, frame) in enumerate(zip(panels, moment, strict=True)):
            _put(self._still, self._line(self._layout.title(i, panel, frame), _PLAIN), self._layout.corners[i])
        self._parts = [
            _Part(panel, block, self._layout.size) for panel, block in zip(panels, self._layout.blocks, strict=True)
        ]

    def draw(self, run: Sequence[tuple[Frame, ...]]) -> np.ndarray:
        """The picture of the last of some moments; what any of them wrote is fresh.

        Args:
            run: moments that follow those drawn before, one or more.

        Returns:
            (height, width) uint8, numbers of colours in `palette`.
        """
        picture = self._still.copy()
        for i, part in enumerate(self._parts):
            y, x = self._layout.cells(i)
            for top, row in zip(part.block.tops, part.draw([moment[i] for moment in run]), strict=True):
                _put(picture, self._colours[row], (y + top, x))
            _put(picture, self._line(_status(part.panel, run[-1][i]), _FAINT), self._layout.status(i))
        return picture

    def _line(self, text: str, look: int) -> np.ndarray:
        return self._colours[self._text.line(text) + np.uint8(SHADES * look)]

    def _legend(self, moment: tuple[Frame, ...]) -> np.ndarray:
        """(height, width) uint8: how cells look, and what that says."""
        edges = [f"{edge:g}" for edge in CONFIDENCE]
        levels = [
            f"<{edges[0]}",
            *(f"{low}–{high}" for low, high in pairwise(edges)),
            f"≥{edges[-1]}",
        ]
        entries = [("blank ", _FAINT), ("  ", _FAINT), ("confidence", _FAINT)]
        for i, level in enumerate(levels):
            entries += [(" ", _FAINT), (level, WRITTEN + i)]
        entries += [("  ", _FAINT), (" just written ", WRITTEN + len(CONFIDENCE) + FRESH)]
        if any((~frame.masked & ~frame.revealed).any() for frame in moment):
            entries += [("  ", _FAINT), ("given", GIVEN)]
        if any(frame.alive is not None for frame in moment):
            entries += [("  ", _FAINT), (" alive ", WRITTEN + len(CONFIDENCE) + ALIVE)]
        block = self._text.take(np.array(self._text.block)) + np.uint8(SHADES * BLANK)
        gap = self._text.line(" ") + np.uint8(SHADES * _FAINT)
        return np.concatenate(
            [block, gap, *(self._text.line(text) + np.uint8(SHADES * look) for text, look in entries)], 1
        )


class _Part:
    """The cells of a panel."""

    def __init__(self, panel: Panel, block: Block, size: int) -> None:
        self.panel, self.block = panel, block
        self._atlas = Atlas(size, panel.width, panel.columns is not None)
        self._looks = Looks()
        self._before: Frame | None = None
        self._numbers = np.full(len(panel.pieces) + 2, -1)  # of a cell in the atlas; -1 where it is not drawn yet
        self._numbers[len(panel.pieces)] = self._atlas.block

    def draw(self, run: Sequence[Frame]) -> np.ndarray:
        """(rows, height, width) uint8, `SHADES` · look + shade."""
        fresh = np.zeros_like(run[-1].revealed)
        for frame in run:
            if frame is not self._before:  # of a run that is over, the last one comes again and again
                fresh |= frame.revealed
            self._before = frame
        for frame in run:
            looks = self._looks.of(frame, fresh)
        block = self.block
        cells = self.panel.cells(run[-1])[: block.rows]
        spare = ((0, 0), (0, block.lines * block.columns - cells.shape[1]))
        cells = np.pad(cells, spare, constant_values=len(self.panel.pieces) + 1)
        looks = np.pad(looks[: block.rows], spare, constant_values=GIVEN)
        ink = self._atlas.take(self._drawn(cells))
        ink += (SHADES * looks)[..., None, None]
        height, width = block.cell
        ink = ink.reshape(block.rows, block.lines, block.columns, height, width).transpose(0, 1, 3, 2, 4)
        return ink.reshape(block.rows, block.lines * height, block.columns * width)

    def _drawn(self, cells: np.ndarray) -> np.ndarray:
        numbers = self._numbers[cells]
        if (numbers < 0).any():
            for cell in np.unique(cells[numbers < 0]):
                self._numbers[cell] = self._atlas.number(self.panel.glyphs[cell].rstrip() or " ")
            numbers = self._numbers[cells]
        return numbers


def _palette(theme: Theme) -> tuple[np.ndarray, np.ndarray]:
    """Colours (N, 3) uint8, and (256,) uint8 where in them each `SHADES` · look + shade is."""
    pairs = [_pair(theme, look) for look in range(LOOKS)] + [(theme.faint, theme.ground), (theme.text, theme.ground)]
    ink, ground = (np.array(side, dtype=float)[:, None] for side in zip(*pairs, strict=True))  # (LOOKS + 2, 1, 3)
    share = np.linspace(0, 1, SHADES)[:, None]
    mixed = np.rint(ground + share * (ink - ground)).astype(np.uint8).reshape(-1, 3)
    palette, where = np.unique(mixed, axis=0, return_inverse=True)
    colours = np.zeros(256, dtype=np.uint8)
    colours[: len(mixed)] = where.ravel()
    return palette, colours


def _pair(theme: Theme, look: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Ink and ground of a look."""
    state = look % STATES
    ink = theme.blank if state == BLANK else theme.faint if state == GIVEN else theme.levels[state - WRITTEN]
    if look % ALIVE >= FRESH:
        return theme.ground, ink
    return ink, theme.alive if look >= ALIVE else theme.ground


def _status(panel: Panel, frame: Frame) -> str:
    """Where a run is, in as many words as a board has room for; no figure moves another."""
    parts, digits = panel.status(frame), len(str(frame.tokens.size))
    if frame.generation is not None:
        parts = [*parts[:-3], parts[-2]]
    words = [part.split(" ", 1) for part in parts]
    return "".join(f"{a:>{digits}} {b}   " if a.isdigit() else f"{a} {b:<7}" for a, b in words).rstrip()


def _put(picture: np.ndarray, part: np.ndarray, corner: tuple[int, int]) -> None:
    """Puts as much of a part into a picture as there is room for."""
    y, x = corner
    room = picture[y : y + part.shape[0], x : x + part.shape[1]]
    room[...] = part[: room.shape[0], : room.shape[1]]
