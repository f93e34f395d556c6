"""Corruption: which tokens of x_0 become [MASK]."""

from __future__ import annotations

import numpy as np

from tzd.errors import ConfigError, nearest

TIME_SAMPLINGS = ("independent", "jittered", "systematic")


def draw_times(sampling: str, u: np.ndarray) -> np.ndarray:
    """One time per row of the global batch.

    `jittered` and `systematic` are both called "antithetic" or "low-discrepancy" elsewhere: the first puts one
    independent time into each of B equal strata (MDLM), the second shifts a regular grid by a single number (MD4).

    Args:
        sampling: independent, jittered or systematic.
        u: (B,) uniform numbers, one per row of the *global* batch.

    Returns:
        (B,) float64 in [0, 1), each uniform by itself.
    """
    if sampling == "independent":
        return u
    strata = np.arange(len(u)) / len(u)
    if sampling == "jittered":
        return strata + u / len(u)
    if sampling == "systematic":
        return (strata + u[0]) % 1.0
    raise ConfigError(f"unknown objective.time_sampling '{sampling}'{nearest(sampling, TIME_SAMPLINGS)}")


def mask_by_probability(maskable: np.ndarray, probability: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Every maskable position independently, with the probability of its row.

    Args:
        maskable: (B, L) bool.
        probability: (B,) mask-probability of each row.
        u: (B, L) uniform numbers.

    Returns:
        (B, L) bool.
    """
    return maskable & (u < probability[:, None])


def mask_by_count(maskable: np.ndarray, count: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A uniformly random subset of exactly `count` maskable positions in each row.

    Args:
        maskable: (B, L) bool.
        count: (B,) int, at most the number of maskable positions of the row.
        u: (B, L) uniform numbers; the positions with the smallest ones are taken.

    Returns:
        (B, L) bool.
    """
    return smallest(np.where(maskable, u, 2.0), count)


def smallest(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The `count` smallest values of each row; of equal ones the first.

    Args:
        values: (B, L) float, no NaN among them.
        count: (B,) int, in 0..L.

    Returns:
        (B, L) bool.
    """
    # by the largest value that is in: sorting values takes a tenth of the time of sorting places stably
    last = np.sort(values, axis=1)[np.arange(len(values)), np.maximum(count, 1) - 1][:, None]
    sure, tied = values < last, values == last
    room = count[:, None] - sure.sum(axis=1, keepdims=True)
    return sure | (tied & (np.cumsum(tied, axis=1) <= room))
