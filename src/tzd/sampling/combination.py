"""A sampler: a combination of an order, a count rule and remasking, with their settings."""

from __future__ import annotations

from dataclasses import dataclass

from tzd.diffusion.schedule import SCHEDULES
from tzd.errors import nearest
from tzd.mapping import require
from tzd.sampling.cache import CACHES
from tzd.sampling.keep import BUDGETED, COUNTS, READY, SCORE_COUNTS
from tzd.sampling.remask import JOINT, LOOP, REMASK
from tzd.sampling.scores import FREE_ORDERS, ORDERS, TOKEN_ORDERS

_COLDEST, _HOTTEST = 1e-6, 1e6
_LARGEST = 1_000_000  # of a setting: with it, no step's numbers overflow and no loop is endless
_COUNTED = ("steps", "block_len", "top_k_tokens", "k", "kl_steps", "cache_refresh")


@dataclass(frozen=True)
class Sampler:
    """A way of sampling. What a combination does not use, it ignores; a preset offers only what it uses.

    Attributes:
        order: which blanks come first: random, left-to-right, dilated, stripes, confidence, log-confidence, margin,
            entropy, token-confidence, token-log-confidence.
        count: how many a step fills: quota, floor, scheduled, binomial, one, fixed, factor, entropy-bound, threshold,
            klass.
        remask: how written tokens are taken back: renoise, remdm-cap, remdm-rescale, remdm-conf, remdm-loop, p2, or
            None for never.
        steps: steps per window (quota, floor, scheduled, binomial, klass, and wherever there is remasking).
        block_len: length of blocks that are filled from left to right; None fills a window as one.
        overlap: written positions before each window but the first; None takes the denoiser's context length,
            or a quarter of its window if it has none.
        stride: by how many positions, or (a float) which share of the window, each window moves on; in place of
            `overlap`.
        temperature: 0 takes the likeliest token.
        last_temperature: what it comes down to as a block fills (`draw.cooled`); None keeps it as it is.
        prior: from 0 to 1, how much of the tokens' own frequencies the temperature leaves alone (`draw.propose`).
        top_p: draws only from the likeliest tokens that together reach this probability.
        top_k_tokens: draws only from that many of the likeliest tokens.
        cfg_scale: guidance by what was given; 0 is off.
        cache: which keys and values are taken from earlier passes: none, prefix or dual (both approximate), exact
            (block diffusion); None is exact where it can be, else none.
        cache_refresh: passes after which all are computed anew (prefix, dual); None waits for the next block.
        order_temperature: weight of Gumbel noise on the scores; 0 is off.
        order_annealing: whether that noise falls to zero over the steps.
        confidence_threshold: the surety at which a blank is filled (threshold, klass).
        factor: f (factor).
        gamma: the dependence that a step may neglect, in nats (entropy-bound).
        kl_threshold: divergence below which a distribution has not changed, in nats (klass).
        kl_steps: steps for which it must not have (klass).
        k: blanks that a step fills (fixed); None takes a tenth of the window.
        schedule: masking schedule of the grid (scheduled, binomial, remasking): linear, cosine, sine, poly.
        schedule_power: k of `poly`.
        last_time: where SMDM's and Dream's grid of times ends (floor).
        eta: how much is taken back (remdm-cap, remdm-rescale, remdm-loop, p2); None is the paper's.
        t_on: time at which ReMDM's loop begins.
        t_off: time at which it ends.
        alpha_on: share of the tokens that is written in it.
        legacy: for parity only: decodes with two defects of Tiny Diffusion's own decoders. The index of the step is
            the row of the time embedding, and [MASK] may be predicted (a blank then stays one).
    """

    order: str = "random"
    count: str = "binomial"
    remask: str | None = None
    steps: int = 128
    block_len: int | None = None
    overlap: int | None = None
    stride: int | float | None = None
    temperature: float = 1.0
    last_temperature: float | None = None
    prior: float = 0.0
    top_p: float = 1.0
    top_k_tokens: int | None = None
    cfg_scale: float = 0.0
    cache: str | None = None
    cache_refresh: int | None = None
    order_temperature: float = 0.0
    order_annealing: bool = False
    confidence_threshold: float | None = None
    factor: float = 1.0
    gamma: float = 0.1
    kl_threshold: float = 0.015
    kl_steps: int = 2
    k: int | None = None
    schedule: str = "linear"
    schedule_power: float = 1.0
    last_time: float = 1e-5
    eta: float | None = None
    t_on: float = 0.55
    t_off: float = 0.05
    alpha_on: float = 0.9
    legacy: bool = False

    def __post_init__(self) -> None:
        for name, known in {**parts(), "schedule": (*SCHEDULES,)}.items():
            value = getattr(self, name)
            require(
                value in known or (value is None and name == "remask"),
                f"unknown {name} '{value}'{nearest(str(value), known)}",
            )
        for name in _COUNTED:
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1, not {value}")
        require(self.stride is None or self.stride > 0, f"stride must be positive, not {self.stride}")
        for name in ("overlap", "cfg_scale", "order_temperature", "gamma", "eta"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"{name} must not be negative, not {value}")
        for name in (*_COUNTED, "stride", "overlap", "cfg_scale", "order_temperature", "eta"):
            value = getattr(self, name)
            require(value is None or value <= _LARGEST, f"{name} must be at most {_LARGEST}, not {value}")
        for name in ("schedule_power", "factor", "kl_threshold"):
            require(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        require(
            self.temperature == 0 or _COLDEST <= self.temperature <= _HOTTEST,
            f"temperature must be 0 (the likeliest token) or lie in {_COLDEST}..{_HOTTEST:.0f}, not {self.temperature}",
        )
        last = self.last_temperature
        require(
            last is None or (self.temperature > 0 and _COLDEST <= last <= _HOTTEST),
            f"last_temperature must lie in {_COLDEST}..{_HOTTEST:.0f}, and temperature above 0,"
            f" not {last} and {self.temperature}",
        )
        require(0 <= self.prior <= 1, f"prior must lie in [0, 1], not {self.prior}")
        require(0 < self.top_p <= 1, f"top_p must lie in (0, 1], not {self.top_p}")
        require(0 <= self.last_time < 1, f"last_time must lie in [0, 1), not {self.last_time}")
        require(
            self.cache is None or self.cache in CACHES,
            f"unknown cache '{self.cache}'{nearest(str(self.cache), CACHES)}",
        )
        self._check_combination()

    def _check_combination(self) -> None:
        threshold = self.confidence_threshold
        require(threshold is None or 0 <= threshold <= 1, f"confidence_threshold must lie in [0, 1], not {threshold}")
        if self.count in READY:
            require(threshold is not None, f"count={self.count} needs a confidence_threshold")
        require(
            self.overlap is None or self.stride is None,
            "overlap and stride say the same: give one of them",
        )
        if self.remask == LOOP:
            require(
                0 <= self.t_off <= self.t_on <= 1 and 0 < self.alpha_on < 1,
                f"remask={LOOP} needs 0 <= t_off <= t_on <= 1 and alpha_on between 0 and 1,"
                f" not {self.t_off}, {self.t_on} and {self.alpha_on}",
            )
        if self.remask == JOINT:
            logs = ("token-log-confidence", "log-confidence", "entropy")
            require(self.order in logs, f"remask={JOINT} needs one of the orders {', '.join(logs)}, not {self.order}")
            require(self.count == "scheduled", f"remask={JOINT} needs count=scheduled, not {self.count}")
        if self.remask is not None:
            require(not self.legacy, "legacy is for decoders that take nothing back")

    @property
    def budget(self) -> int | None:
        """Steps per window; None where the rule needs at most one for each blank."""
        return self.steps if self.count in BUDGETED or self.remask is not None else None


def parts() -> dict[str, tuple[str, ...]]:
    """What a combination is made of: the rules by their names."""
    return {
        "order": (*FREE_ORDERS, *ORDERS, *TOKEN_ORDERS),
        "count": (*COUNTS, *SCORE_COUNTS, *READY),
        "remask": REMASK,
    }
