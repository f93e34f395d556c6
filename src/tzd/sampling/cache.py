"""Caches: which positions of a window a denoiser call computes anew, and which it takes from an earlier call.

| cache    | computed in a pass                                         | the rest is                | exact           |
|----------|------------------------------------------------------------|----------------------------|-----------------|
| `exact`  | the block, and what was written since the last pass        | clean, and never changes   | block diffusion |
| `prefix` | the block and all behind it; everything at a block's first | as it was at that          | no              |
| `dual`   | the block; everything at a block's first pass              | as it was at that          | no              |

The last two are Fast-dLLM's (arXiv:2505.22618, section 3.2), opt-in: in a model that attends both ways the keys and
values of one position depend on all others. `refresh` bounds how many passes in a row may use what is stale.

A denoiser that can do this stores keys and values by position: see `Denoiser.empty_cache`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tzd.arrays import Array
from tzd.diffusion.denoiser import Denoiser
from tzd.errors import ConfigError
from tzd.sampling.blocks import Cursor

CACHES = ("none", "exact", "prefix", "dual")


def cache_kind(asked: str | None, denoiser: Denoiser) -> str:
    """The cache that a sampler uses: the exact one where the denoiser allows it, unless it is told otherwise.

    Raises:
        ConfigError: the denoiser has no cache, or not this one.
    """
    can, blocks = denoiser.cacheable, denoiser.block_len > 0
    if asked is None:
        return "exact" if can and blocks else "none"
    if asked == "none":
        return asked
    if not can:
        raise ConfigError(f"cache={asked}: this denoiser keeps no keys and values; leave it out")
    if (asked == "exact") != blocks:
        fit = "exact" if blocks else "prefix or dual"
        raise ConfigError(f"cache={asked} is not for this denoiser: {fit} is, or none")
    return asked


@dataclass(frozen=True, eq=False)
class Span:
    """What one denoiser call computes.

    Attributes:
        index: (E,) which rows of the batch.
        columns: (E, n) positions within each row's window; a row that has fewer repeats its last one.
        first: (E,) the first of them.
    """

    index: np.ndarray
    columns: np.ndarray
    first: np.ndarray


class Cache:
    """Keys and values of every row's window, and what of them still holds.

    Args:
        denoiser: the model.
        kind: exact, prefix or dual.
        refresh: passes after which everything is computed anew (prefix, dual); None waits for the next block.
        rows: number of rows of the canvas, B.
        width: of the window, W.
        branches: 2 with guidance, which keeps as many rows again; else 1.
    """

    def __init__(
        self, denoiser: Denoiser, kind: str, refresh: int | None, rows: int, width: int, *, branches: int
    ) -> None:
        self.denoiser, self.kind, self.refresh, self.rows, self.width = denoiser, kind, refresh, rows, width
        self._store = denoiser.empty_cache(branches * rows, width)
        self._window = np.full(rows, -1)  # first column of the window that is stored
        self._block = np.full(rows, -1)  # first column, within it, of the block of the last pass
        self._passes = np.zeros(rows, dtype=np.int64)  # since everything was computed

    def logits(
        self,
        batch: np.ndarray,
        inside: np.ndarray,
        ask: np.ndarray,
        times: np.ndarray | None,
        rows: np.ndarray,
        source: np.ndarray,
        cursor: Cursor,
    ) -> Array:
        """The denoiser's logits at the positions asked for.

        Args:
            batch: (E, W) int: the windows of R rows, then those of the guided ones again, without what was given.
            inside: (E, W) bool, what is no padding.
            ask: (E, W) bool, where logits are wanted.
            times: (E,) t, for denoisers that are conditioned on it.
            rows: (R,) which rows of the canvas they are.
            source: (E,) which of these R each row of the batch is. As long as a row's window is the same, it is guided
                or not.
            cursor: where each row of the canvas stands.

        Returns:
            (N, V) on the engine, in the order of np.nonzero(ask).
        """
        stored = rows[source] + np.where(np.arange(len(batch)) < len(rows), 0, self.rows)
        places, answers = [], []
        for span in self._spans(rows, source, cursor):
            index, columns, first = span.index, span.columns, span.first
            asked, at = np.nonzero(ask[index])
            attention = self._attention(columns, inside[index])
            logits, _ = self.denoiser.forward(
                np.take_along_axis(batch[index], columns, axis=1),
                t=None if times is None else times[index],
                positions=columns,
                attention=None if attention.all() else attention,  # without a mask it is quicker
                rows=asked * columns.shape[1] + at - first[asked],
                cache=self._store.at(stored[index]),
            )
            places.append(index[asked] * self.width + at)
            answers.append(logits)
        if len(answers) == 1:
            return answers[0]
        xp = self.denoiser.xp
        return xp.rows(xp.concatenate(answers), xp.asarray(np.argsort(np.concatenate(places))))

    def _spans(self, rows: np.ndarray, source: np.ndarray, cursor: Cursor) -> list[Span]:
        """The calls that a pass over `rows` (R,) of the canvas takes: one where all rows stand alike."""
        start = cursor.block[rows].argmax(axis=1)
        stop = self.width - cursor.block[rows, ::-1].argmax(axis=1)
        moved = self._window[rows] != cursor.begin[rows]
        if self.kind == "exact":
            start -= start % self.denoiser.block_len  # a window may begin to write within one of the denoiser's blocks
            first = np.where(moved, 0, self._block[rows])  # what was written in that block is clean only now
            every = np.zeros(len(rows), dtype=bool)
        else:
            stale = self.refresh is not None and self._passes[rows] >= self.refresh
            every = moved | (self._block[rows] != start) | stale
            first = np.where(every, 0, start)
            stop = np.where(every | (self.kind == "prefix"), self.width, stop)
        self._window[rows], self._block[rows] = cursor.begin[rows], start
        self._passes[rows] = np.where(every, 1, self._passes[rows] + 1)
        every, first, stop = every[source], first[source], stop[source]
        parts = [every, ~every] if every.any() and not every.all() else [np.ones(len(source), dtype=bool)]
        spans = []
        for part in parts:
            columns = first[part, None] + np.arange((stop - first)[part].max())
            spans.append(Span(np.flatnonzero(part), np.minimum(columns, stop[part, None] - 1), first[part]))
        return spans

    def _attention(self, columns: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Who may be attended to: columns (R, n), inside (R, W) -> (R, n, W) bool."""
        if not self.denoiser.block_len:
            return np.broadcast_to(inside[:, None, :], (*columns.shape, self.width))
        block = np.arange(self.width) // self.denoiser.block_len
        return inside[:, None, :] & (block <= block[columns][:, :, None])
