"""Σ weight · CE in MLX."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
from mlx import nn

from tzd.engines.mlx.exponential import exp2

_CHUNK = 2**19  # logits that are made at a time where the vocabulary is large: 2 MiB
_LOG2_E = 1 / math.log(2)


def weighted_cross_entropy(logits: mx.array, targets: mx.array, weight: mx.array) -> mx.array:
    """Σ weight · CE in float32: logits (..., V), targets and weight (...)."""
    logits = logits.astype(mx.float32)
    if mx.default_device() == mx.Device(mx.gpu):
        return (nn.losses.cross_entropy(logits, targets) * weight).sum()
    logits = logits - mx.stop_gradient(logits.max(axis=-1, keepdims=True))
    total = exp2(logits * _LOG2_E).sum(axis=-1)
    chosen = mx.take_along_axis(logits, targets[..., None], axis=-1).squeeze(-1)
    return ((mx.log(total) - chosen) * weight).sum()


def head_cross_entropy(hidden: mx.array, targets: mx.array, weight: mx.array, *, head: mx.array) -> mx.array:
    """Σ weight · CE in float32 of the logits hidden · headᵀ, of which some columns at a time are held.

    The gradient makes them again. MLX lets dozens of operations wait, and holds what they will write: so each chunk of
    columns depends on the one before. Chunks of rows would need the head's gradient added up, a whole matrix each time.

    Args:
        hidden: (..., C), what the head is given.
        targets: (...) int.
        weight: (...).
        head: (V, C), the head's matrix.
    """
    targets, weight = targets.reshape(-1, 1), weight.reshape(-1, 1)

    def value(hidden: mx.array, head: mx.array) -> tuple[mx.array, mx.array]:
        log_total = _log_total(hidden, head)
        chosen = (hidden.astype(mx.float32) * head[targets[:, 0]].astype(mx.float32)).sum(axis=-1, keepdims=True)
        return ((log_total / _LOG2_E - chosen) * weight).sum(), log_total

    loss: Any = mx.custom_function(value)

    @loss.vjp
    def gradients(
        primals: tuple[mx.array, mx.array], cotangents: tuple[mx.array, mx.array], outputs: tuple[mx.array, mx.array]
    ) -> tuple[mx.array, mx.array]:
        return _gradients(*primals, outputs[1], targets, weight * cotangents[0])

    return loss(hidden.reshape(-1, hidden.shape[-1]), head)[0]


def _log_total(hidden: mx.array, head: mx.array) -> mx.array:
    """log2 Σ e^logit of each row, (N, 1)."""
    top, total = mx.full((len(hidden), 1), -math.inf), mx.zeros((len(hidden), 1))
    for columns in _columns(hidden, head):
        logits = _logits(hidden, head[columns])
        higher = mx.maximum(top, logits.max(axis=-1, keepdims=True))
        total = total * exp2(top - higher) + exp2(logits - higher).sum(axis=-1, keepdims=True)
        top = higher
        (hidden,) = mx.depends([hidden], [total])
    return top + mx.log(total) * _LOG2_E


def _gradients(
    hidden: mx.array, head: mx.array, log_total: mx.array, targets: mx.array, weight: mx.array
) -> tuple[mx.array, mx.array]:
    """Those of Σ weight · CE: of hidden, and of the head."""
    slope, parts = mx.zeros(hidden.shape), []
    for columns in _columns(hidden, head):
        at = mx.arange(columns.start, columns.stop)
        # ∂CE/∂logits: probabilities, less 1 at the target
        slopes = (exp2(_logits(hidden, head[columns]) - log_total) - (at == targets)) * weight
        slopes = slopes.astype(head.dtype)
        slope = slope + (slopes @ head[columns]).astype(mx.float32)
        parts.append(slopes.T @ hidden)
        (hidden,) = mx.depends([hidden], [slope, parts[-1]])
    return slope.astype(hidden.dtype), mx.concatenate(parts)


def _logits(hidden: mx.array, head: mx.array) -> mx.array:
    """In float32, for base 2."""
    return (hidden @ head.T).astype(mx.float32) * _LOG2_E


def _columns(hidden: mx.array, head: mx.array) -> Iterator[slice]:
    """The vocabulary, in parts of nearly equal size."""
    count = min(-(-hidden.shape[0] * head.shape[0] // _CHUNK), head.shape[0])
    edges = [head.shape[0] * i // count for i in range(count + 1)]
    return (slice(*edges[i : i + 2]) for i in range(count))
