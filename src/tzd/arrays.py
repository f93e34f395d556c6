"""What logits need of an array library.

Whatever has the size of a canvas (B, L) is NumPy on the host. Only logits (N, V) live on an engine, and only the
functions below touch them there. Each engine brings its own `Arrays`; the one for NumPy is here, and it is what
oracles and tests run on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Array = Any  # an engine's own array


class Arrays(Protocol):
    """The functions that candidates and scores call. All reductions are over the last axis.

    Sums, softmaxes and comparisons are computed in float32 at least, whatever the dtype of the logits.
    """

    def asarray(self, x: np.ndarray) -> Array:
        """A NumPy array as the engine's own, on its device."""
        ...

    def to_numpy(self, x: Array) -> np.ndarray:
        """The engine's array as NumPy."""
        ...

    def floats(self, x: Array) -> Array:
        """`x` in float32, or as it is where it is wider already."""
        ...

    def softmax(self, x: Array) -> Array:
        """exp(x) / sum exp(x)."""
        ...

    def log_probability(self, logits: Array, index: Array) -> Array:
        """Log-softmax of `logits` (N, V) at `index` (N,), in nats: (N,)."""
        ...

    def log(self, x: Array) -> Array:
        """Natural logarithm, entry by entry; of 0 that of the smallest number."""
        ...

    def rows(self, x: Array, index: Array) -> Array:
        """x[index]: `x` (N, ...), `index` (K,) -> (K, ...)."""
        ...

    def concatenate(self, parts: Sequence[Array]) -> Array:
        """The parts (N_i, ...) behind each other."""
        ...

    def where(self, condition: Array, a: Array | float, b: Array | float) -> Array:
        """`a` where `condition`, else `b`."""
        ...

    def argmax(self, x: Array) -> Array:
        """Index of the first largest entry."""
        ...

    def max(self, x: Array) -> Array:
        """Largest entry."""
        ...

    def top2(self, x: Array) -> tuple[Array, Array]:
        """The largest and the second largest entry."""
        ...

    def sum(self, x: Array) -> Array:
        """Sum."""
        ...

    def entropy(self, p: Array) -> Array:
        """-sum p log p, with 0 log 0 = 0, in nats."""
        ...

    def sort_descending(self, x: Array) -> tuple[Array, Array]:
        """Entries from large to small, and where each stood."""
        ...

    def cumsum(self, x: Array) -> Array:
        """Running sum."""
        ...

    def take(self, x: Array, index: Array) -> Array:
        """x[..., index] row by row: `x` (N, V), `index` (N, K) -> (N, K)."""
        ...

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """`x` in another shape."""
        ...

    def pad_last(self, x: Array, width: int) -> Array:
        """`x` with zeros appended until its last axis has `width` entries."""
        ...


class NumpyArrays:
    """`Arrays` for NumPy; float64 stays float64."""

    def asarray(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x)

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        return x

    def floats(self, x: np.ndarray) -> np.ndarray:
        return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)

    def softmax(self, x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def log_probability(self, logits: np.ndarray, index: np.ndarray) -> np.ndarray:
        top = logits.max(axis=-1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(axis=-1))
        return np.take_along_axis(logits, index[:, None], axis=-1)[:, 0] - log_sum

    def log(self, x: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(x, np.finfo(x.dtype).tiny))

    def rows(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        return x[index]

    def concatenate(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)

    def where(self, condition: np.ndarray, a: Any, b: Any) -> np.ndarray:
        return np.where(condition, a, b)

    def argmax(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=-1)

    def max(self, x: np.ndarray) -> np.ndarray:
        return x.max(axis=-1)

    def top2(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if x.shape[-1] == 1:
            return x[..., 0], np.zeros_like(x[..., 0])
        largest = np.partition(x, -2, axis=-1)
        return largest[..., -1], largest[..., -2]

    def sum(self, x: np.ndarray) -> np.ndarray:
        return x.sum(axis=-1)

    def entropy(self, p: np.ndarray) -> np.ndarray:
        return -(p * self.log(p)).sum(axis=-1)

    def sort_descending(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(-x, axis=-1, kind="stable")
        return np.take_along_axis(x, order, axis=-1), order

    def cumsum(self, x: np.ndarray) -> np.ndarray:
        return x.cumsum(axis=-1)

    def take(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.take_along_axis(x, index, axis=-1)

    def reshape(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return x.reshape(shape)

    def pad_last(self, x: np.ndarray, width: int) -> np.ndarray:
        return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])
