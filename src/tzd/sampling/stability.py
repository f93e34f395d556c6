"""How long a position's distribution has stayed what it is: what KLASS goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tzd.arrays import Array
from tzd.sampling.moment import Moment

if TYPE_CHECKING:
    from tzd.sampling.combination import Sampler
    from tzd.sampling.keep import Seen


class Stability:
    """The distributions of the step before, and since when each position has been stable.

    A position is stable in a step if KL(now ‖ before) is below the sampler's `kl_threshold` (KLASS, arXiv:2511.05664,
    section 3; reference implementation: llada_klass.py, lines 110 to 182). A block begins with no past.
    """

    def __init__(self) -> None:
        self._before: Array = None  # (M, V) on the engine
        self._place = np.zeros((0, 0), dtype=np.int64)  # (B, W) row of `_before`; −1 where there is none
        self._steps = np.zeros((0, 0), dtype=np.int64)  # (B, W) steps in a row for which it has been stable

    def stable(self, seen: Seen, at: Moment, sampler: Sampler) -> np.ndarray:
        """Takes note of a step. Returns (B, W) bool, what has been stable for `kl_steps` steps."""
        shape = at.blank.shape
        if self._place.shape != shape:
            self._place, self._steps = np.full(shape, -1), np.zeros(shape, dtype=np.int64)
        begins = at.index == 0
        self._place[begins], self._steps[begins] = -1, 0
        xp, now = seen.xp, seen.candidates.probabilities
        place = self._place[seen.rows, seen.columns]
        known = np.flatnonzero(place >= 0)
        divergence = np.full(len(place), np.inf)
        if known.size:
            p = xp.rows(now, xp.asarray(known))
            q = xp.rows(self._before, xp.asarray(place[known]))
            divergence[known] = xp.to_numpy(xp.sum(p * (xp.log(p) - xp.log(q))))
        steps = self._steps[seen.rows, seen.columns] + 1
        self._steps[seen.rows, seen.columns] = np.where(divergence < sampler.kl_threshold, steps, 0)
        self._before = now
        self._place[:] = -1
        self._place[seen.rows, seen.columns] = np.arange(len(place))
        return self._steps >= sampler.kl_steps
