"""The canvas on which a text appears, and the frames that show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tzd.errors import UserError


@dataclass(frozen=True, eq=False)
class Frame:
    """What a sampler shows after a step. All arrays are the reader's own.

    Attributes:
        step: number of the step; 0 is the canvas as it was given. Steps that neither call
            the denoiser nor write are not shown.
        tokens: (B, T) int32, with the denoiser's `mask_id` at the blanks.
        masked: (B, T) bool, the blanks.
        revealed: (B, T) bool, what this step wrote.
        confidence: (B, T) float32, the denoiser's probability of each token when it was written; 1 for given
            tokens, 0 for blanks.
        nfe: denoiser calls so far; a guided step makes two.
        lengths: (B,) int64, columns of each row; what lies behind is padding.
        alive: (B, T) bool, the living cells of a Game of Life; None elsewhere.
        generation: number of the Game of Life's generation; None elsewhere.
    """

    step: int
    tokens: np.ndarray
    masked: np.ndarray
    revealed: np.ndarray
    confidence: np.ndarray
    nfe: int
    lengths: np.ndarray
    alive: np.ndarray | None = None
    generation: int | None = None


@dataclass(eq=False)
class Canvas:
    """The state of a sample: everything that changes from step to step, (B, T) each.

    Attributes:
        mask_id: token that stands at the blanks.
        tokens: int32.
        masked: bool, the blanks; kept apart from `tokens`, in which data may hold `mask_id` too.
        frozen: bool, what never changes.
        confidence: float32, see `Frame`.
        lengths: (B,) columns of each row; what lies behind is padding.
        step: steps made.
        nfe: denoiser calls made.
    """

    mask_id: int
    tokens: np.ndarray
    masked: np.ndarray
    frozen: np.ndarray
    confidence: np.ndarray
    lengths: np.ndarray
    step: int = 0
    nfe: int = 0

    @classmethod
    def start(
        cls,
        tokens: np.ndarray,
        frozen: np.ndarray | None,
        lengths: np.ndarray | None,
        mask_id: int,
        vocab_size: int,
    ) -> Canvas:
        """The canvas that a caller gave.

        Args:
            tokens: (B, T) int, `mask_id` at the blanks.
            frozen: (B, T) bool, what never changes; whatever is not `mask_id` if None.
            lengths: (B,) int, columns of each row, the rest of which is padding; all T if None.
            mask_id: id of [MASK].
            vocab_size: number of tokens.

        Raises:
            UserError: the shapes or the tokens cannot be used.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or tokens.size == 0 or not np.issubdtype(tokens.dtype, np.integer):
            raise UserError(
                f"a canvas is a non-empty (rows, length) array of token ids, not {tokens.shape} {tokens.dtype}"
            )
        wrong = (tokens < 0) | ((tokens >= vocab_size) & (tokens != mask_id))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise UserError(
                f"token {tokens[row, column]} at row {row}, position {column} is not one of the {vocab_size} known"
            )
        frozen = tokens != mask_id if frozen is None else np.array(frozen)
        if frozen.shape != tokens.shape or frozen.dtype != bool:
            raise UserError(f"frozen must be {tokens.shape} truth values, not {frozen.shape} {frozen.dtype}")
        rows, width = tokens.shape
        lengths = np.full(rows, width) if lengths is None else np.asarray(lengths)
        if lengths.shape != (rows,) or not ((lengths >= 1) & (lengths <= width)).all():
            raise UserError(f"lengths must be {rows} whole numbers in 1..{width}, not {lengths.tolist()}")
        frozen |= np.arange(width) >= lengths[:, None]
        masked = (tokens == mask_id) & ~frozen
        confidence = (~masked).astype(np.float32)
        return cls(mask_id, tokens.astype(np.int32), masked, frozen, confidence, lengths.astype(np.int64))

    def frame(self, rows: np.ndarray, columns: np.ndarray) -> Frame:
        """A picture of the canvas, of which `rows`, `columns` (N,) were written last."""
        revealed = np.zeros(self.masked.shape, dtype=bool)
        revealed[rows, columns] = True
        tokens, masked, confidence, lengths = (
            own.copy() for own in (self.tokens, self.masked, self.confidence, self.lengths)
        )
        return Frame(self.step, tokens, masked, revealed, confidence, self.nfe, lengths)

    def write(self, rows: np.ndarray, columns: np.ndarray, tokens: np.ndarray, probability: np.ndarray) -> None:
        """Reveals `tokens` (N,), of that `probability`, at `rows`, `columns`."""
        self.tokens[rows, columns] = tokens
        self.confidence[rows, columns] = probability
        self.masked[rows, columns] = False

    def end(self, token: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Writes `token` at all that is still blank in `rows` (N,). Returns where, rows and columns."""
        row, columns = np.nonzero(self.masked[rows])
        self.write(rows[row], columns, np.full(len(row), token), np.ones(len(row)))
        return rows[row], columns

    def erase(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Remasks `rows`, `columns` (N,)."""
        self.tokens[rows, columns] = self.mask_id
        self.confidence[rows, columns] = 0
        self.masked[rows, columns] = True


def window(values: np.ndarray, begin: np.ndarray, width: int) -> np.ndarray:
    """`values` (B, T) from column `begin` (B,) on. Returns (B, width)."""
    if width == values.shape[1]:  # everything is in the window: no copy
        return values
    return np.take_along_axis(values, begin[:, None] + np.arange(width), axis=1)
