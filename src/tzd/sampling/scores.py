"""Score: which blanks come first.

A score that needs no logits lets the head run at the chosen positions alone. The others read the denoiser's
distribution as it is: after guidance and bans, before temperature, top-k and top-p. `token-confidence` and its
logarithm look at the token that was drawn, and so prefer positions where a likely token happened to be drawn: a hidden
lowering of the temperature. They are here because LLaDA, SMDM, MaskGIT and P2 are defined by them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tzd.arrays import Array, Arrays
from tzd.sampling.draw import Candidates
from tzd.sampling.moment import Moment

if TYPE_CHECKING:
    from tzd.sampling.combination import Sampler

_SMALLEST = 1e-300  # its logarithm is finite


def random(at: Moment) -> np.ndarray:
    """A uniformly random order: the smallest draw first, which are the very ones that `binomial` counts."""
    return -at.position_draws


def left_to_right(at: Moment) -> np.ndarray:
    """The order of reading."""
    return np.broadcast_to(-np.arange(at.blank.shape[1], dtype=np.float64), at.blank.shape)


def dilated(at: Moment) -> np.ndarray:
    """As far apart as can be: in a block of s steps every s-th blank belongs together, whatever their number.

    Tokens that are written together do not see each other, and depend on each other the less the farther apart they
    are (DUS: Luxembourg et al., 2025, arXiv:2506.19037; in two dimensions the Halton scheduler: Besnier et al., 2025).
    The larger of these groups come first, as in `quota`; apart from that, groups and the blanks of each come in the
    order of a van der Corput sequence, shifted at random for each row.
    """
    turn, group, groups, count = _groups(at)
    sequence = _van_der_corput(max(1, (at.blank.shape[1] - 1).bit_length()))
    size = len(sequence)
    shift = (at.row_draws[:, None] * size).astype(np.int64)
    around = 2 ** np.ceil(np.log2(groups)).astype(np.int64)
    smaller = group >= np.where(count % groups, count % groups, groups)
    return -((smaller * size + sequence[(group + shift) % around]) * size + sequence[turn])


def stripes(at: Moment) -> np.ndarray:
    """Left to right in several places at once: in a block of s steps every s-th blank, then the one behind each.

    What is written together is as far apart as in `dilated`, and a token has its whole left before it, to where its
    stripe begins. With a step for each blank it is the order of reading.
    """
    turn, group, _, _ = _groups(at)
    return -(group * at.blank.shape[1] + turn).astype(np.float64)


def _groups(at: Moment) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every s-th position of a block of s steps is a group.

    Returns:
        (B, W) a position's turn in its group, (B, W) its group, (B, 1) number of groups, (B, 1) number of positions.
    """
    free = at.blank | at.written
    count = free.sum(axis=1, keepdims=True)
    groups = np.clip(at.steps[:, None], 1, np.maximum(count, 1))
    turn, group = np.divmod(np.cumsum(free, axis=1) - 1, groups)
    return turn, group, groups, count


@lru_cache(maxsize=4)
def _van_der_corput(bits: int) -> np.ndarray:
    """(2^bits,) float64: each number's bits, read backwards."""
    size = 2**bits
    turned = sum(((np.arange(size) >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return np.asarray(turned, np.float64)


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


def log_confidence(xp: Arrays, candidates: Candidates) -> Array:
    """The log of the largest probability."""
    return xp.log(xp.max(candidates.probabilities))


# Orders that need no logits: moment -> (B, W) float64, read at the blanks.
FREE_ORDERS: dict[str, Callable[[Moment], np.ndarray]] = {
    "random": random,
    "left-to-right": left_to_right,
    "dilated": dilated,
    "stripes": stripes,
}
# Orders that read the distribution on the engine: candidates of N blanks -> (N,).
ORDERS: dict[str, Callable[[Arrays, Candidates], Array]] = {
    "confidence": confidence,
    "log-confidence": log_confidence,
    "margin": margin,
    "entropy": entropy,
}
# Orders that read the probability of the token that was drawn: (N,) -> (N,), on the host.
TOKEN_ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "token-confidence": lambda probability: probability,
    # the smallest number of its own type, as 1e-300 is 0 in float32: where no score is finite, nothing can be ranked
    "token-log-confidence": lambda probability: np.log(np.maximum(probability, np.finfo(probability.dtype).tiny)),
}


def score(order: str, xp: Arrays, candidates: Candidates) -> np.ndarray:
    """The scores of N blanks by an order that needs logits. Returns (N,) float."""
    if order in TOKEN_ORDERS:
        return TOKEN_ORDERS[order](candidates.probability)
    return xp.to_numpy(ORDERS[order](xp, candidates))


def noise(at: Moment, sampler: Sampler) -> np.ndarray | float:
    """What `order_temperature` adds to the scores, (B, W): Gumbel noise, with annealing less from step to step.

    The largest k of score + temperature · Gumbel are k draws without replacement from softmax(score / temperature):
    Dream's `alg_temp`, MaskGIT's `choice_temperature`.
    """
    if not sampler.order_temperature:
        return 0.0
    gumbel = -np.log(-np.log(np.maximum(at.order_draws, _SMALLEST)))
    rest = 1 - (at.index + 1) / at.steps if sampler.order_annealing else np.ones(len(at.index))
    return sampler.order_temperature * rest[:, None] * gumbel
