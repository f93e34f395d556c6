"""How a call of a network reads and writes the cache of keys and values."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from tzd.engines.cache import KeyValueRows


class Memory:
    """A call's view of the cache, for the layers of a network.

    Several calls, on streams of their own, may read the cache at a time; `keep` writes what they have computed.

    Args:
        part: the sequences that it is about.
        positions: (R, n) int, where the tokens of the call stand.
    """

    def __init__(self, part: KeyValueRows, positions: np.ndarray) -> None:
        self.store, self.rows, self.positions = part.store, mx.array(part.rows), mx.array(positions)
        self.new: dict[int, tuple[mx.array, mx.array]] = {}

    def updated(self, layer: int, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        """Notes a layer's keys and values of the tokens, (R, n, heads, width); returns those of all positions."""
        self.new[layer] = (k, v)
        if layer in self.store.layers:
            before = tuple(whole[self.rows] for whole in self.store.layers[layer])
        else:
            shape = (len(k), self.store.width, *k.shape[2:])
            before = (mx.zeros(shape, k.dtype), mx.zeros(shape, v.dtype))
        index = mx.arange(len(k))[:, None]
        for whole, part in zip(before, (k, v), strict=True):
            whole[index, self.positions] = part
        return before[0], before[1]

    def keep(self) -> None:
        """Writes what the call computed into the cache."""
        for layer, parts in self.new.items():
            if layer not in self.store.layers:
                shape = (self.store.rows, self.store.width, *parts[0].shape[2:])
                self.store.layers[layer] = (mx.zeros(shape, parts[0].dtype), mx.zeros(shape, parts[1].dtype))
            for whole, part in zip(self.store.layers[layer], parts, strict=True):
                whole[self.rows[:, None], self.positions] = part
