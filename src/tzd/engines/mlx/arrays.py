"""`tzd.arrays.Arrays` for MLX arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

_TINY = float(np.finfo(np.float32).tiny)


class MlxArrays:
    """The functions that candidates and scores call, on MLX's default device.

    float32 is the widest: a GPU has no float64, and on a CPU MLX's exponentials of float64 are no more exact.
    """

    def asarray(self, x: np.ndarray) -> mx.array:
        return mx.array(x)  # float64 becomes float32

    def to_numpy(self, x: mx.array) -> np.ndarray:
        return np.asarray(x.astype(mx.float32) if x.dtype == mx.bfloat16 else x)  # NumPy has no bfloat16

    def floats(self, x: mx.array) -> mx.array:
        return x.astype(mx.float32)

    def softmax(self, x: mx.array) -> mx.array:
        return mx.softmax(x, axis=-1, precise=True)

    def log_probability(self, logits: mx.array, index: mx.array) -> mx.array:
        chosen = mx.take_along_axis(logits, index[:, None], axis=-1)[:, 0]
        return chosen - mx.logsumexp(logits, axis=-1)

    def log(self, x: mx.array) -> mx.array:
        return mx.log(mx.maximum(x, _TINY))

    def rows(self, x: mx.array, index: mx.array) -> mx.array:
        return x[index]

    def concatenate(self, parts: Sequence[mx.array]) -> mx.array:
        return mx.concatenate(list(parts))

    def where(self, condition: mx.array, a: Any, b: Any) -> mx.array:
        return mx.where(condition, a, b)

    def argmax(self, x: mx.array) -> mx.array:
        return mx.argmax(x, axis=-1).astype(mx.int32)  # MLX counts in uint32, in which 0 - 1 is large

    def max(self, x: mx.array) -> mx.array:
        return mx.max(x, axis=-1)

    def top2(self, x: mx.array) -> tuple[mx.array, mx.array]:
        if x.shape[-1] == 1:
            return x[..., 0], mx.zeros_like(x[..., 0])
        largest = mx.topk(x, 2, axis=-1)  # in no order
        return mx.max(largest, axis=-1), mx.min(largest, axis=-1)

    def sum(self, x: mx.array) -> mx.array:
        return mx.sum(x, axis=-1)

    def entropy(self, p: mx.array) -> mx.array:
        return -mx.sum(mx.where(p > 0, p * mx.log(p), 0.0), axis=-1)

    def sort_descending(self, x: mx.array) -> tuple[mx.array, mx.array]:
        order = mx.argsort(-x, axis=-1).astype(mx.int32)
        return mx.take_along_axis(x, order, axis=-1), order

    def cumsum(self, x: mx.array) -> mx.array:
        return mx.cumsum(x, axis=-1)

    def take(self, x: mx.array, index: mx.array) -> mx.array:
        return mx.take_along_axis(x, index, axis=-1)

    def reshape(self, x: mx.array, shape: tuple[int, ...]) -> mx.array:
        return mx.reshape(x, shape)

    def pad_last(self, x: mx.array, width: int) -> mx.array:
        return mx.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])
