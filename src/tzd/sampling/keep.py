"""Keep: how many blanks a step fills, which, and what it takes back.

A count rule that needs no logits is drawn before the denoiser is called; where it says 0 everywhere, the call is
spared. Every rule counts per row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tzd.diffusion.schedule import schedule
from tzd.sampling.blocks import shares
from tzd.sampling.moment import Moment

if TYPE_CHECKING:
    from tzd.sampling.presets import Sampler

_SMDM_LAST_TIME = 1e-5  # SMDM's grid of times ends here, not at 0, so that its floors lag one token behind


def quota(at: Moment, sampler: Sampler) -> np.ndarray:
    """The block's blanks dealt to its steps (LLaDA, `get_num_transfer_tokens`)."""
    return np.minimum(shares(at.blanks, at.steps, at.index), at.left)


def floor(at: Moment, sampler: Sampler) -> np.ndarray:
    """⌊n (1 − s/t)⌋ on the linear grid, all at the last step (SMDM's greedy rule, but per row)."""
    t = 1 - (1 - _SMDM_LAST_TIME) * at.index / at.steps
    s = 1 - (1 - _SMDM_LAST_TIME) * (at.index + 1) / at.steps
    last = at.index + 1 >= at.steps
    return np.where(last, at.left, np.floor(at.left * (1 - s / t)).astype(np.int64))


def binomial(at: Moment, sampler: Sampler) -> np.ndarray:
    """Binomial(n, q), q the probability that the reverse process reveals a blank between t and s.

    q = (alpha_s − (1 − σ) alpha_t) / (1 − alpha_t), σ being the probability of remasking (ReMDM, Wang et al.,
    2025). Without remasking it is 1 − p_s / p_t: ancestral sampling (MDLM, Sahoo et al., 2024; MD4, Shi et al.,
    2024).
    """
    alpha_t, alpha_s = _alphas(at, sampler)
    q = (alpha_s - (1 - _sigma(alpha_t, alpha_s, sampler)) * alpha_t) / (1 - alpha_t)
    return ((at.position_draws < q[:, None]) & at.blank).sum(axis=1)


def one(at: Moment, sampler: Sampler) -> np.ndarray:
    """One blank."""
    return np.minimum(at.left, 1)


def fixed(at: Moment, sampler: Sampler) -> np.ndarray:
    """As many blanks as k says, by default a tenth of the window (Tiny Diffusion's `topk`)."""
    return np.minimum(at.left, sampler.k or max(1, at.blank.shape[1] // 10))


def threshold(score: np.ndarray, at: Moment, sampler: Sampler) -> np.ndarray:
    """All blanks whose score reaches the threshold, the best one at least (Fast-dLLM; Tiny Diffusion)."""
    reached = (score >= sampler.confidence_threshold) & at.blank
    return np.minimum(np.maximum(reached.sum(axis=1), 1), at.left)


# Count rules that need no logits: (moment, sampler) -> (B,) int.
COUNTS: dict[str, Callable[[Moment, Sampler], np.ndarray]] = {
    "quota": quota,
    "floor": floor,
    "binomial": binomial,
    "one": one,
    "fixed": fixed,
}
# Count rules that look at the scores (B, W) of the blanks: (scores, moment, sampler) -> (B,) int.
SCORE_COUNTS: dict[str, Callable[[np.ndarray, Moment, Sampler], np.ndarray]] = {"threshold": threshold}
# Rules that fill a block within the sampler's `steps`. The others fill one blank a step at least, and so need no
# more steps than there are blanks.
BUDGETED = frozenset({"quota", "floor", "binomial"})

# Remasking: (alpha_t, alpha_s) -> σ, the probability that a written token is taken back between t and s.
REMASK: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    # Every position is masked anew, whatever it was (Tiny Diffusion's MLX port; ReMDM with σ = 1 − alpha_s).
    "renoise": lambda alpha_t, alpha_s: 1 - alpha_s,
}


def remasked(at: Moment, sampler: Sampler) -> np.ndarray:
    """The written positions that a sampler which remasks takes back. Returns (B, W) bool."""
    sigma = _sigma(*_alphas(at, sampler), sampler)
    return (at.position_draws < sigma[:, None]) & at.written  # `binomial` reads these draws at the blanks only


def best(score: np.ndarray, count: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """The `count` blanks with the highest scores; of equal ones the first.

    Args:
        score: (B, W) finite at the blanks.
        count: (B,) int, at most the number of blanks.
        blank: (B, W) bool.

    Returns:
        (B, W) bool.
    """
    chosen = np.zeros_like(blank)
    rows = np.flatnonzero(count)
    order = np.argsort(np.where(blank[rows], -score[rows], np.inf), axis=1, kind="stable")
    among = np.arange(blank.shape[1]) < count[rows, None]
    ranked = np.zeros_like(among)
    np.put_along_axis(ranked, order, among, axis=1)
    chosen[rows] = ranked
    return chosen


def _alphas(at: Moment, sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
    alpha = schedule(sampler.schedule, sampler.schedule_power).alpha
    return alpha(1 - at.index / at.steps), alpha(1 - (at.index + 1) / at.steps)


def _sigma(alpha_t: np.ndarray, alpha_s: np.ndarray, sampler: Sampler) -> np.ndarray:
    return np.zeros_like(alpha_t) if sampler.remask is None else REMASK[sampler.remask](alpha_t, alpha_s)
