"""The published samplers by name: each a combination of an order, a count rule and remasking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tzd.diffusion.schedule import SCHEDULES
from tzd.errors import ConfigError, nearest
from tzd.mapping import from_mapping, require, to_mapping
from tzd.sampling.keep import BUDGETED, COUNTS, REMASK, SCORE_COUNTS
from tzd.sampling.scores import FREE_ORDERS, ORDERS, TOKEN_ORDER

_COLDEST, _HOTTEST = 1e-6, 1e6


@dataclass(frozen=True)
class Sampler:
    """A way of sampling. What a combination does not use, it ignores; a preset offers only what it uses.

    Attributes:
        order: which blanks come first: random, left-to-right, confidence, margin, entropy, token-confidence.
        count: how many a step fills: quota, floor, binomial, one, fixed, threshold.
        remask: how written tokens are taken back: renoise, or None for never.
        steps: steps per window (quota, floor, binomial).
        block_len: length of blocks that are filled from left to right; None fills a window as one.
        overlap: written positions before each window but the first; None takes the denoiser's context length,
            or a quarter of its window if it has none.
        temperature: 0 takes the likeliest token.
        top_p: draws only from the likeliest tokens that together reach this probability.
        top_k_tokens: draws only from that many of the likeliest tokens.
        cfg_scale: guidance by what was given; 0 is off.
        confidence_threshold: the score at which a blank is filled (threshold).
        k: blanks that a step fills (fixed); None takes a tenth of the window.
        schedule: masking schedule of the grid (binomial): linear, cosine, sine, poly.
        schedule_power: k of `poly`.
        legacy: for parity only: decodes with two defects of Tiny Diffusion's own decoders. The index of the step is
            the row of the time embedding, and [MASK] may be predicted (a blank then stays one).
    """

    order: str = "random"
    count: str = "binomial"
    remask: str | None = None
    steps: int = 128
    block_len: int | None = None
    overlap: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k_tokens: int | None = None
    cfg_scale: float = 0.0
    confidence_threshold: float | None = None
    k: int | None = None
    schedule: str = "linear"
    schedule_power: float = 1.0
    legacy: bool = False

    def __post_init__(self) -> None:
        for name, known in (
            ("order", {*FREE_ORDERS, *ORDERS, TOKEN_ORDER}),
            ("count", {*COUNTS, *SCORE_COUNTS}),
            ("remask", {None, *REMASK}),
            ("schedule", set(SCHEDULES)),
        ):
            value = getattr(self, name)
            require(value in known, f"unknown {name} '{value}'{nearest(str(value), filter(None, known))}")
        for name in ("steps", "block_len", "top_k_tokens", "k"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1, not {value}")
        require(self.overlap is None or self.overlap >= 0, f"overlap must not be negative, not {self.overlap}")
        require(
            self.temperature == 0 or _COLDEST <= self.temperature <= _HOTTEST,
            f"temperature must be 0 (the likeliest token) or lie in {_COLDEST}..{_HOTTEST:.0f}, not {self.temperature}",
        )
        require(0 < self.top_p <= 1, f"top_p must lie in (0, 1], not {self.top_p}")
        require(self.cfg_scale >= 0, f"cfg_scale must not be negative, not {self.cfg_scale}")
        require(self.schedule_power > 0, f"schedule_power must be positive, not {self.schedule_power}")
        self._check_combination()

    def _check_combination(self) -> None:
        threshold = self.confidence_threshold
        require(threshold is None or 0 <= threshold <= 1, f"confidence_threshold must lie in [0, 1], not {threshold}")
        if self.count in SCORE_COUNTS:
            require(threshold is not None, f"count={self.count} needs a confidence_threshold")
            fit = ("confidence", TOKEN_ORDER, "margin")
            require(self.order in fit, f"count={self.count} needs one of the orders {', '.join(fit)}, not {self.order}")
        require(
            self.remask is None or self.count == "binomial",
            f"remask={self.remask} goes with count=binomial, not {self.count}",
        )

    @property
    def budget(self) -> int | None:
        """Steps per window; None where the rule needs at most one for each blank."""
        return self.steps if self.count in BUDGETED else None


@dataclass(frozen=True)
class Preset:
    """A sampler that has a name.

    Attributes:
        sampler: the combination, with the defaults.
        description: one line, with the source.
        settings: what can be set, beside `COMMON`.
    """

    sampler: Sampler
    description: str
    settings: tuple[str, ...] = ()


COMMON = ("temperature", "top_p", "top_k_tokens", "block_len", "overlap", "cfg_scale")

PRESETS: dict[str, Preset] = {
    "ancestral": Preset(
        Sampler(),
        "the reverse process on a grid of times (MDLM, MD4, SMDM's origin)",
        ("steps", "schedule", "schedule_power"),
    ),
    "first-hitting": Preset(
        Sampler(count="one"),
        "one random blank a pass: exact for time-free denoisers (Zheng et al., 2024)",
    ),
    "llada": Preset(
        Sampler(order=TOKEN_ORDER, count="quota"),
        "the same number each step, most confident tokens first; or all above a threshold (LLaDA, Fast-dLLM)",
        ("steps", "confidence_threshold"),
    ),
    "llada-random": Preset(
        Sampler(count="quota"),
        "the same number each step, at random (LLaDA's random remasking)",
        ("steps",),
    ),
    "smdm-greedy": Preset(
        Sampler(order=TOKEN_ORDER, count="floor"),
        "the expected number each step, most confident tokens first (SMDM's greedy)",
        ("steps",),
    ),
    "top-k": Preset(
        Sampler(order="confidence", count="fixed", temperature=0.0),
        "the k most confident blanks a pass, likeliest tokens (Tiny Diffusion's topk)",
        ("k", "legacy"),
    ),
    "threshold": Preset(
        Sampler(order="confidence", count="threshold", temperature=0.0, confidence_threshold=0.9),
        "all blanks above a confidence, the best one at least, likeliest tokens (Tiny Diffusion's confidence)",
        ("confidence_threshold", "legacy"),
    ),
    "renoise": Preset(
        Sampler(remask="renoise"),
        "everything written is masked anew at each time's rate (Tiny Diffusion's MLX port)",
        ("steps", "schedule", "schedule_power"),
    ),
}


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ConfigError(f"unknown sampler '{name}'{nearest(str(name), PRESETS)}")
    return PRESETS[name]


def sampler(name: str, **settings: Any) -> Sampler:
    """The sampler of that name.

    Args:
        name: a preset.
        settings: those of `settings_of(name)` that differ from their defaults. `llada` with a
            `confidence_threshold` commits by it instead of by its quota, and then takes the passes that it needs.

    Raises:
        ConfigError: the sampler is unknown, has no such setting, or the value is impossible.
    """
    known = settings_of(name)
    for key in settings:
        require(key in known, f"sampler '{name}' has no setting '{key}'{nearest(key, known)}")
    values = to_mapping(_preset(name).sampler) | settings
    if settings.get("confidence_threshold") is not None:
        values["count"] = "threshold"
    return from_mapping(Sampler, values)


def settings_of(name: str) -> dict[str, Any]:
    """What can be set of a preset, and its defaults.

    Raises:
        ConfigError: the sampler is unknown.
    """
    preset = _preset(name)
    return {key: getattr(preset.sampler, key) for key in preset.settings + COMMON}


def descriptions() -> dict[str, str]:
    """The presets' names, and one line on each."""
    return {name: preset.description for name, preset in PRESETS.items()}
