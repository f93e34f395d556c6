"""Where the parts of a picture are; from the first frame to the last, so that nothing moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tzd.errors import UserError
from tzd.viewers.atlas import cell_size

if TYPE_CHECKING:
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

LARGEST = (900, 1200)  # pixels, height and width, where there is a choice
MOST = 16384  # pixels of a side; what an MP4 can have, and a quarter of a GIF
ROWS = 8  # of a batch that are shown, if they fit
TEXT = 14  # pixels: the font of titles, status and legend
MARGIN, AIR = 24, 8  # pixels around everything, and between a text and its title

_SIZES = range(24, 9, -1)  # of the font in cells
_READABLE = 13  # below it, fewer rows are shown
_LINES = (32, 40, 48, 64, 80, 96, 128)  # characters, where the text may choose
_RATIO = 2  # of a pleasant picture
_GAP = 32  # between panels
_STATUS = 44  # characters


@dataclass(frozen=True)
class Block:
    """A panel's cells.

    Attributes:
        columns: cells of a line.
        lines: of each row of the batch.
        rows: of the batch that are shown.
        cell: (height, width) of a cell, pixels.
        full: share of the cells that hold something.
    """

    columns: int
    lines: int
    rows: int
    cell: tuple[int, int]
    full: float

    @classmethod
    def of(cls, panel: Panel, frame: Frame, size: int, line: int, rows: int) -> Block:
        """The cells of a panel in a font of that size, `line` characters a line where it may choose."""
        batch, length = frame.tokens.shape
        columns = panel.columns or min(length, max(1, line // panel.width))
        cell = cell_size(size, panel.width, panel.columns is not None)
        lines = -(-length // columns)
        return cls(columns, lines, min(rows, batch), cell, length / (lines * columns))

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.tops[-1] + self.lines * self.cell[0], self.columns * self.cell[1]

    @property
    def tops(self) -> list[int]:
        """Where each row begins, pixels from the top; half a line is between them."""
        return [row * (self.lines * self.cell[0] + self.cell[0] // 2) for row in range(self.rows)]


@dataclass(frozen=True)
class Layout:
    """Where everything is: title, cells and status of each panel, and a line for the legend below. In pixels.

    Attributes:
        size: of the font in cells.
        head: what the titles take, 0 where there are none.
        blocks: the cells of each panel.
        panel: (height, width) of a panel; they are all alike.
        shape: (height, width) of the picture.
        corners: (y, x) of each panel.
    """

    size: int
    head: int
    blocks: tuple[Block, ...]
    panel: tuple[int, int]
    shape: tuple[int, int]
    corners: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, panels: Sequence[Panel], moment: tuple[Frame, ...], least: int) -> Layout:
        """The layout that is the most pleasant to look at; with fewer rows of a batch where they would be tiny.

        Args:
            panels: what is shown.
            moment: the first one.
            least: width of the legend.

        Raises:
            UserError: not even the smallest letters make a picture of at most `MOST` pixels a side.
        """
        titled = any(panel.title for panel in panels)
        for rows in range(min(ROWS, max(len(frame.tokens) for frame in moment)), 0, -1):
            head = cell_size(TEXT)[0] + AIR if titled or any(rows < len(frame.tokens) for frame in moment) else 0
            choices = [
                cls._with([Block.of(*shown, size, line, rows) for shown in zip(panels, moment, strict=True)],
                          size, head, across, least)
                for across in range(len(panels), 0, -1)
                for line in _LINES
                for size in _SIZES
            ]  # fmt: skip
            best = max(choices, key=cls._pleasure)
            if best.size >= _READABLE and best._excess() <= 1:
                break
        if max(best.shape) > MOST:
            height, width = best.shape
            raise UserError(
                f"this is too much for a picture: {height} lines of {width} pixels, and {MOST} at most; show less"
            )
        return best

    @classmethod
    def _with(cls, blocks: Sequence[Block], size: int, head: int, across: int, least: int) -> Layout:
        text, character = cell_size(TEXT)
        height = head + max(block.shape[0] for block in blocks) + AIR + text
        width = max(_STATUS * character, *(block.shape[1] for block in blocks))
        corners = [
            (MARGIN + i // across * (height + _GAP), MARGIN + i % across * (width + _GAP)) for i in range(len(blocks))
        ]
        bottom = corners[-1][0] + height + MARGIN - AIR + text + MARGIN
        right = MARGIN + max(least, across * (width + _GAP) - _GAP) + MARGIN
        return cls(size, head, tuple(blocks), (height, width), (bottom, right), tuple(corners))

    def cells(self, i: int) -> tuple[int, int]:
        """(y, x) of the cells of panel i."""
        y, x = self.corners[i]
        return y + self.head, x

    def status(self, i: int) -> tuple[int, int]:
        """(y, x) of the line below them."""
        y, x = self.cells(i)
        return y + self.blocks[i].shape[0] + AIR, x

    @property
    def legend(self) -> tuple[int, int]:
        """(y, x) of the last line."""
        return self.shape[0] - MARGIN - cell_size(TEXT)[0], MARGIN

    def title(self, i: int, panel: Panel, frame: Frame) -> str:
        """What stands above panel i: as much of its title as there is room for, and whether rows are left out."""
        shown, batch = self.blocks[i].rows, len(frame.tokens)
        hidden = f" ({shown} of {batch} texts)" if shown < batch else ""
        room = self.panel[1] // cell_size(TEXT)[1] - len(hidden)
        return (panel.title if len(panel.title) <= room else panel.title[: max(0, room - 1)] + "…") + hidden

    def _excess(self) -> float:
        return max(1, self.shape[0] / LARGEST[0]) * max(1, self.shape[1] / LARGEST[1])

    def _pleasure(self) -> tuple[float, float]:
        """Large letters, little that is empty, a pleasant shape; but first of all, not too large."""
        height, width = self.shape
        used = sum(block.full * math.prod(block.shape) for block in self.blocks) / (height * width)
        odd = abs(math.log(width / height / _RATIO))
        return -self._excess(), math.log(self.size) + (math.log(used) - odd) / 2
