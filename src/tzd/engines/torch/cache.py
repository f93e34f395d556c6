"""How a call of a network reads and writes the cache of keys and values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tzd.engines.cache import KeyValueRows


class Memory:
    """A call's view of the cache, for the layers of a network.

    Args:
        part: the sequences that it is about.
        positions: (R, n) int, where the tokens of the call stand.
    """

    def __init__(self, part: KeyValueRows, positions: Tensor) -> None:
        self.store, self.positions = part.store, positions
        rows, first = part.rows, int(part.rows[0])
        self.rows = torch.as_tensor(rows, device=positions.device)
        together = np.array_equal(rows, np.arange(first, first + len(rows)))  # which can be read where they lie
        self.part = slice(first, first + len(rows)) if together else self.rows

    def updated(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps a layer's keys and values of the tokens, (R, n, heads, width); returns those of all positions."""
        if layer not in self.store.layers:
            shape = (self.store.rows, self.store.width, *k.shape[2:])
            self.store.layers[layer] = (k.new_zeros(shape), v.new_zeros(shape))
        kept = self.store.layers[layer]
        for whole, part in zip(kept, (k, v), strict=True):
            whole[self.rows[:, None], self.positions] = part
        return kept[0][self.part], kept[1][self.part]
