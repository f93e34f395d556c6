"""The learning rate over a run."""

from __future__ import annotations

import math

from tzd.config import LR_SCHEDULES
from tzd.errors import ConfigError, nearest


def learning_rate(step: int, *, total: int, warmup: int, kind: str, min_ratio: float) -> float:
    """The learning rate of a step, as a share of its peak.

    It rises linearly over the warm-up, whose first step moves already and whose last has the peak, and then falls
    to `min_ratio`, which the last step of the run has. A warm-up longer than the run is cut off by its end.

    Args:
        step: optimizer step, counted from 0.
        total: optimizer steps of the run.
        warmup: steps of the warm-up; with 0 the first step has the peak.
        kind: constant (which stays at the peak), cosine (Loshchilov & Hutter, 2017, without restarts) or linear.
        min_ratio: last learning rate over the peak.

    Returns:
        A factor in [0, 1].

    Raises:
        ConfigError: the kind is unknown.
    """
    if kind not in LR_SCHEDULES:
        raise ConfigError(f"unknown training.lr_schedule '{kind}'{nearest(kind, LR_SCHEDULES)}")
    if step < warmup:
        return (step + 1) / warmup
    peak = max(warmup - 1, 0)
    progress = min((step - peak) / max(total - 1 - peak, 1), 1.0)
    if kind == "constant":
        return 1.0
    height = 1.0 - progress if kind == "linear" else (1.0 + math.cos(math.pi * progress)) / 2
    return min_ratio + (1.0 - min_ratio) * height
