"""How cells look: blank, given, or written with more or less confidence; fresh; alive. And in which colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tzd.sampling import Frame

BLANK, GIVEN, WRITTEN = 0, 1, 2  # and, from WRITTEN on, one for each level of confidence
CONFIDENCE = (0.3, 0.6, 0.9)  # the levels' edges
STATES = WRITTEN + len(CONFIDENCE) + 1
FRESH, ALIVE = STATES, 2 * STATES  # added to a state
LOOKS = 4 * STATES

Colour = tuple[int, int, int]  # sRGB


class Looks:
    """The look of each cell, frame by frame; remembers what was given."""

    def __init__(self) -> None:
        self._given: np.ndarray | None = None

    def of(self, frame: Frame, fresh: np.ndarray | None = None) -> np.ndarray:
        """The looks of the next frame.

        Args:
            frame: the first one says what is given.
            fresh: (B, T) bool, the cells to stress; what the frame reveals if None.

        Returns:
            (B, T) uint8, a state + FRESH where the cell has just been written + ALIVE where it lives.
        """
        fresh = frame.revealed if fresh is None else fresh
        untouched = ~(frame.masked | frame.revealed)
        self._given = untouched if self._given is None else self._given & untouched
        state = WRITTEN + np.searchsorted(CONFIDENCE, frame.confidence, side="right")
        state = np.where(frame.masked, BLANK, np.where(self._given, GIVEN, state))
        looks = state + FRESH * (fresh & ~frame.masked)
        return (looks if frame.alive is None else looks + ALIVE * frame.alive).astype(np.uint8)


@dataclass(frozen=True)
class Theme:
    """Colours. A fresh cell is drawn in its colour turned round, a living one on a ground of its own.

    Text has a contrast of 4.5 : 1 or more to whatever it stands on.

    Attributes:
        ground: behind everything.
        faint: titles, status lines, and what is given.
        text: of a legend.
        blank: [MASK].
        levels: text, from the least confidence to the most.
        alive: behind living cells.
    """

    ground: Colour
    faint: Colour
    text: Colour
    blank: Colour
    levels: tuple[Colour, ...]
    alive: Colour


THEMES = {
    "dark": Theme(
        ground=(16, 18, 24),
        faint=(158, 166, 184),
        text=(230, 233, 240),
        blank=(72, 79, 98),
        levels=((255, 128, 124), (255, 184, 77), (126, 217, 148), (230, 233, 240)),
        alive=(22, 54, 108),
    ),
    "light": Theme(
        ground=(255, 255, 255),
        faint=(90, 96, 110),
        text=(24, 28, 36),
        blank=(186, 192, 204),
        levels=((179, 27, 25), (148, 78, 0), (10, 104, 56), (24, 28, 36)),
        alive=(208, 224, 255),
    ),
}
