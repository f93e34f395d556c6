"""Remask: the grid of times, and how likely a step takes a written token back.

Between the times t and s a written token is taken back with probability σ, and a blank is revealed with probability
(alpha_s − (1 − σ) alpha_t) / (1 − alpha_t), so that the share of blanks stays that of the schedule whatever σ is, as
long as σ ≤ (1 − alpha_s) / alpha_t (ReMDM: Wang et al., 2025, arXiv:2503.00307, eqs. 6 and 7; section 4 and table of
appendix C for the variants).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tzd.diffusion.schedule import schedule
from tzd.sampling.moment import Moment

if TYPE_CHECKING:
    from tzd.sampling.combination import Sampler

# What their papers set where `eta` is not given.
ETA = {"remdm-cap": 0.008, "remdm-rescale": 0.015, "remdm-loop": 0.02, "p2": 1.0}
LOOP, CONF, JOINT = "remdm-loop", "remdm-conf", "p2"


def eta(sampler: Sampler) -> float:
    """How much is taken back: the sampler's, or its rule's own."""
    return ETA[str(sampler.remask)] if sampler.eta is None else sampler.eta


def times(at: Moment) -> tuple[np.ndarray, np.ndarray]:
    """(B,) the times t and s between which the step leads, on an even grid from 1 to 0."""
    return 1 - at.index / at.steps, 1 - (at.index + 1) / at.steps


def alphas(at: Moment, sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
    """(B,) keep-probabilities at t and s."""
    t, s = times(at)
    if sampler.remask == LOOP:
        return _loop_alpha(t, sampler), _loop_alpha(s, sampler)
    alpha = schedule(sampler.schedule, sampler.schedule_power).alpha
    return alpha(t), alpha(s)


def _loop_alpha(t: np.ndarray, sampler: Sampler) -> np.ndarray:
    """ReMDM-loop's schedule: up to alpha_on at t_on, there until t_off, then to 1."""
    on, off, level = sampler.t_on, sampler.t_off, sampler.alpha_on
    rising, ending = level * (1 - t) / max(1 - on, _TINY), 1 - t * (1 - level) / max(off, _TINY)
    return np.where(t > on, rising, np.where(t > off, level, ending))


_TINY = 1e-12  # where a phase of the loop has no length, nothing divides by it


def _largest(alpha_t: np.ndarray, alpha_s: np.ndarray) -> np.ndarray:
    """The largest σ, min(1, (1 − alpha_s) / alpha_t)."""
    return np.minimum(1.0, (1 - alpha_s) / np.maximum(alpha_t, _TINY))


def _cap(at: Moment, alpha_t: np.ndarray, alpha_s: np.ndarray, sampler: Sampler) -> np.ndarray:
    return np.minimum(eta(sampler), _largest(alpha_t, alpha_s))


def _rescale(at: Moment, alpha_t: np.ndarray, alpha_s: np.ndarray, sampler: Sampler) -> np.ndarray:
    return eta(sampler) * _largest(alpha_t, alpha_s)


def _conf(at: Moment, alpha_t: np.ndarray, alpha_s: np.ndarray, sampler: Sampler) -> np.ndarray:
    return _largest(alpha_t, alpha_s)


def _loop(at: Moment, alpha_t: np.ndarray, alpha_s: np.ndarray, sampler: Sampler) -> np.ndarray:
    t, _ = times(at)
    inside = (t > sampler.t_off) & (t <= sampler.t_on)
    return np.where(inside, np.minimum(eta(sampler), _largest(alpha_t, alpha_s)), 0.0)


def _renoise(at: Moment, alpha_t: np.ndarray, alpha_s: np.ndarray, sampler: Sampler) -> np.ndarray:
    return 1 - alpha_s


# Rules by which each written token is taken back by itself: (moment, alpha_t, alpha_s, sampler) -> (B,) σ.
SIGMA: dict[str, Callable[[Moment, np.ndarray, np.ndarray, Sampler], np.ndarray]] = {
    "renoise": _renoise,  # every position is masked anew, whatever it was (Tiny Diffusion's MLX port)
    "remdm-cap": _cap,
    "remdm-rescale": _rescale,
    CONF: _conf,  # shared out among the written tokens by their confidence when written
    LOOP: _loop,
}
REMASK = (*SIGMA, JOINT)  # the last ranks blanks and written tokens together: see `keep.by_path`


def reveal_probability(at: Moment, sampler: Sampler) -> np.ndarray:
    """(B,) the probability that a step of the reverse process reveals a blank."""
    alpha_t, alpha_s = alphas(at, sampler)
    sigma: np.ndarray | float = 0.0
    if sampler.remask in SIGMA and sampler.remask != CONF:  # `conf` leaves the blanks to plain ancestral sampling
        sigma = SIGMA[sampler.remask](at, alpha_t, alpha_s, sampler)
    return (alpha_s - (1 - sigma) * alpha_t) / np.maximum(1 - alpha_t, _TINY)  # a steep schedule's 1 − alpha_t is 0


def remasked(at: Moment, sampler: Sampler) -> np.ndarray:
    """The written positions that a step takes back, none at a block's last. Returns (B, W) bool."""
    assert sampler.remask is not None
    sigma = SIGMA[sampler.remask](at, *alphas(at, sampler), sampler)[:, None]
    if sampler.remask == CONF:  # softmax of −confidence over what is written
        weight = np.where(at.written, np.exp(-at.confidence.astype(np.float64)), 0.0)
        sigma = sigma * weight / np.maximum(weight.sum(axis=1, keepdims=True), _TINY)
    # `binomial` reads these draws at the blanks only
    return (at.position_draws < sigma) & at.written & ~at.last[:, None]
