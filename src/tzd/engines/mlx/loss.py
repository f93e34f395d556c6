"""Σ weight · CE in MLX."""

from __future__ import annotations

import math

import mlx.core as mx
from mlx import nn

from tzd.engines.mlx.exponential import exp2


def weighted_cross_entropy(logits: mx.array, targets: mx.array, weight: mx.array) -> mx.array:
    """Σ weight · CE in float32: logits (..., V), targets and weight (...)."""
    logits = logits.astype(mx.float32)
    if mx.default_device() == mx.Device(mx.gpu):
        return (nn.losses.cross_entropy(logits, targets) * weight).sum()
    logits = logits - mx.stop_gradient(logits.max(axis=-1, keepdims=True))
    total = exp2(logits * (1 / math.log(2))).sum(axis=-1)
    chosen = mx.take_along_axis(logits, targets[..., None], axis=-1).squeeze(-1)
    return ((mx.log(total) - chosen) * weight).sum()
