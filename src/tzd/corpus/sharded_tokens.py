"""Tokens in several files as one row, of which any part can be looked at without reading the rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class ShardedTokens:
    """One row of N tokens over several files; indices of any shape give an array of that shape.

    Attributes:
        files: the shards.
        ends: (S,) int64, how many tokens there are up to the end of each.
        dtype: of the tokens.
        start: the first token that belongs to the row.
        stop: one past the last.
    """

    files: tuple[Path, ...]
    ends: np.ndarray
    dtype: np.dtype
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int]:
        """(N,)."""
        return (len(self),)

    def __len__(self) -> int:
        return self.stop - self.start

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        return [np.memmap(file, self.dtype, "r") for file in self.files]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_maps"}  # a map would be copied whole

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The tokens at (…) int indices, 0 to N - 1; IndexError for any other."""
        index = np.asarray(index, np.int64)
        if index.size and not (index.min() >= 0 and index.max() < len(self)):
            raise IndexError(f"an index lies outside of the {len(self)} tokens")
        places = index.ravel() + self.start
        shards = np.searchsorted(self.ends, places, side="right")
        order = np.argsort(shards, kind="stable")
        used, first = np.unique(shards[order], return_index=True)
        tokens = np.empty(places.shape, self.dtype)
        for shard, begin, end in zip(used, first, np.append(first, len(order))[1:], strict=True):
            here = order[begin:end]
            tokens[here] = self._maps[shard][places[here] - (self.ends[shard - 1] if shard else 0)]
        return tokens.reshape(index.shape)
