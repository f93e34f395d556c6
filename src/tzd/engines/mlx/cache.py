"""Keys and values of earlier passes, by position."""

from __future__ import annotations

from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np


@dataclass(eq=False)
class KeyValues:
    """Keys and values of every layer at `width` positions of `rows` sequences; what `empty_cache` gives.

    Attributes:
        rows: number of sequences.
        width: positions of each.
        layers: per layer two (rows, width, heads, head width) arrays, made when it first computes.
    """

    rows: int
    width: int
    layers: dict[int, tuple[mx.array, mx.array]] = field(default_factory=dict)

    def at(self, rows: np.ndarray) -> KeyValueRows:
        """The part that a call over some of the sequences, `rows` (R,) int, reads and writes."""
        return KeyValueRows(self, rows)


@dataclass(eq=False)
class KeyValueRows:
    """What `Denoiser.forward` takes as its cache."""

    store: KeyValues
    rows: np.ndarray


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
