"""Score: which blanks come first.

A score that needs no logits lets the head run at the chosen positions alone. The others read the denoiser's
distribution as it is: after guidance and bans, before temperature, top-k and top-p. `token-confidence` looks at
the token that was drawn, and so prefers positions where a likely token happened to be drawn: a hidden lowering of
the temperature. It is here because LLaDA and SMDM are defined by it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tzd.arrays import Array, Arrays
from tzd.sampling.draw import Candidates
from tzd.sampling.moment import Moment


def random(at: Moment) -> np.ndarray:
    """A uniformly random order: the smallest draw first, which are the very ones that `binomial` counts."""
    return -at.position_draws


def left_to_right(at: Moment) -> np.ndarray:
    """The order of reading."""
    return np.broadcast_to(-np.arange(at.blank.shape[1], dtype=np.float64), at.blank.shape)


def confidence(xp: Arrays, candidates: Candidates) -> Array:
    """The largest probability."""
    return xp.max(candidates.probabilities)


def margin(xp: Arrays, candidates: Candidates) -> Array:
    """The largest probability less the second largest."""
    first, second = xp.top2(candidates.probabilities)
    return first - second


def entropy(xp: Arrays, candidates: Candidates) -> Array:
    """The entropy's negative, in nats."""
    return -xp.entropy(candidates.probabilities)


# Orders that need no logits: moment -> (B, W) float64, read at the blanks.
FREE_ORDERS: dict[str, Callable[[Moment], np.ndarray]] = {"random": random, "left-to-right": left_to_right}
# Orders that read the distribution on the engine: candidates of N blanks -> (N,).
ORDERS: dict[str, Callable[[Arrays, Candidates], Array]] = {
    "confidence": confidence,
    "margin": margin,
    "entropy": entropy,
}
TOKEN_ORDER = "token-confidence"


def score(order: str, xp: Arrays, candidates: Candidates) -> np.ndarray:
    """The scores of N blanks by an order that needs logits. Returns (N,) float."""
    if order == TOKEN_ORDER:
        return candidates.probability
    return xp.to_numpy(ORDERS[order](xp, candidates))
