"""Masking schedules: with which probability a token is still clean at time t.

t = 0 is clean, t = 1 is all [MASK]. Names collide in the literature, so what counts here is the curve of the
mask-probability p_t = 1 − alpha_t:

| name     | p_t            | also known as                                            |
|----------|----------------|----------------------------------------------------------|
| `linear` | t              | the log-linear schedule of MDLM and SEDD                 |
| `cosine` | 1 − cos(πt/2)  | MDLM's and BD3-LM's cosine                               |
| `sine`   | sin(πt/2)      | MaskGIT's and MD4's cosine                               |
| `poly`   | t^k            | MD4's polynomial; k = 2 is BD3-LM's square               |

The NELBO does not depend on the schedule; the variance of its estimates and a sampler's grid do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tzd.errors import ConfigError, nearest

_PANELS, _NODES = 128, 32  # composite Gauss quadrature: resolves p^n (1-p)^(L-n) for tens of thousands of tokens


@dataclass(frozen=True)
class Schedule:
    """A masking schedule.

    Attributes:
        name: what it is called in a configuration.
        alpha: t -> keep-probability in [0, 1], falling from 1 to 0.
        dalpha: t -> its derivative.
        inverse: keep-probability -> t.
        power: k of t^k, 1 for `linear`; None where the curve is no power.
    """

    name: str
    alpha: Callable[[np.ndarray], np.ndarray]
    dalpha: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]
    power: float | None = None

    def weight(self, t: np.ndarray) -> np.ndarray:
        """Weight of the continuous-time NELBO, −alpha'_t / (1 − alpha_t) (MDLM, eq. 10; MD4, eq. 4)."""
        return -self.dalpha(t) / (1.0 - self.alpha(t))


def _linear(power: float) -> Schedule:
    return Schedule("linear", lambda t: 1.0 - t, lambda t: -np.ones_like(t), lambda a: 1.0 - a, power=1.0)


def _cosine(power: float) -> Schedule:
    half_pi = np.pi / 2
    return Schedule(
        "cosine",
        lambda t: np.cos(half_pi * t),
        lambda t: -half_pi * np.sin(half_pi * t),
        lambda a: np.arccos(a) / half_pi,
    )


def _sine(power: float) -> Schedule:
    half_pi = np.pi / 2
    return Schedule(
        "sine",
        lambda t: 1.0 - np.sin(half_pi * t),
        lambda t: -half_pi * np.cos(half_pi * t),
        lambda a: np.arcsin(1.0 - a) / half_pi,
    )


def _poly(power: float) -> Schedule:
    return Schedule(
        "poly",
        lambda t: 1.0 - t**power,
        lambda t: -power * t ** (power - 1.0),
        lambda a: (1.0 - a) ** (1.0 / power),
        power=power,
    )


SCHEDULES: dict[str, Callable[[float], Schedule]] = {
    "linear": _linear,
    "cosine": _cosine,
    "sine": _sine,
    "poly": _poly,
}


@lru_cache(maxsize=64)
def schedule(name: str, power: float = 1.0) -> Schedule:
    """The schedule of that name.

    Args:
        name: linear, cosine, sine or poly.
        power: k of `poly`; the others have none.

    Raises:
        ConfigError: there is no such schedule.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"unknown masking schedule '{name}'{nearest(name, SCHEDULES)}")
    return SCHEDULES[name](power)


@lru_cache(maxsize=256)
def weight_by_count(curve: Schedule, length: int) -> np.ndarray:
    """The NELBO weight averaged over all times at which n of `length` tokens are masked.

    With t ~ U(0, 1) and n | t ~ Binomial(length, p_t) this is E[weight(t) | n]: the exact Rao-Blackwellisation of
    weight(t), with the same mean and never a higher variance. On the linear schedule it is (length + 1) / n.

    Args:
        curve: the schedule, as `schedule` returned it.
        length: number of tokens that may be masked.

    Returns:
        (length + 1,) float64, indexed by n; 0 at n = 0, where there is nothing to weigh.
    """
    n = np.arange(1, length + 1)
    table = np.zeros(length + 1)
    if curve.name == "linear":
        table[1:] = (length + 1) / n
        return table
    # E[w | n] = ∫ p' p^(n-1) (1-p)^(L-n) dt / ∫ p^n (1-p)^(L-n) dt. The numerator is the beta function B(n, L-n+1). The
    # denominator is B(n + 1/k, L-n+1) / k where p = t^k, which is too steep for a quadrature at 0 (k < 1) or at 1
    # (k large); not every curve has a closed form.
    if curve.power is not None:
        more = 1 / curve.power
        log_ratio = np.array([math.lgamma(count) - math.lgamma(count + more) for count in n.tolist()])
        table[1:] = curve.power * np.exp(log_ratio + (math.lgamma(length + 1 + more) - math.lgamma(length + 1)))
        return table
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, length + 1)))])
    log_numerator = log_factorial[n - 1] + log_factorial[length - n] - log_factorial[length]
    nodes, node_weights = np.polynomial.legendre.leggauss(_NODES)
    t = (np.arange(_PANELS)[:, None] + (nodes + 1.0) / 2.0).ravel() / _PANELS
    node_weights = np.tile(node_weights, _PANELS) / (2.0 * _PANELS)
    p = 1.0 - curve.alpha(t)
    log_p, log_q = np.log(p), np.log1p(-p)
    for count in n:  # a row at a time: the full table would be length × nodes
        exponent = count * log_p + (length - count) * log_q - log_numerator[count - 1]
        table[count] = 1.0 / np.sum(node_weights * np.exp(exponent))
    return table
