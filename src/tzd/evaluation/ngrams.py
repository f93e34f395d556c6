"""Runs of n tokens as 64-bit numbers, so that they are compared, counted and looked up without Python loops."""

from __future__ import annotations

import numpy as np

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd; polynomial hashing modulo 2^64


def _mix(tokens: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: neighbouring ids become unrelated numbers (Steele et al., 2014)."""
    x = tokens.astype(np.uint64) + _MULTIPLIER
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def ngrams(tokens: np.ndarray, n: int) -> np.ndarray:
    """The n-grams along the last axis.

    Two different ones share a number with probability 2^-64.

    Args:
        tokens: (..., L) int.
        n: their length; at least 1.

    Returns:
        (..., max(0, L − n + 1)) uint64.
    """
    count = max(0, tokens.shape[-1] - n + 1)
    total = np.zeros((*tokens.shape[:-1], count), np.uint64)
    if not count:
        return total
    mixed = _mix(tokens)
    with np.errstate(over="ignore"):
        for i in range(n):
            total = total * _MULTIPLIER + mixed[..., i : i + count]
    return total
