"""Windows of a token array: an endless sequence to train on, and a fixed cover to evaluate on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from tzd.errors import CorpusError
from tzd.randomness import permutation, uniforms


class TokenRow(Protocol):
    """(N,) tokens, in memory, memory-mapped, or in several files; int indices of any shape give that shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Batch(NamedTuple):
    """Windows to train on.

    Attributes:
        tokens: (B, L) int32.
        maskable: (B, L) bool, what may be masked: everything here; pads and prompts, where a batch has them, may not.
    """

    tokens: np.ndarray
    maskable: np.ndarray


@dataclass(frozen=True, eq=False)
class Windows:
    """An endless sequence of windows, whose g-th is a pure function of (seed, g).

    A window may start anywhere. In each epoch a window starts at every `length`-th of the S = N - length + 1 possible
    starts, counted from a random offset and around the end, in random order: so all starts come up equally often, and
    within an epoch hardly a token is seen twice.

    Attributes:
        tokens: (N,) int.
        length: tokens of a window, L.
        seed: of the order.
    """

    tokens: TokenRow
    length: int
    seed: int

    def __post_init__(self) -> None:
        _check(self.tokens, self.length)
        if len(self.tokens) < self.length:
            raise CorpusError(
                f"the text has {len(self.tokens)} tokens, fewer than one window of {self.length}; "
                f"set data.block_size to {len(self.tokens)} at most, or use a longer text"
            )

    @property
    def starts(self) -> int:
        """Number of possible starts, S."""
        return len(self.tokens) - self.length + 1

    @property
    def per_epoch(self) -> int:
        """Windows of an epoch, W."""
        return -(-self.starts // self.length)

    def batch(self, first: int, count: int) -> Batch:
        """Windows `first` to `first + count - 1` of the sequence."""
        index = np.arange(first, first + count)
        epochs, slots = np.divmod(index, self.per_epoch)
        starts = np.empty(count, np.int64)
        for epoch in np.unique(epochs):  # one or two, unless an epoch is shorter than a batch
            here = epochs == epoch
            starts[here] = _epoch_starts(self.seed, int(epoch), self.starts, self.length)[slots[here]]
        tokens = self.tokens[starts[:, None] + np.arange(self.length)].astype(np.int32)
        return Batch(tokens, np.ones(tokens.shape, dtype=bool))


@lru_cache(maxsize=2)
def _epoch_starts(seed: int, epoch: int, starts: int, length: int) -> np.ndarray:
    """(W,) the starts of an epoch's windows in their order."""
    offset = int(uniforms(seed, "window-offset", epoch, 1, 1)[0, 0] * starts)
    order = permutation(seed, "window-order", epoch, -(-starts // length))
    return (offset + order * length) % starts


def evaluation_windows(tokens: TokenRow, length: int, limit: int = 0) -> list[np.ndarray]:
    """Windows that count every token exactly once, in the order of the text.

    Args:
        tokens: (N,) int.
        length: tokens of a window, L.
        limit: if positive, at most that many whole windows, spread evenly over the text, and no tail unless the text
            is shorter than a window.

    Returns:
        The whole windows, (N // L, L) int32, and what is left over, (1, N % L) int32; neither where it is empty.

    Raises:
        CorpusError: there are no tokens.
    """
    _check(tokens, length)
    whole = len(tokens) // length
    starts = np.arange(whole) * length
    tail = np.arange(whole * length, len(tokens)).reshape(1, -1)
    if limit and whole:
        count = min(limit, whole)
        starts, tail = starts[(2 * np.arange(count) + 1) * whole // (2 * count)], tail[:, :0]
    places = (starts[:, None] + np.arange(length), tail)
    return [np.asarray(tokens[part]).astype(np.int32) for part in places if part.size]


def _check(tokens: TokenRow, length: int) -> None:
    if len(tokens.shape) != 1 or not tokens.shape[0]:
        raise CorpusError(f"windows are cut from one row of tokens, not from an array of shape {tokens.shape}")
    if length < 1:
        raise CorpusError(f"a window needs a length of at least 1, not {length} (data.block_size)")
