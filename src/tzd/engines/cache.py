"""Keys and values of earlier passes, by position: what `Denoiser.empty_cache` gives, on every engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(eq=False)
class KeyValues:
    """Keys and values of every layer at `width` positions of `rows` sequences; what `empty_cache` gives.

    Attributes:
        rows: number of sequences.
        width: positions of each.
        layers: per layer two (rows, width, heads, head width) arrays of the engine, made when it first computes.
    """

    rows: int
    width: int
    layers: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def at(self, rows: np.ndarray) -> KeyValueRows:
        """The part that a call over some of the sequences, `rows` (R,) int, reads and writes."""
        return KeyValueRows(self, rows)


@dataclass(eq=False)
class KeyValueRows:
    """What `Denoiser.forward` takes as its cache."""

    store: KeyValues
    rows: np.ndarray
