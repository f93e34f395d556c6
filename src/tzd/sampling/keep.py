"""Keep: how many blanks a step fills, and which.

A count rule that needs no logits is drawn before the denoiser is called; where it says 0 everywhere, the call is
spared. Every rule counts per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tzd.arrays import Arrays
from tzd.diffusion.masking import smallest
from tzd.sampling.blocks import shares
from tzd.sampling.draw import Candidates
from tzd.sampling.moment import Moment
from tzd.sampling.remask import alphas, eta, reveal_probability
from tzd.sampling.scores import score
from tzd.sampling.stability import Stability

if TYPE_CHECKING:
    from tzd.sampling.combination import Sampler

# --- counts that need no logits: (moment, sampler) -> (B,) int ----------------------------------------------------


def quota(at: Moment, sampler: Sampler) -> np.ndarray:
    """The block's blanks dealt to its steps (LLaDA, `get_num_transfer_tokens`)."""
    return np.minimum(shares(at.blanks, at.steps, at.index), at.left)


def floor(at: Moment, sampler: Sampler) -> np.ndarray:
    """⌊n (1 − s/t)⌋ on an even grid from 1 to `last_time`, all at the last step (SMDM's and Dream's, but per row)."""
    span = 1 - sampler.last_time
    t, s = 1 - span * at.index / at.steps, 1 - span * (at.index + 1) / at.steps
    return np.where(at.last, at.left, np.floor(at.left * (1 - s / t)).astype(np.int64))


def scheduled(at: Moment, sampler: Sampler) -> np.ndarray:
    """As many as leave ⌊n p_s⌋ of the block's n blanks: one at least, and one is left until the last step (MaskGIT)."""
    _, alpha_s = alphas(at, sampler)
    # of a product that rounding puts just below a whole number, the whole number
    after = np.floor(at.blanks * (1 - alpha_s) + 1e-9).astype(np.int64)
    after = np.maximum(np.minimum(after, at.left - 1), 1)
    return np.where(at.last, at.left, np.maximum(at.left - after, 0))


def binomial(at: Moment, sampler: Sampler) -> np.ndarray:
    """Binomial(n, q), q the probability that the reverse process reveals a blank between t and s.

    Without remasking it is 1 − p_s / p_t: ancestral sampling (MDLM, Sahoo et al., 2024; MD4, Shi et al., 2024).
    """
    return ((at.position_draws < reveal_probability(at, sampler)[:, None]) & at.blank).sum(axis=1)


def fixed(at: Moment, sampler: Sampler) -> np.ndarray:
    """As many blanks as k says, by default a tenth of the window (Tiny Diffusion's `topk`)."""
    return np.minimum(at.left, sampler.k or max(1, at.blank.shape[1] // 10))


def one(at: Moment, sampler: Sampler) -> np.ndarray:
    """One blank."""
    return np.minimum(at.left, 1)


COUNTS: dict[str, Callable[[Moment, Sampler], np.ndarray]] = {
    "quota": quota,
    "floor": floor,
    "scheduled": scheduled,
    "binomial": binomial,
    "one": one,
    "fixed": fixed,
}

# --- rules that look at what the denoiser says ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Seen:
    """The denoiser's answer at the positions asked for, N of them, in each row's window.

    Attributes:
        xp: functions for the arrays of the engine.
        candidates: what the positions would hold.
        rows: (N,) int.
        columns: (N,) int, within the window.
        scores: (B, W) the order's scores, with its noise; 0 elsewhere.
        asked: (B, W) bool, where the positions are.
        history: what earlier steps said, for rules that compare.
    """

    xp: Arrays
    candidates: Candidates
    rows: np.ndarray
    columns: np.ndarray
    scores: np.ndarray
    asked: np.ndarray
    history: Stability | None = None

    def spread(self, values: np.ndarray) -> np.ndarray:
        """`values` (N,) in their places, (B, W); 0 elsewhere."""
        placed = np.zeros(self.asked.shape)
        placed[self.rows, self.columns] = values
        return placed

    def measure(self, name: str) -> np.ndarray:
        """An order's scores without noise, (B, W)."""
        return self.spread(score(name, self.xp, self.candidates))

    def surety(self, order: str) -> np.ndarray:
        """What thresholds are compared with, (B, W): the margin or the token's probability, if the order goes by it.

        With every other order it is the largest probability.
        """
        names = {"margin": "margin", "token-confidence": "token-confidence", "token-log-confidence": "token-confidence"}
        return self.measure(names.get(order, "confidence"))

    def ranked(self, values: np.ndarray) -> np.ndarray:
        """`values` (B, W) in the order of the scores, the asked positions first."""
        order = np.argsort(np.where(self.asked, -self.scores, np.inf), axis=1, kind="stable")
        return np.take_along_axis(values, order, axis=1)


def _prefix(holds: np.ndarray, left: np.ndarray) -> np.ndarray:
    """(B,) the length of the first run of True in `holds` (B, W): one at least, `left` at most."""
    return np.minimum(np.maximum(np.logical_and.accumulate(holds, axis=1).sum(axis=1), 1), left)


def factor(seen: Seen, at: Moment, sampler: Sampler) -> np.ndarray:
    """The largest n with (n + 1)(1 − c) < f for the first n, c the n-th's confidence (Fast-dLLM, arXiv:2505.22618).

    One at least. As in the paper's theorem and not in a well-known loop, which also takes the first that fails.
    """
    rank = np.arange(1, at.blank.shape[1] + 1)
    return _prefix((rank + 1) * (1 - seen.ranked(seen.surety(sampler.order))) < sampler.factor, at.left)


def entropy_bound(seen: Seen, at: Moment, sampler: Sampler) -> np.ndarray:
    """The longest prefix U of the order with Σ_U H − max_U H ≤ γ, one at least (EB: Ben-Hamu et al., 2025).

    The left side bounds the dependence that drawing U independently neglects (arXiv:2505.24857, eq. 7).
    """
    entropy = seen.ranked(np.where(seen.asked, -seen.measure("entropy"), 0.0))
    neglected = np.cumsum(entropy, axis=1) - np.maximum.accumulate(entropy, axis=1)
    return _prefix(neglected <= sampler.gamma, at.left)


def threshold(seen: Seen, at: Moment, sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
    """All blanks that are surer than the threshold, else the best one (Fast-dLLM; Tiny Diffusion)."""
    return (seen.surety(sampler.order) >= sampler.confidence_threshold) & at.blank, np.minimum(at.left, 1)


def klass(seen: Seen, at: Moment, sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
    """All blanks that are sure and have been stable, else LLaDA's quota (KLASS: Kim et al., 2025, arXiv:2511.05664).

    The quota is larger where earlier steps have filled less than theirs, so that the last one has not to fill the rest.
    """
    assert seen.history is not None
    stable = seen.history.stable(seen, at, sampler)
    ready = stable & (seen.surety(sampler.order) > sampler.confidence_threshold) & at.blank
    planned, behind = (
        shares(at.blanks, at.steps, at.index),
        shares(at.left, at.steps - at.index, np.zeros_like(at.index)),
    )
    return ready, np.minimum(np.maximum(np.maximum(planned, behind), 1), at.left)


# How many of the best: (seen, moment, sampler) -> (B,) int.
SCORE_COUNTS: dict[str, Callable[[Seen, Moment, Sampler], np.ndarray]] = {
    "factor": factor,
    "entropy-bound": entropy_bound,
}
# Which ones, and how many of the best in rows where there are none: -> (B, W) bool, (B,) int.
READY: dict[str, Callable[[Seen, Moment, Sampler], tuple[np.ndarray, np.ndarray]]] = {
    "threshold": threshold,
    "klass": klass,
}
# Rules that fill a block within the sampler's `steps`. The others fill one blank a step at least, and so need no
# more steps than there are blanks.
BUDGETED = frozenset({"quota", "floor", "scheduled", "binomial", "klass"})


def chosen(seen: Seen, count: np.ndarray | None, at: Moment, sampler: Sampler) -> np.ndarray:
    """The blanks that a step fills, among those asked for. Returns (B, W) bool.

    Args:
        seen: what the denoiser said.
        count: (B,) how many, where that needed no logits.
        at: the step.
        sampler: the rules.
    """
    if count is not None:
        return best(seen.scores, count, seen.asked)
    # where there is a budget, nothing may be left when it is spent
    rest = 0 if sampler.budget is None else np.where(at.last, at.left, 0)
    if sampler.count in SCORE_COUNTS:
        return best(seen.scores, np.maximum(SCORE_COUNTS[sampler.count](seen, at, sampler), rest), seen.asked)
    ready, others = READY[sampler.count](seen, at, sampler)
    others = np.maximum(np.where(ready.any(axis=1), 0, others), rest)
    return ready | best(seen.scores, others, seen.asked)


def by_path(seen: Seen, at: Moment, sampler: Sampler) -> np.ndarray:
    """What is visible after a step that ranks blanks and written tokens together (P2: Peng et al., 2025).

    All but the ⌊n p_s⌋ lowest of the block's n free positions; the log-probabilities of what is written count `eta`
    times, so that 0 never takes anything back (arXiv:2502.03540, algorithm 1, self-planning).

    Returns:
        (B, W) bool.
    """
    _, alpha_s = alphas(at, sampler)
    visible = at.blanks - np.floor(at.blanks * (1 - alpha_s) + 1e-9).astype(np.int64)
    weighed = eta(sampler) * seen.scores if eta(sampler) else np.inf  # 0, and no blank is so sure as to tie with it
    scores = np.where(at.written, weighed, seen.scores)
    return best(scores, np.where(at.last, at.blanks, visible), seen.asked)


def best(score: np.ndarray, count: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """The `count` blanks with the highest scores; of equal ones the first.

    Args:
        score: (B, W) finite at the blanks.
        count: (B,) int, at most the number of blanks.
        blank: (B, W) bool.

    Returns:
        (B, W) bool.
    """
    return smallest(np.where(blank, -score, np.inf), count)
