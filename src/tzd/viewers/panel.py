"""What a frame's cells read. Every viewer draws a text as cells of one width, so that nothing ever moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tzd.printable import printable

if TYPE_CHECKING:
    from tzd.corpus import Tokenizer
    from tzd.sampling import Frame

MASK = "░"
WIDEST_CELL = 8  # longer pieces of text are cut, in pictures only


@dataclass(frozen=True, eq=False)
class Panel:
    """One run of a sampler, as viewers show it: what its frames do not say themselves.

    Attributes:
        title: what stands above it; nothing if empty. A terminal obeys none of it.
        pieces: the text of each token, V of them.
        columns: cells of a line, where the text is a board; None where a viewer may choose.
    """

    title: str
    pieces: Sequence[str] = field(repr=False)
    columns: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", printable(self.title, keep=""))

    @classmethod
    def of(cls, tokenizer: Tokenizer, title: str = "", columns: int | None = None) -> Panel:
        """The panel of a model that has this tokenizer."""
        return cls(title, tuple(tokenizer.pieces(np.arange(tokenizer.vocab_size))), columns)

    @cached_property
    def width(self) -> int:
        """Columns of a terminal that a cell takes, 1..`WIDEST_CELL`; 1 for characters."""
        from rich.cells import cell_len

        return max(1, min(WIDEST_CELL, max(map(cell_len, self._signs), default=1)))

    @cached_property
    def _signs(self) -> list[str]:
        return [printable(piece, keep="") for piece in self.pieces]

    @cached_property
    def glyphs(self) -> np.ndarray:
        """(V + 2,) str: each token's cell, line breaks and their like as signs; then [MASK]'s; then padding's."""
        from rich.cells import set_cell_size

        mask = MASK if self.width == 1 else MASK * (self.width - 1)
        return np.array([set_cell_size(sign, self.width) for sign in [*self._signs, mask, ""]], dtype=object)

    @property
    def unit(self) -> str:
        """What a cell is."""
        return "characters" if self.width == 1 else "tokens"

    def status(self, frame: Frame) -> list[str]:
        """Where a run is: of a Game of Life its generation and what lives; then step, NFE and what is left."""
        life = [] if frame.generation is None else [f"generation {frame.generation}"]
        life += [] if frame.alive is None else [f"{int(frame.alive.sum())} alive"]
        return [*life, f"step {frame.step}", f"NFE {frame.nfe}", f"{int(frame.masked.sum())} {self.unit} left"]

    def cells(self, frame: Frame) -> np.ndarray:
        """(B, T) int, where in `glyphs` each cell of a frame is."""
        known = len(self.pieces)
        padding = np.arange(frame.tokens.shape[1]) >= frame.lengths[:, None]
        return np.where(padding, known + 1, np.where(frame.masked, known, frame.tokens.clip(0, known - 1)))
