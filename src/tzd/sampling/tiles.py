"""Sequences longer than a denoiser's window, all at once: windows that overlap, each answering for its middle.

A sampler that meets a canvas longer than the window writes it from left to right (`tzd.sampling.blocks`). Where blanks
lie all over a text, as in a Game of Life, every one of them needs what is on both of its sides, and now. So the text is
laid out in windows half a window apart, all of them are one batch, and the logits at a position are those of the window
in whose middle it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tzd.arrays import Array
from tzd.diffusion.denoiser import Denoiser
from tzd.errors import ConfigError, UserError


class TiledDenoiser:
    """A denoiser of longer sequences, made of another one; implements `tzd.diffusion.denoiser.Denoiser`.

    Every position has a quarter of a window of text before it and behind it at least, except at the ends of a text that
    has ends. The first `context_len` positions of a window are never asked either, as training never masked them. A
    sequence that fits one window is seen as it is. Windows in which nothing is asked are not computed.

    Args:
        inner: what computes; with time conditioning, each window's time is its own masked fraction.
        length: of the sequences, T.
        wrap: whether a text goes on at its beginning where it ends.

    Raises:
        ConfigError: the denoiser sees to the left only, or only within its blocks.
    """

    time_conditioned = False  # a window tells its time by itself
    time_steps = 0
    context_len = 0
    block_len = 0
    cacheable = False

    def __init__(self, inner: Denoiser, length: int, *, wrap: bool) -> None:
        if inner.block_len:
            raise ConfigError(
                f"a model of block diffusion (block_len={inner.block_len}) sees nothing of what comes after a block:"
                " this takes one that looks both ways"
            )
        self.inner = inner
        self.engine, self.xp = inner.engine, inner.xp
        self.vocab_size, self.mask_id, self.banned = inner.vocab_size, inner.mask_id, inner.banned
        self.seq_len = length
        self.first, self.owner = layout(length, inner.seq_len, inner.context_len, wrap=wrap)
        self._columns = (self.first[:, None] + np.arange(min(length, inner.seq_len))) % length

    def empty_cache(self, rows: int, width: int) -> Any:
        """Windows keep nothing."""
        raise NotImplementedError

    def forward(
        self,
        tokens: np.ndarray,
        *,
        t: np.ndarray | None = None,
        positions: np.ndarray | None = None,
        attention: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        cache: Any = None,
    ) -> tuple[Array, None]:
        """See `Denoiser.forward`; all sequences are of full length, so that there is no `attention` to be told."""
        if tokens.shape[1] != self.seq_len or attention is not None or positions is not None or cache is not None:
            raise UserError(f"windows over {self.seq_len} tokens take sequences of just that length, without padding")
        everywhere = rows is None
        row, column = np.divmod(np.arange(tokens.size) if rows is None else rows, self.seq_len)
        # the windows that are asked anything, and where in the flattened batch of them each answer is
        count, width = self._columns.shape
        windows, place = np.unique(row * count + self.owner[column], return_inverse=True)
        source, window = np.divmod(windows, count)
        offset = (column - self.first[self.owner[column]]) % self.seq_len
        logits, _ = self.inner.forward(
            tokens[source[:, None], self._columns[window]],
            t=None if t is None else np.broadcast_to(t, len(tokens))[source],
            rows=place.reshape(-1) * width + offset,
        )
        return self.xp.reshape(logits, (*tokens.shape, self.vocab_size)) if everywhere else logits, None


def layout(length: int, window: int, context_len: int, *, wrap: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where windows begin, and which of them answers for a position.

    Args:
        length: of the text, T.
        window: the denoiser's, L.
        context_len: length of the prefix that training never masked.
        wrap: whether the text is a ring.

    Returns:
        (n,) int, first positions; (T,) int, the number of the window in whose middle a position lies. Windows have
        L positions, or T where that is less.
    """
    width = min(length, window)
    before = min(max(context_len, width // 4), width - 1)
    behind = min(width // 4, width - 1 - before)
    reach = width - before - behind  # positions for which one window can answer
    ring = wrap and (length > window or context_len > 0)  # else one window shows all there is
    if ring:
        count = -(-length // reach)
        first = np.arange(count) * length // count
    else:
        count = 1 + -(-(length - width) // reach)
        first = np.arange(count) * (length - width) // max(1, count - 1)
    offset = np.arange(length) - first[:, None]
    offset = offset % length if ring else offset
    from_middle = np.abs(2 * offset - (before + width - 1 - behind))
    return first, np.where((offset >= 0) & (offset < width), from_middle, 2 * length).argmin(axis=0)
