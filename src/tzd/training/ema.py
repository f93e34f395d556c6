"""The moving average of the weights."""

from __future__ import annotations


def ema_decay_at(step: int, decay: float) -> float:
    """The decay of the moving average at a step: average ← d · average + (1 − d) · weights.

    The first averages would be little but initial weights, so the decay rises with the steps:
    d = min(decay, (1 + step) / (10 + step)), as in TensorFlow's ExponentialMovingAverage (`num_updates`).

    Args:
        step: optimizer step, counted from 0.
        decay: the decay that is reached, in [0, 1).

    Returns:
        The decay of this step.
    """
    return min(decay, (1 + step) / (10 + step))
