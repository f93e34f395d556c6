"""A number with its standard error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_GROUPS = 32  # of the jackknife


class Estimate(NamedTuple):
    """A number and its standard error; the error is NaN where one sample cannot tell."""

    value: float
    stderr: float

    def named(self, name: str) -> dict[str, float | None]:
        """Both as plain data, `NAME` and `NAME_stderr`, which is None where it is not known."""
        return {name: self.value, f"{name}_stderr": self.stderr if math.isfinite(self.stderr) else None}


def mean(values: np.ndarray) -> Estimate:
    """The mean of independent values (N,)."""
    n = len(values)
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else math.nan)


def jackknife(statistic: Callable[[np.ndarray], float], samples: int) -> Estimate:
    """A statistic of a set of samples that is no mean over them, by the delete-a-group jackknife.

    Quenouille (1956); with G groups the variance is (G − 1)/G Σ (θ_(g) − mean)².

    Args:
        statistic: indices of samples (K,) -> the statistic of those samples.
        samples: number of samples, N.
    """
    everything = np.arange(samples)
    groups = min(_GROUPS, samples)
    if groups < 2:
        return Estimate(statistic(everything), math.nan)
    without = np.array([statistic(everything[everything % groups != g]) for g in range(groups)])
    spread = (groups - 1) / groups * float(((without - without.mean()) ** 2).sum())
    return Estimate(statistic(everything), math.sqrt(spread))
