"""Where a sampler works, and when: windows over a long canvas, blocks within a window, steps for each block.

A canvas longer than the denoiser's window is written window by window. The first window begins with the canvas;
each later one so that `overlap` written positions precede its first blank. Within a window, blocks of `block_len`
positions, counted from the window's first blank, are filled from left to right (LLaDA's semi-autoregressive
sampling): the denoiser sees the whole window, only the block is written. Rows are independent: each has its own
windows and blocks, and moves on when it is ready.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tzd.errors import ConfigError


def shares(total: np.ndarray | int, parts: np.ndarray | int, index: np.ndarray) -> np.ndarray:
    """The share of part `index` when `total` is dealt to `parts` as evenly as it goes, the first getting more.

    This is LLaDA's quota: total // parts each, and one more for the first total % parts.
    """
    return total // parts + (index < total % parts)


@dataclass(frozen=True, eq=False)
class Plan:
    """The blocks of every row in the order in which they are filled: (B, S + 1) int each.

    A row with fewer blocks than S ends earlier; the column after its last block is empty.

    Attributes:
        begin: first column of the window.
        start: first column of the block.
        stop: column after the block.
        blanks: blanks in the block before it is filled.
        steps: steps for the block, at most.
        length: (B,) number of blocks of each row.
    """

    begin: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    blanks: np.ndarray
    steps: np.ndarray
    length: np.ndarray


def make_plan(
    blank: np.ndarray,
    lengths: np.ndarray,
    width: int,
    overlap: int,
    block_len: int | None,
    steps: int | None,
    *,
    own_blocks: bool = False,
) -> Plan:
    """Windows and blocks for all rows.

    Args:
        blank: (B, T) bool, what is to be filled.
        lengths: (B,) int, columns of each row; what lies behind is padding.
        width: length of the window.
        overlap: written positions before the first blank of each window but the first.
        block_len: length of the blocks; None makes one block of what is blank in a window.
        steps: steps per window, dealt to its blocks; None lets each block have a step for each blank.
        own_blocks: whether the blocks are the denoiser's own, which are counted from the window's first position. Each
            then has a step at least.

    Raises:
        ConfigError: a window has more blocks than there are steps.
    """
    # Rows mostly share their layout, so each layout is planned once, in plain Python.
    layouts = np.concatenate([np.packbits(blank, axis=1), lengths[:, None]], axis=1)
    _, first, layout = np.unique(layouts, axis=0, return_index=True, return_inverse=True)
    plans = [_plan_row(blank[row, : lengths[row]], width, overlap, block_len, steps, own_blocks) for row in first]
    length = np.array([len(plan) for plan in plans])
    table = np.zeros((len(plans), length.max() + 1, 5), dtype=np.int64)
    table[:, :, 4] = 1  # no division by zero where nothing is left to do
    for i, plan in enumerate(plans):
        if plan:
            table[i, : len(plan)] = plan
    layout = layout.reshape(-1)  # NumPy 2.0 gives it another shape than other versions
    begin, start, stop, blanks, budget = np.moveaxis(table[layout], 2, 0)
    return Plan(begin, start, stop, blanks, budget, length[layout])


def _plan_row(
    blank: np.ndarray, width: int, overlap: int, block_len: int | None, steps: int | None, own_blocks: bool
) -> list[tuple[int, int, int, int, int]]:
    """The blocks of one row: (begin, start, stop, blanks, steps) each."""
    plan = []
    left = np.flatnonzero(blank)
    while left.size:
        begin = 0 if left[0] < width else min(left[0] - overlap, len(blank) - width)
        end = begin + width
        inside, left = left[left < end], left[left >= end]
        size = block_len or width
        origin = begin if own_blocks else inside[0]
        blocks, blanks = np.unique((inside - origin) // size, return_counts=True)
        here = max(steps, len(blocks)) if steps is not None and own_blocks else steps
        if here is not None and here < len(blocks):
            raise ConfigError(
                f"steps={here} cannot fill {len(blocks)} blocks of block_len={block_len}: "
                f"ask for steps={len(blocks)} at least, or longer blocks"
            )
        starts, stops = origin + blocks * size, np.minimum(origin + (blocks + 1) * size, end)
        starts = np.maximum(starts, inside[0])  # what an earlier window has written stays
        budget = blanks if here is None else shares(here, len(blocks), np.arange(len(blocks)))
        plan += [(begin, *block) for block in zip(starts, stops, blanks, budget, strict=True)]
    return plan


class Cursor:
    """Where each row stands in its plan.

    Attributes:
        begin: (B,) first column of the row's window.
        blanks: (B,) blanks that its block had.
        steps: (B,) steps for its block.
        index: (B,) steps made in it.
        block: (B, W) bool, the block within the window; empty when the row is finished.
    """

    def __init__(self, plan: Plan, width: int) -> None:
        rows = len(plan.length)
        self._plan = plan
        self._at = np.zeros(rows, dtype=np.int64)
        self.begin, self.blanks, self.steps, self.index = np.zeros((4, rows), dtype=np.int64)
        self.block = np.zeros((rows, width), dtype=bool)
        self._enter(np.arange(rows))

    @property
    def active(self) -> np.ndarray:
        """(B,) bool, the rows that are not finished."""
        return self._at < self._plan.length

    def advance(self, full: np.ndarray) -> np.ndarray:
        """Counts a step; rows whose block is `full` (B,) bool, or out of steps, go to the next one.

        Returns:
            (N,) int, the rows that have left a block.
        """
        active = self.active
        self.index += active
        moved = np.flatnonzero(active & (full | (self.index >= self.steps)))
        self._at[moved] += 1
        self._enter(moved)
        return moved

    def finish(self, rows: np.ndarray) -> None:
        """Ends `rows` (N,) wherever they stand."""
        self._at[rows] = self._plan.length[rows]
        self._enter(rows)

    def _enter(self, rows: np.ndarray) -> None:
        plan, at = self._plan, (rows, self._at[rows])
        self.index[rows] = 0
        self.begin[rows], self.blanks[rows], self.steps[rows] = plan.begin[at], plan.blanks[at], plan.steps[at]
        column = plan.begin[at][:, None] + np.arange(self.block.shape[1])
        self.block[rows] = (column >= plan.start[at][:, None]) & (column < plan.stop[at][:, None])
